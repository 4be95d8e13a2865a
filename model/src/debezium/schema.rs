//! Schemas in the JSON of Kafka Connect's converter, field by field in its order.

use serde_json::{Map, Value as Json, json};

use crate::debezium::kind::Kind;
use crate::debezium::options::{
    BigintUnsignedMode, BinaryMode, DecimalMode, HstoreMode, IntervalMode, Options, TimeMode,
};
use crate::debezium::{Connector, value};

/// A schema that has still to be told whether it is optional, and which field it is.
pub(super) struct Schema {
    kind: &'static str,
    /// `items` of an array; `keys` and `values` of a map; `fields` of a struct.
    inner: Vec<(&'static str, Json)>,
    name: Option<String>,
    version: Option<u32>,
    doc: Option<&'static str>,
    parameters: Vec<(&'static str, String)>,
    default: Option<Json>,
}

impl Schema {
    fn plain(kind: &'static str) -> Self {
        Self {
            kind,
            inner: Vec::new(),
            name: None,
            version: None,
            doc: None,
            parameters: Vec::new(),
            default: None,
        }
    }

    fn named(kind: &'static str, name: &str) -> Self {
        Self { name: Some(name.to_string()), version: Some(1), ..Self::plain(kind) }
    }

    fn with(mut self, parameter: &'static str, value: impl ToString) -> Self {
        self.parameters.push((parameter, value.to_string()));
        self
    }

    fn fields(mut self, fields: Vec<Json>) -> Self {
        self.inner.push(("fields", Json::Array(fields)));
        self
    }

    /// The schema as JSON.
    fn json(self, optional: bool, field: Option<&str>) -> Json {
        let mut out = Map::new();
        let mut put = |key: &str, json: Json| drop(out.insert(key.to_string(), json));
        put("type", self.kind.into());
        for (key, json) in self.inner {
            put(key, json);
        }
        put("optional", optional.into());
        if let Some(name) = self.name {
            put("name", name.into());
        }
        if let Some(version) = self.version {
            put("version", version.into());
        }
        if let Some(doc) = self.doc {
            put("doc", doc.into());
        }
        if !self.parameters.is_empty() {
            let parameters = self.parameters.into_iter().map(|(k, v)| (k.to_string(), v.into()));
            put("parameters", Json::Object(parameters.collect()));
        }
        if let Some(default) = self.default {
            put("default", default);
        }
        if let Some(field) = field {
            put("field", field.into());
        }
        Json::Object(out)
    }
}

/// A field of a plain type.
fn field(kind: &'static str, name: &str, optional: bool) -> Json {
    Schema::plain(kind).json(optional, Some(name))
}

fn decimal(precision: Option<i64>, scale: i64) -> Schema {
    let schema = Schema::named("bytes", "org.apache.kafka.connect.data.Decimal");
    let schema = schema.with("scale", scale);
    match precision {
        Some(precision) => schema.with("connect.decimal.precision", precision),
        None => schema,
    }
}

fn variable_decimal() -> Schema {
    let mut schema = Schema::named("struct", "io.debezium.data.VariableScaleDecimal");
    schema.doc = Some("Variable scaled decimal");
    schema.fields(vec![field("int32", "scale", false), field("bytes", "value", false)])
}

fn point() -> Schema {
    let mut schema = Schema::named("struct", "io.debezium.data.geometry.Point");
    schema.doc = Some("Geometry (POINT)");
    schema.fields(vec![
        field("double", "x", false),
        field("double", "y", false),
        field("bytes", "wkb", true),
        field("int32", "srid", true),
    ])
}

fn shape(name: &'static str) -> Schema {
    let mut schema = Schema::named("struct", &format!("io.debezium.data.geometry.{name}"));
    schema.doc = Some(name);
    schema.fields(vec![field("bytes", "wkb", false), field("int32", "srid", true)])
}

/// Vectors as pgvector's are; elements never are null.
fn vector(name: &str, element: &'static str) -> Schema {
    let mut schema = Schema::named("array", &format!("io.debezium.data.{name}"));
    schema.inner.push(("items", Schema::plain(element).json(false, None)));
    schema
}

fn sparse_vector() -> Schema {
    let mut schema = Schema::named("struct", "io.debezium.data.SparseVector");
    schema.doc = Some("Sparse vector");
    let mut elements = Schema::plain("map");
    elements.inner.push(("keys", Schema::plain("int16").json(false, None)));
    elements.inner.push(("values", Schema::plain("double").json(false, None)));
    schema.fields(vec![field("int16", "dimensions", false), elements.json(false, Some("vector"))])
}

fn hstore_map() -> Schema {
    let mut schema = Schema::plain("map");
    schema.inner.push(("keys", Schema::plain("string").json(false, None)));
    schema.inner.push(("values", Schema::plain("string").json(true, None)));
    schema
}

/// The schema of a value of this kind.
pub(super) fn of_kind(kind: &Kind, options: &Options) -> Schema {
    let data = |name: &str| Schema::named("string", &format!("io.debezium.data.{name}"));
    match kind {
        Kind::Bool => Schema::plain("boolean"),
        Kind::Int16 => Schema::plain("int16"),
        Kind::Int32 => Schema::plain("int32"),
        Kind::Int64 => Schema::plain("int64"),
        Kind::BigUnsigned => match options.bigint_unsigned {
            BigintUnsignedMode::Long => Schema::plain("int64"),
            BigintUnsignedMode::Precise => decimal(None, 0),
        },
        Kind::Float32 => Schema::plain("float"),
        Kind::Float64 => Schema::plain("double"),
        Kind::Decimal { .. } | Kind::Money => match (options.decimal, kind) {
            (DecimalMode::Double, _) => Schema::plain("double"),
            (DecimalMode::String, _) => Schema::plain("string"),
            (_, Kind::Decimal { precision, scale: Some(scale) }) => decimal(*precision, *scale),
            (_, Kind::Money) => decimal(None, value::MONEY_SCALE),
            _ => variable_decimal(),
        },
        Kind::Text => Schema::plain("string"),
        Kind::Bytes { .. } => match options.binary {
            BinaryMode::Bytes => Schema::plain("bytes"),
            _ => Schema::plain("string"),
        },
        Kind::Uuid => data("Uuid"),
        Kind::Json => data("Json"),
        Kind::Xml => data("Xml"),
        Kind::Hstore => match options.hstore {
            HstoreMode::Json => data("Json"),
            HstoreMode::Map => hstore_map(),
        },
        Kind::Ltree => data("Ltree"),
        Kind::Tsvector => data("Tsvector"),
        Kind::Enum(labels) => data("Enum").with("allowed", labels),
        Kind::EnumSet(labels) => data("EnumSet").with("allowed", labels),
        Kind::Year => Schema::named("int32", "io.debezium.time.Year"),
        Kind::TimeTz => Schema::named("string", "io.debezium.time.ZonedTime"),
        Kind::TimestampTz(_) => Schema::named("string", "io.debezium.time.ZonedTimestamp"),
        Kind::Interval => match options.interval {
            IntervalMode::Numeric => Schema::named("int64", "io.debezium.time.MicroDuration"),
            IntervalMode::String => Schema::named("string", "io.debezium.time.Interval"),
        },
        Kind::Date | Kind::Time(_) | Kind::Timestamp(_) => temporal(kind, options.time),
        Kind::Bits(length) => {
            Schema::named("bytes", "io.debezium.data.Bits").with("length", length)
        }
        Kind::Point => point(),
        Kind::Geometry => shape("Geometry"),
        Kind::Geography => shape("Geography"),
        Kind::DoubleVector => vector("DoubleVector", "double"),
        Kind::FloatVector => vector("FloatVector", "float"),
        Kind::SparseVector => sparse_vector(),
        Kind::Array(element) => {
            // Debezium says of an enum's elements that they are never null.
            let optional = !matches!(**element, Kind::Enum(_));
            let mut schema = Schema::plain("array");
            schema.inner.push(("items", of_kind(element, options).json(optional, None)));
            schema
        }
    }
}

fn temporal(kind: &Kind, mode: TimeMode) -> Schema {
    let connect =
        |kind, name: &str| Schema::named(kind, &format!("org.apache.kafka.connect.data.{name}"));
    let own = |kind, name: &str| Schema::named(kind, &format!("io.debezium.time.{name}"));
    let unit = value::Unit::of(kind, mode);
    match (kind, mode, unit) {
        (Kind::Date, TimeMode::Connect, _) => connect("int32", "Date"),
        (Kind::Date, TimeMode::Isostring, _) => own("string", "IsoDate"),
        (Kind::Date, ..) => own("int32", "Date"),
        (Kind::Time(_), TimeMode::Connect, _) => connect("int32", "Time"),
        (Kind::Time(_), TimeMode::Isostring, _) => own("string", "IsoTime"),
        (Kind::Time(_), _, value::Unit::Milli) => own("int32", "Time"),
        (Kind::Time(_), _, value::Unit::Micro) => own("int64", "MicroTime"),
        (Kind::Time(_), _, value::Unit::Nano) => own("int64", "NanoTime"),
        (_, TimeMode::Connect, _) => connect("int64", "Timestamp"),
        (_, TimeMode::Isostring, _) => own("string", "IsoTimestamp"),
        (_, _, value::Unit::Milli) => own("int64", "Timestamp"),
        (_, _, value::Unit::Micro) => own("int64", "MicroTimestamp"),
        (_, _, value::Unit::Nano) => own("int64", "NanoTimestamp"),
    }
}

/// A column as a field of a row or of a key.
pub(super) fn column(
    name: &str,
    kind: &Kind,
    options: &Options,
    optional: bool,
    default: Option<Json>,
) -> Json {
    let mut schema = of_kind(kind, options);
    schema.default = default;
    schema.json(optional, Some(name))
}

/// `TOPIC.Key`.
pub(super) fn key(topic: &str, fields: Vec<Json>) -> Json {
    let mut schema = Schema::plain("struct").fields(fields);
    schema.name = Some(format!("{topic}.Key"));
    schema.json(false, None)
}

/// `TOPIC.Envelope` around rows with these fields.
pub(super) fn envelope(topic: &str, row: &[Json], connector: Connector) -> Json {
    let image = |name| {
        let mut schema = Schema::plain("struct").fields(row.to_vec());
        schema.name = Some(format!("{topic}.Value"));
        schema.json(true, Some(name))
    };
    let fields = vec![
        image("before"),
        image("after"),
        source(connector),
        transaction_block(),
        field("string", "op", false),
        field("int64", "ts_ms", true),
        field("int64", "ts_us", true),
        field("int64", "ts_ns", true),
    ];
    let mut schema = Schema::plain("struct").fields(fields);
    schema.name = Some(format!("{topic}.Envelope"));
    schema.version = Some(2);
    schema.json(false, None)
}

fn source(connector: Connector) -> Json {
    let states = "true,first,first_in_data_collection,last_in_data_collection,last,false,\
                  incremental";
    let mut snapshot = Schema::named("string", "io.debezium.data.Enum").with("allowed", states);
    snapshot.default = Some("false".into());
    let mut fields = vec![
        field("string", "version", false),
        field("string", "connector", false),
        field("string", "name", false),
        field("int64", "ts_ms", false),
        snapshot.json(true, Some("snapshot")),
        field("string", "db", false),
        field("string", "sequence", true),
        field("int64", "ts_us", true),
        field("int64", "ts_ns", true),
    ];
    let own: &[(&'static str, &str, bool)] = match connector {
        Connector::Postgres => &[
            ("string", "schema", false),
            ("string", "table", false),
            ("int64", "txId", true),
            ("int64", "lsn", true),
            ("int64", "xmin", true),
            ("string", "origin", true),
            ("int64", "origin_lsn", true),
        ],
        Connector::Mysql | Connector::Mariadb => &[
            ("string", "table", true),
            ("int64", "server_id", false),
            ("string", "gtid", true),
            ("string", "file", false),
            ("int64", "pos", false),
            ("int32", "row", false),
            ("int64", "thread", true),
            ("string", "query", true),
        ],
    };
    fields.extend(own.iter().map(|(kind, name, optional)| field(kind, name, *optional)));
    let name = format!("io.debezium.connector.{}.Source", connector.name());
    Schema::named("struct", &name).fields(fields).json(false, Some("source"))
}

fn transaction_block() -> Json {
    let fields = vec![
        field("string", "id", false),
        field("int64", "total_order", false),
        field("int64", "data_collection_order", false),
    ];
    Schema::named("struct", "event.block").fields(fields).json(true, Some("transaction"))
}

/// Key and value of a logical message.
pub(super) fn message(options: &Options) -> [Json; 2] {
    let name = |name: &str| format!("io.debezium.connector.postgresql.{name}");
    let prefix = field("string", "prefix", true);
    let key = Schema::named("struct", &name("MessageKey")).fields(vec![prefix.clone()]);
    let content = column("content", &Kind::Bytes { pad: 0 }, options, true, None);
    let message = Schema::named("struct", &name("Message")).fields(vec![prefix, content]);
    let value = Schema::named("struct", &name("MessageValue")).fields(vec![
        field("string", "op", false),
        field("int64", "ts_ms", true),
        source(Connector::Postgres),
        transaction_block(),
        message.json(false, Some("message")),
    ]);
    [key.json(false, None), value.json(false, None)]
}

/// Key and value of a transaction's begin and end.
pub(super) fn transaction() -> [Json; 2] {
    let name = |name: &str| format!("io.debezium.connector.common.{name}");
    let id = field("string", "id", false);
    let key = Schema::named("struct", &name("TransactionMetadataKey")).fields(vec![id.clone()]);
    let counts = Schema::named("struct", "event.collection").fields(vec![
        field("string", "data_collection", false),
        field("int64", "event_count", false),
    ]);
    let mut collections = Schema::plain("array");
    collections.inner.push(("items", counts.json(true, None)));
    let value = Schema::named("struct", &name("TransactionMetadataValue")).fields(vec![
        field("string", "status", false),
        id,
        field("int64", "event_count", true),
        collections.json(true, Some("data_collections")),
        field("int64", "ts_ms", false),
    ]);
    [key.json(false, None), value.json(false, None)]
}

/// A text, as headers are.
pub(super) fn text() -> Json {
    Schema::plain("string").json(false, None)
}

/// `{"schema": …, "payload": …}`.
pub(super) fn with_schema(schema: &Json, payload: Json) -> Json {
    json!({"schema": schema, "payload": payload})
}
