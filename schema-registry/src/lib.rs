//! Canonical subjects and versions of source schemas.
