//! Canonical store and targets, each with its progress in its own transaction.
