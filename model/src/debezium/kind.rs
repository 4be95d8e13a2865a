//! What a column is to Debezium: its semantic type, from the database's own name of the type.

use std::borrow::Cow;

use crate::Column;
use crate::debezium::Connector;

/// A scale beyond this is none that a database declares.
const SCALE_MAX: i64 = 20_000;
/// Length of a bit string without a declared one.
const BITS_UNBOUNDED: i64 = i32::MAX as i64;

/// Semantic type of a column or of an array's elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int16,
    Int32,
    Int64,
    /// BIGINT UNSIGNED.
    BigUnsigned,
    Float32,
    Float64,
    /// `scale` is absent where each value has its own.
    Decimal {
        precision: Option<i64>,
        scale: Option<i64>,
    },
    Money,
    Text,
    /// Padded with zeros to this length where it is fixed.
    Bytes {
        pad: usize,
    },
    Uuid,
    Json,
    Xml,
    Hstore,
    Ltree,
    Tsvector,
    /// Labels with commas between.
    Enum(String),
    EnumSet(String),
    Date,
    Year,
    /// Declared decimals of a second, here and below.
    Time(i64),
    TimeTz,
    Timestamp(i64),
    TimestampTz(i64),
    Interval,
    /// Declared length.
    Bits(i64),
    Point,
    Geometry,
    /// Of PostGIS, on a sphere.
    Geography,
    /// pgvector's `vector`.
    DoubleVector,
    /// pgvector's `halfvec`.
    FloatVector,
    /// pgvector's `sparsevec`.
    SparseVector,
    Array(Box<Kind>),
}

/// A type's name without schema and modifiers, and these: `numeric(12,3)` is `numeric` and 12, 3.
struct TypeName<'t> {
    base: String,
    inner: &'t str,
    numbers: [Option<i64>; 2],
    unsigned: bool,
    array: bool,
}

impl<'t> TypeName<'t> {
    fn parse(text: &'t str) -> Self {
        let array = text.ends_with("[]");
        let text = text.trim_end_matches("[]");
        let (before, inner, after) = match text.split_once('(') {
            None => (text, "", ""),
            // Labels of an enum may hold parentheses.
            Some((before, rest)) => match rest.rsplit_once(')') {
                Some((inner, after)) => (before, inner, after),
                None => (before, rest, ""),
            },
        };
        let mut modifiers = inner.split(',').map(|n| n.trim().parse().ok());
        let numbers = [modifiers.next().flatten(), modifiers.next().flatten()];
        let lower = before.to_ascii_lowercase();
        let name = lower.rsplit('.').next().unwrap_or("").trim();
        let unsigned = name.contains(" unsigned") || after.contains("unsigned");
        // What stands behind the modifiers belongs to the name: `time(3) with time zone`.
        let mut base = name.replace(" unsigned", "").replace(" zerofill", "");
        if after.contains("with time zone") {
            base.push_str(" with time zone");
        }
        Self { base, inner, numbers, unsigned, array }
    }
}

impl Kind {
    /// The kind of a column.
    pub fn of(column: &Column, connector: Connector) -> Self {
        let name = column.base_type.as_ref().unwrap_or(&column.type_name);
        Self::of_type(name, connector)
    }

    /// The kind of a type by its name.
    pub fn of_type(name: &str, connector: Connector) -> Self {
        let parsed = TypeName::parse(name);
        let kind = match connector {
            Connector::Postgres => postgres(&parsed),
            Connector::Mysql | Connector::Mariadb => mysql(&parsed, connector),
        };
        if parsed.array { Kind::Array(Box::new(kind)) } else { kind }
    }
}

