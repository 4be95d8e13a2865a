//! `[[test]]`: what rules must come to, written beside them.

use crossdock_model::Value;
use crossdock_model::canonical::Name;

use crate::document::{Item, Section};
use crate::problems::Spot;

/// One `[[test]]` block.
#[derive(Debug)]
pub(crate) struct Trial {
    /// Name.
    pub name: Name,
    /// Where it stands.
    pub spot: Spot,
    /// Records that are there before.
    pub given: Vec<Given>,
    /// What happens.
    pub acts: Vec<Act>,
    /// What time it is in the end, microseconds since the Unix epoch; `None` for long after.
    pub now_micros: Option<i64>,
    /// What must have come of it.
    pub expect: Vec<Expected>,
}

/// A record that is there before.
#[derive(Debug)]
pub(crate) struct Given {
    /// Entity.
    pub entity: String,
    /// Key, as in the store or without its prefix.
    pub key: String,
    /// Fields, as their owners have them.
    pub state: Vec<(Name, Value<'static>)>,
}

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Act {
    /// A source sets fields of the first given record, in its own tables.
    Set {
        /// Source.
        from: String,
        /// Fields.
        set: Vec<(Name, Value<'static>)>,
    },
    /// A row of a source changes.
    Row {
        /// `SOURCE.TABLE`.
        from: String,
        /// `c`, `u`, `d` or `r`.
        op: char,
        /// Columns that were different before.
        before: Vec<(Name, Value<'static>)>,
        /// Columns after it; of a delete, its key.
        after: Vec<(Name, Value<'static>)>,
        /// Columns of the primary key; empty for `id`.
        key: Vec<String>,
        /// Commit time, microseconds since the Unix epoch.
        at_micros: Option<i64>,
    },
}

/// One thing that must have come of it.
#[derive(Debug)]
pub(crate) enum Expected {
    /// Of the fields that were set, exactly these have been taken.
    Applied(Vec<String>),
    /// Exactly these are written back.
    Reverted(Vec<String>),
    /// Exactly these are withheld.
    Withheld(Vec<String>),
    /// This exception was raised; empty for none at all.
    Exception(String),
    /// Exactly these releases have been let go.
    Released(Vec<String>),
    /// Exactly these releases are held.
    Held(Vec<String>),
    /// A field (`FIELD` or `ENTITY.FIELD`) has a value; the empty text for none.
    Field(String, Value<'static>),
}

/// Reads the `[[test]]` blocks of a rule file.
pub(crate) fn read(root: &Section<'_>) -> Vec<Trial> {
    root.tables("test").iter().filter_map(read_block).collect()
}

fn read_block(block: &Section<'_>) -> Option<Trial> {
    let name = block.required("name");
    let given = blocks(block, "given").iter().filter_map(read_given).collect();
    let sets = blocks(block, "change");
    let mut acts: Vec<Act> = sets.iter().filter_map(read_set).collect();
    acts.extend(blocks(block, "events").iter().filter_map(read_row));
    let now_micros = block.get("now").and_then(|i| instant(&i));
    let expect = block.table("expect").map(|s| read_expect(&s)).unwrap_or_default();
    block.done();
    let report = block.report();
    if acts.is_empty() {
        let remedy = "add change = { from = ..., set = ... } or events = [...]";
        report.at(&block.spot(), "nothing happens in this test", remedy);
    }
    if expect.is_empty() {
        let remedy = "add expect = { FIELD = \"VALUE\" }";
        report.at(&block.spot(), "this test expects nothing", remedy);
    }
    Some(Trial { name: name?.into(), spot: block.spot(), given, acts, now_micros, expect })
}

/// One table or a list of them.
fn blocks<'a>(block: &Section<'a>, key: &str) -> Vec<Section<'a>> {
    match block.get(key) {
        Some(item) if item.is_array() => item.array().iter().filter_map(Item::table).collect(),
        Some(item) => item.table().into_iter().collect(),
        None => Vec::new(),
    }
}

fn read_given(s: &Section<'_>) -> Option<Given> {
    let (entity, key) = (s.required("entity"), s.required("key"));
    let state = values(s, "state");
    s.done();
    Some(Given { entity: entity?.to_string(), key: key?.to_string(), state })
}

fn read_set(s: &Section<'_>) -> Option<Act> {
    let from = s.required("from");
    let set = values(s, "set");
    s.done();
    Some(Act::Set { from: from?.to_string(), set })
}

fn read_row(s: &Section<'_>) -> Option<Act> {
    let from = s.required("from");
    let op = s.text("op").unwrap_or("c");
    if !["c", "u", "d", "r"].contains(&op) {
        s.report().at(&s.spot(), format!("`op` cannot be `{op}`"), "c, u, d or r");
    }
    let (before, after) = (values(s, "before"), values(s, "after"));
    let key = s.get("key").map(|i| i.texts()).unwrap_or_default();
    let at_micros = s.get("at").and_then(|i| instant(&i));
    s.done();
    let key = key.into_iter().map(str::to_string).collect();
    let op = op.chars().next()?;
    Some(Act::Row { from: from?.to_string(), op, before, after, key, at_micros })
}

fn read_expect(s: &Section<'_>) -> Vec<Expected> {
    let list = |item: &Item<'_>| item.texts().into_iter().map(str::to_string).collect();
    let read = |(name, item): &(&str, Item<'_>)| match *name {
        "applied" => Some(Expected::Applied(list(item))),
        "reverted" => Some(Expected::Reverted(list(item))),
        "withheld" => Some(Expected::Withheld(list(item))),
        "released" => Some(Expected::Released(list(item))),
        "held" => Some(Expected::Held(list(item))),
        "exception" => Some(Expected::Exception(item.text()?.to_string())),
        field => Some(Expected::Field(field.to_string(), value(item)?)),
    };
    s.entries().iter().filter_map(read).collect()
}

fn values(s: &Section<'_>, key: &str) -> Vec<(Name, Value<'static>)> {
    let entries = s.table(key).map(|t| t.entries()).unwrap_or_default();
    let read = |(name, item): &(&str, Item<'_>)| Some((Name::from(*name), value(item)?));
    entries.iter().filter_map(read).collect()
}

/// A plain value; the text `NULL` stands for NULL.
fn value(item: &Item<'_>) -> Option<Value<'static>> {
    if let Some(text) = item.as_text() {
        return Some(match text {
            "NULL" => Value::Null,
            text => Value::Text(text.to_string().into()),
        });
    }
    let plain = item.as_integer().map(Value::Int).or_else(|| item.as_bool().map(Value::Bool));
    if plain.is_none() {
        item.wrong("a text, a whole number or true or false (write 12.5 as \"12.5\")");
    }
    plain
}

fn instant(item: &Item<'_>) -> Option<i64> {
    let micros = crossdock_model::time::parse_instant(item.text()?);
    if micros.is_none() {
        let what = format!("`{}` is not a point in time", item.key);
        item.problem(what, "write for example \"2026-05-01T10:00:00Z\"");
    }
    micros
}
