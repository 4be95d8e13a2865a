//! Whole-system suites: end to end, crash, configuration errors, architecture.
