//! What a column stores, and what becomes of it.
//!
//! Stream and snapshot convert by the same kinds, so that one row has one set of values.

use std::sync::Arc;

use crossdock_model::Value;
use crossdock_model::database::ZeroDates;

use super::charset::Charset;
use super::wire::Malformed;

/// How a column's cells are stored in row events, and what they mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// TINYINT to BIGINT; width in bytes.
    Int { width: u8, unsigned: bool },
    /// FLOAT.
    Float,
    /// DOUBLE.
    Double,
    /// DECIMAL(precision, scale).
    Decimal { precision: u8, scale: u8 },
    /// YEAR.
    Year,
    /// DATE.
    Date,
    /// TIME with fraction digits.
    Time { digits: u8 },
    /// DATETIME with fraction digits.
    Datetime { digits: u8 },
    /// TIMESTAMP with fraction digits.
    Timestamp { digits: u8 },
    /// TIME as servers before 5.6 stored it.
    OldTime,
    /// DATETIME as servers before 5.6 stored it.
    OldDatetime,
    /// TIMESTAMP as servers before 5.6 stored it.
    OldTimestamp,
    /// BIT(n).
    Bit { bits: u16 },
    /// CHAR, BINARY; greatest length in bytes.
    Char { bytes: u16, charset: Charset },
    /// VARCHAR, VARBINARY; greatest length in bytes.
    Varchar { bytes: u16, charset: Charset },
    /// TEXT, BLOB; width of the length before each value.
    Blob { prefix: u8, charset: Charset },
    /// ENUM, stored as a number from 1.
    Enum { width: u8, members: Arc<[String]> },
    /// SET, stored as a bitmap.
    Set { width: u8, members: Arc<[String]> },
    /// MySQL's binary JSON.
    BinaryJson { prefix: u8 },
    /// GEOMETRY: SRID and WKB.
    Geometry { prefix: u8 },
    /// MariaDB's UUID.
    Uuid,
    /// MariaDB's INET6 (16 bytes) and INET4 (4 bytes).
    Inet { bytes: u8 },
    /// A type that can't be decoded; the text says why.
    Unknown(&'static str),
}

/// How cells of a column become values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Codec {
    /// What is stored.
    pub(super) kind: Kind,
    /// Text that is declared to be JSON (MariaDB's `json_valid` constraint).
    pub(super) json: bool,
    /// The log has values as MariaDB's attribute COMPRESSED stores them.
    pub(super) compressed: bool,
    /// What becomes of dates that no calendar has; `Epoch` in columns that are NOT NULL only.
    pub(super) zero_dates: ZeroDates,
}

impl Codec {
    pub(super) fn new(kind: Kind, json: bool, nullable: bool, zero_dates: ZeroDates) -> Self {
        let zero_dates = match zero_dates {
            ZeroDates::Epoch if nullable => ZeroDates::Null,
            other => other,
        };
        Self { kind, json, compressed: false, zero_dates }
    }

    /// A date or time as it was decoded, where it is a text because no calendar has it.
    #[inline]
    pub(super) fn dated<'a>(&self, value: Value<'a>) -> Result<Value<'a>, Malformed> {
        if !matches!(value, Value::Text(_)) {
            return Ok(value);
        }
        match self.zero_dates {
            ZeroDates::Text => Ok(value),
            ZeroDates::Null => Ok(Value::Null),
            ZeroDates::Epoch => Ok(match self.kind {
                Kind::Date => Value::Date(0),
                Kind::Timestamp { .. } | Kind::OldTimestamp => Value::TimestampTz(0),
                _ => Value::Timestamp(0),
            }),
            ZeroDates::Error => Err(Malformed(
                "a date that no calendar has, which `zero_dates = \"error\"` refuses",
            )),
        }
    }
}

impl Kind {
    /// The character set of a text.
    pub(super) fn charset_mut(&mut self) -> Option<&mut Charset> {
        match self {
            Kind::Char { charset, .. }
            | Kind::Varchar { charset, .. }
            | Kind::Blob { charset, .. } => Some(charset),
            _ => None,
        }
    }

