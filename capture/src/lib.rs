//! Source logs become transactions.
