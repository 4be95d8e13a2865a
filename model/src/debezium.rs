//! Debezium's records, written; its change event envelope, read. For consumers and producers that
//! speak it.
//!
//! [`Encoder`] makes records of a source's events, [`Unwrap`] and [`OutboxRouter`] change them as
//! Debezium's transformations of that name do. The handling modes are in [`Options`]. Where this
//! is on purpose not what Debezium writes, `docs/debezium.md` says so and why.

mod options;

mod record;
mod source;

mod outbox;
mod unwrap;

mod clock;
mod geometry;
mod hstore;
mod kind;
mod schema;
mod value;
mod vector;

mod envelope;
#[cfg(test)]
mod tests;

pub use envelope::{Envelope, EnvelopeError, Message, Source, TransactionBlock};
pub use options::{
    BigintUnsignedMode, BinaryMode, DecimalMode, HstoreMode, IntervalMode, Options, TimeMode,
};
pub use outbox::{
    OutboxOptions, OutboxRouter, Placement, PlacementError, Routed, TopicError, TopicRule,
};
pub use record::{Encoder, Record};
pub use source::{Connector, SourceInfo};
pub use unwrap::{DeleteHandling, Unwrap};

/// What stands for a text that the log did not carry because it had not changed.
pub const UNAVAILABLE: &str = "__debezium_unavailable_value";