    /// Whether two kinds may describe one column: one from the log's table map, one from the
    /// catalog. Lengths are left out, because the catalog counts characters.
    pub(super) fn agrees(&self, other: &Kind) -> bool {
        use Kind::*;
        match (self, other) {
            (Int { width: a, .. }, Int { width: b, .. }) => a == b,
            (Decimal { precision: p, scale: s }, Decimal { precision: q, scale: t }) => {
                p == q && s == t
            }
            (Time { digits: a }, Time { digits: b })
            | (Datetime { digits: a }, Datetime { digits: b })
            | (Timestamp { digits: a }, Timestamp { digits: b }) => a == b,
            (OldTime, Time { .. })
            | (OldDatetime, Datetime { .. })
            | (OldTimestamp, Timestamp { .. }) => true,
            (Bit { bits: a }, Bit { bits: b }) => a == b,
            (Char { .. }, Uuid | Inet { .. }) => true,
            (_, Unknown(_)) | (Unknown(_), _) => true,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }

    /// The type's name, for a column that the catalog no longer knows.
    pub(super) fn name(&self) -> String {
        let int = |width: u8, unsigned: bool| {
            let name = match width {
                1 => "tinyint",
                2 => "smallint",
                3 => "mediumint",
                4 => "int",
                _ => "bigint",
            };
            if unsigned { format!("{name} unsigned") } else { name.to_string() }
        };
        let fraction = |name: &str, digits: u8| match digits {
            0 => name.to_string(),
            n => format!("{name}({n})"),
        };
        let of = |name: &str, members: &[String]| {
            let quoted: Vec<_> =
                members.iter().map(|m| format!("'{}'", m.replace('\'', "''"))).collect();
            format!("{name}({})", quoted.join(","))
        };
        match self {
            Kind::Int { width, unsigned } => int(*width, *unsigned),
            Kind::Float => "float".into(),
            Kind::Double => "double".into(),
            Kind::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            Kind::Year => "year(4)".into(),
            Kind::Date => "date".into(),
            Kind::Time { digits } => fraction("time", *digits),
            Kind::Datetime { digits } => fraction("datetime", *digits),
            Kind::Timestamp { digits } => fraction("timestamp", *digits),
            Kind::OldTime => "time".into(),
            Kind::OldDatetime => "datetime".into(),
            Kind::OldTimestamp => "timestamp".into(),
            Kind::Bit { bits } => format!("bit({bits})"),
            Kind::Char { bytes, charset: Charset::Binary } => format!("binary({bytes})"),
            Kind::Char { .. } => "char".into(),
            Kind::Varchar { bytes, charset: Charset::Binary } => format!("varbinary({bytes})"),
            Kind::Varchar { .. } => "varchar".into(),
            Kind::Blob { charset: Charset::Binary, .. } => "blob".into(),
            Kind::Blob { .. } => "text".into(),
            Kind::Enum { members, .. } => of("enum", members),
            Kind::Set { members, .. } => of("set", members),
            Kind::BinaryJson { .. } => "json".into(),
            Kind::Geometry { .. } => "geometry".into(),
            Kind::Uuid => "uuid".into(),
            Kind::Inet { bytes: 4 } => "inet4".into(),
            Kind::Inet { .. } => "inet6".into(),
            Kind::Unknown(why) => (*why).into(),
        }
    }
}

/// What information_schema says of a column's type.
pub(super) struct Declared<'a> {
    /// `data_type`: `varchar`.
    pub(super) data_type: &'a str,
    /// `column_type`: `varchar(20)`, `int(10) unsigned`, `enum('a','b')`.
    pub(super) column_type: &'a str,
    /// `character_set_name`.
    pub(super) charset: Option<&'a str>,
    /// `character_octet_length`.
    pub(super) octets: Option<u64>,
    /// `numeric_precision`.
    pub(super) precision: Option<u64>,
    /// `numeric_scale`.
    pub(super) scale: Option<u64>,
    /// `datetime_precision`.
    pub(super) digits: Option<u64>,
}

impl Declared<'_> {
    /// The kind that a declared type is stored as.
    pub(super) fn kind(&self) -> Kind {
        let unsigned = self.column_type.contains("unsigned");
        let int = |width| Kind::Int { width, unsigned };
        let small = |n: Option<u64>| u8::try_from(n.unwrap_or(0)).unwrap_or(0);
        let digits = small(self.digits);
        let charset = || self.charset.map_or(Charset::Binary, Charset::by_name);
        let bytes = u16::try_from(self.octets.unwrap_or(0)).unwrap_or(u16::MAX);
        match self.data_type {
            "tinyint" => int(1),
            "smallint" => int(2),
            "mediumint" => int(3),
            "int" | "integer" => int(4),
            "bigint" => int(8),
            "float" => Kind::Float,
            "double" => Kind::Double,
            "decimal" => {
                Kind::Decimal { precision: small(self.precision), scale: small(self.scale) }
            }
            "year" => Kind::Year,
            "date" => Kind::Date,
            "time" => Kind::Time { digits },
            "datetime" => Kind::Datetime { digits },
            "timestamp" => Kind::Timestamp { digits },
            "bit" => Kind::Bit { bits: u16::from(small(self.precision)) },
            "char" | "binary" => Kind::Char { bytes, charset: charset() },
            "varchar" | "varbinary" => Kind::Varchar { bytes, charset: charset() },
            "tinytext" | "tinyblob" => Kind::Blob { prefix: 1, charset: charset() },
            "text" | "blob" => Kind::Blob { prefix: 2, charset: charset() },
            "mediumtext" | "mediumblob" => Kind::Blob { prefix: 3, charset: charset() },
            "longtext" | "longblob" => Kind::Blob { prefix: 4, charset: charset() },
            "enum" => {
                let members = members(self.column_type);
                Kind::Enum { width: if members.len() > 255 { 2 } else { 1 }, members }
            }
            "set" => {
                let members = members(self.column_type);
                let width = match members.len() {
                    0..=8 => 1,
                    9..=16 => 2,
                    17..=24 => 3,
                    25..=32 => 4,
                    _ => 8,
                };
                Kind::Set { width, members }
            }
            "json" => Kind::BinaryJson { prefix: 4 },
            "vector" => Kind::Blob { prefix: 4, charset: Charset::Binary },
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geometrycollection" | "geomcollection" => {
                Kind::Geometry { prefix: 4 }
            }
            "uuid" => Kind::Uuid,
            "inet6" => Kind::Inet { bytes: 16 },
            "inet4" => Kind::Inet { bytes: 4 },
            _ => Kind::Unknown("a type that is not known"),
        }
    }
}

/// Members of `enum('a','it''s')` or `set(…)`.
pub(super) fn members(column_type: &str) -> Arc<[String]> {
    let Some((_, list)) = column_type.split_once('(') else { return [].into() };
    let mut members = Vec::new();
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\'' {
            continue;
        }
        let mut member = String::new();
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.peek() == Some(&'\'') => {
                    chars.next();
                    member.push('\'');
                }
                '\'' => break,
                c => member.push(c),
            }
        }
        members.push(member);
    }
    members.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_unquoted() {
        let expected = ["small", "it's, (ok)", ""].map(String::from);
        assert_eq!(*members("enum('small','it''s, (ok)','')"), expected);
        assert!(members("int").is_empty());
    }
}
