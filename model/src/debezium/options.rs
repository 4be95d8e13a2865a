//! What may be chosen of the envelope, by Debezium's names.

use crate::debezium::Connector;

/// How events are written; the defaults are Debezium's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `decimal.handling.mode`.
    pub decimal: DecimalMode,
    /// `time.precision.mode`.
    pub time: TimeMode,
    /// `binary.handling.mode`.
    pub binary: BinaryMode,
    /// `interval.handling.mode`.
    pub interval: IntervalMode,
    /// `hstore.handling.mode`.
    pub hstore: HstoreMode,
    /// `bigint.unsigned.handling.mode`.
    pub bigint_unsigned: BigintUnsignedMode,
    /// Keys and values carry their schema (`schemas.enable` of the JSON converter).
    pub schemas: bool,
    /// `provide.transaction.metadata`.
    pub transaction_metadata: bool,
    /// `tombstones.on.delete`.
    pub tombstones: bool,
    /// `skipped.operations`: letters of [`Op::letter`](crate::Op::letter).
    pub skipped: Vec<char>,
}

impl Options {
    /// Debezium's defaults for a kind of database.
    pub fn new(connector: Connector) -> Self {
        Self {
            decimal: DecimalMode::Precise,
            time: match connector {
                Connector::Postgres => TimeMode::Adaptive,
                Connector::Mysql | Connector::Mariadb => TimeMode::AdaptiveTimeMicroseconds,
            },
            binary: BinaryMode::Bytes,
            interval: IntervalMode::Numeric,
            hstore: HstoreMode::Json,
            bigint_unsigned: BigintUnsignedMode::Long,
            schemas: false,
            transaction_metadata: false,
            tombstones: true,
            skipped: vec!['t'],
        }
    }
}

/// How exact decimals are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalMode {
    /// The unscaled integer as bytes.
    Precise,
    /// A 64-bit float.
    Double,
    /// Text in plain notation.
    String,
}

/// How dates and times are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeMode {
    /// Milliseconds up to three declared decimals of a second, microseconds beyond.
    Adaptive,
    /// The same, but time of day always in microseconds.
    AdaptiveTimeMicroseconds,
    /// Kafka Connect's own types: milliseconds.
    Connect,
    /// ISO 8601 texts.
    Isostring,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    Nanoseconds,
}

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryMode {
    /// As bytes, which JSON carries in base64.
    Bytes,
    /// As text in base64.
    Base64,
    /// As text in base64 for URLs.
    Base64UrlSafe,
    /// As hexadecimal text.
    Hex,
}

/// How intervals are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalMode {
    /// Microseconds; a month counts a twelfth of 365.25 days.
    Numeric,
    /// ISO 8601, exact.
    String,
}

/// How hstore values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HstoreMode {
    /// Text of a JSON object.
    Json,
    /// An object.
    Map,
}

/// How BIGINT UNSIGNED is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BigintUnsignedMode {
    /// A 64-bit integer.
    Long,
    /// A decimal.
    Precise,
}