fn postgres(name: &TypeName<'_>) -> Kind {
    let [first, second] = name.numbers;
    let digits = first.unwrap_or(6);
    match name.base.as_str() {
        "boolean" => Kind::Bool,
        "smallint" => Kind::Int16,
        "integer" => Kind::Int32,
        "bigint" | "oid" => Kind::Int64,
        "real" => Kind::Float32,
        "double precision" => Kind::Float64,
        "numeric" => decimal(first, first.map(|_| second.unwrap_or(0))),
        "money" => Kind::Money,
        "bytea" => Kind::Bytes { pad: 0 },
        "uuid" => Kind::Uuid,
        "json" | "jsonb" => Kind::Json,
        "xml" => Kind::Xml,
        "hstore" => Kind::Hstore,
        "ltree" => Kind::Ltree,
        "tsvector" => Kind::Tsvector,
        "enum" => Kind::Enum(labels(name.inner)),
        "date" => Kind::Date,
        "time with time zone" => Kind::TimeTz,
        "timestamp with time zone" => Kind::TimestampTz(6),
        time if time.starts_with("timestamp") => Kind::Timestamp(digits),
        time if time.starts_with("time") => Kind::Time(digits),
        "point" => Kind::Point,
        "geometry" => Kind::Geometry,
        "geography" => Kind::Geography,
        "vector" => Kind::DoubleVector,
        "halfvec" => Kind::FloatVector,
        "sparsevec" => Kind::SparseVector,
        "bit" if first.unwrap_or(1) == 1 => Kind::Bool,
        "bit" => Kind::Bits(first.unwrap_or(1)),
        "bit varying" => Kind::Bits(first.unwrap_or(BITS_UNBOUNDED)),
        interval if interval.starts_with("interval") => Kind::Interval,
        _ => Kind::Text,
    }
}

fn mysql(name: &TypeName<'_>, connector: Connector) -> Kind {
    let [first, second] = name.numbers;
    let digits = first.unwrap_or(0);
    match (name.base.as_str(), name.unsigned) {
        ("tinyint", _) | ("smallint", false) => Kind::Int16,
        ("smallint", true) | ("mediumint", _) | ("int", false) => Kind::Int32,
        ("int", true) | ("bigint", false) => Kind::Int64,
        ("bigint", true) => Kind::BigUnsigned,
        ("float", _) if second.is_none() && first.is_none_or(|bits| bits <= 23) => Kind::Float32,
        ("float" | "double" | "real", _) => Kind::Float64,
        ("decimal", _) => decimal(Some(first.unwrap_or(10)), Some(second.unwrap_or(0))),
        ("bit", _) if first.unwrap_or(1) == 1 => Kind::Bool,
        ("bit", _) => Kind::Bits(first.unwrap_or(1)),
        ("binary", _) => Kind::Bytes { pad: usize::try_from(digits.clamp(1, 255)).unwrap_or(1) },
        ("varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob", _) => {
            Kind::Bytes { pad: 0 }
        }
        ("enum", _) => Kind::Enum(labels(name.inner)),
        ("set", _) => Kind::EnumSet(labels(name.inner)),
        ("date", _) => Kind::Date,
        ("time", _) => Kind::Time(digits),
        ("datetime", _) => Kind::Timestamp(digits),
        ("timestamp", _) => Kind::TimestampTz(digits),
        ("year", _) => Kind::Year,
        ("json", _) => Kind::Json,
        ("uuid", _) if connector == Connector::Mariadb => Kind::Uuid,
        ("point", _) => Kind::Point,
        (
            "geometry" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geometrycollection" | "geomcollection",
            _,
        ) => Kind::Geometry,
        _ => Kind::Text,
    }
}

fn decimal(precision: Option<i64>, scale: Option<i64>) -> Kind {
    Kind::Decimal { precision, scale: scale.filter(|scale| scale.abs() <= SCALE_MAX) }
}

/// `'a','it''s'` becomes `a,it's`.
fn labels(quoted: &str) -> String {
    let mut out = String::with_capacity(quoted.len());
    let mut within = false;
    let mut letters = quoted.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' if within && letters.peek() == Some(&'\'') => {
                letters.next();
                out.push('\'');
            }
            '\'' => within = !within,
            other if within => out.push(other),
            ',' => out.push(','),
            _ => {}
        }
    }
    out
}

