//! The vocabulary of Crossdock: values, rows, change events, positions, marks and canonical records.
