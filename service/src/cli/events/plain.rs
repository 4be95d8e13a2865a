//! One event as a plain JSON object: canonical values, nothing left out, nothing made up.

use crossdock_model::{ChangeEvent, RowImage, TableSchema, TxHeader, time};
use serde_json::{Map, Value as Json, json};

/// A line. `seq` is the number of the journal block.
pub fn line(source: &str, seq: u64, header: &TxHeader, event: &ChangeEvent) -> Json {
    let mut line = json!({
        "source": source,
        "block": seq,
        "position": header.commit.to_string(),
        "transaction": header.id,
        "ordinal": event.ordinal,
        "committed": time::instant_text(header.commit_micros),
        "op": event.op.letter(),
    });
    let Json::Object(fields) = &mut line else { return line };
    if let Some(origin) = &header.origin {
        fields.insert("origin".into(), origin.as_str().into());
    }
    if let Some((prefix, content)) = &event.message {
        let content = String::from_utf8_lossy(content).into_owned();
        fields.insert("message".into(), json!({"prefix": prefix, "content": content}));
    }
    let Some(table) = &event.table else { return line };
    fields.insert("table".into(), table.name.to_string().into());
    for (name, image) in [("before", &event.before), ("after", &event.after)] {
        if let Some(image) = image {
            fields.insert(name.into(), row(table, image));
        }
    }
    if let Some(RowImage::Partial(cells)) = &event.after {
        let missing = table.columns.iter().zip(cells).filter(|(_, cell)| cell.is_none());
        let names = missing.map(|(column, _)| Json::from(&*column.name));
        fields.insert("unchanged".into(), names.collect());
    }
    line
}

/// The columns that the log carried.
fn row(table: &TableSchema, image: &RowImage<'_>) -> Json {
    let mut row = Map::new();
    for (at, column) in table.columns.iter().enumerate() {
        if let Some(value) = image.get(at) {
            row.insert(column.name.to_string(), value.to_json());
        }
    }
    Json::Object(row)
}