/// The constant in a default: `'it''s'::text` is `it's`, `1.25` is itself. `None` for an
/// expression.
pub(super) fn constant(expression: &str) -> Option<Cow<'_, str>> {
    let text = expression.trim();
    let text = text.strip_prefix('(').map_or(text, |rest| rest.split(')').next().unwrap_or(rest));
    if let Some(quoted) = text.strip_prefix('\'') {
        let end = closing_quote(quoted)?;
        let (inner, rest) = quoted.split_at(end);
        let cast = rest.strip_prefix('\'')?;
        let of_name = |c: char| c.is_alphanumeric() || " _.(),[]\"".contains(c);
        let plain =
            cast.is_empty() || cast.strip_prefix("::").is_some_and(|t| t.chars().all(of_name));
        return (plain && !inner.contains('\\')).then(|| inner.replace("''", "'").into());
    }
    let literal = text.split("::").next().unwrap_or(text).trim();
    let number = !literal.is_empty()
        && literal.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'));
    (number || matches!(literal, "true" | "false")).then_some(Cow::Borrowed(literal))
}

fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1)) {
            (b'\'', Some(b'\'')) => at += 2,
            (b'\'', _) => return Some(at),
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types() {
        let decimal = |p, s| Kind::Decimal { precision: p, scale: s };
        for (name, kind) in [
            ("numeric", decimal(None, None)),
            ("numeric(18,4)", decimal(Some(18), Some(4))),
            ("numeric(5,-2)", decimal(Some(5), Some(-2))),
            ("time(3) without time zone", Kind::Time(3)),
            ("time without time zone", Kind::Time(6)),
            ("time(0) with time zone", Kind::TimeTz),
            ("timestamp(0) with time zone", Kind::TimestampTz(6)),
            ("timestamp(3) without time zone", Kind::Timestamp(3)),
            ("public.hstore", Kind::Hstore),
            ("interval(3)", Kind::Interval),
            ("bit(1)", Kind::Bool),
            ("bit varying(20)", Kind::Bits(20)),
            ("enum('a)','it''s','x,y')[]", Kind::Array(Kind::Enum("a),it's,x,y".into()).into())),
            ("public.addr", Kind::Text),
        ] {
            assert_eq!(Kind::of_type(name, Connector::Postgres), kind, "{name}");
        }
        for (name, kind) in [
            ("int(8) unsigned zerofill", Kind::Int64),
            ("bigint(20) unsigned", Kind::BigUnsigned),
            ("bigint unsigned", Kind::BigUnsigned),
            ("float(10,3)", Kind::Float64),
            ("float", Kind::Float32),
            ("decimal(10,2) unsigned", decimal(Some(10), Some(2))),
            ("binary(4)", Kind::Bytes { pad: 4 }),
            ("timestamp(3)", Kind::TimestampTz(3)),
            ("datetime", Kind::Timestamp(0)),
            ("set('a','b')", Kind::EnumSet("a,b".into())),
        ] {
            assert_eq!(Kind::of_type(name, Connector::Mariadb), kind, "{name}");
        }
    }

    #[test]
    fn defaults_that_are_constants() {
        for (expression, text) in [
            ("'dflt'::text", Some("dflt")),
            ("'it''s'::character varying", Some("it's")),
            ("'x'::character varying(20)", Some("x")),
            ("1.25", Some("1.25")),
            ("(-5)", Some("-5")),
            ("'-5'::integer", Some("-5")),
            ("true", Some("true")),
            ("nextval('s'::regclass)", None),
            ("now()", None),
            ("'a' || 'b'", None),
            ("'open", None),
            ("", None),
        ] {
            assert_eq!(constant(expression).as_deref(), text, "{expression}");
        }
    }
}
