//! `[[normalise]]`: which rows are evidence of what.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossdock_model::Value;
use crossdock_model::canonical::{Fields, Name, RecordKey};
use crossdock_model::names::shared;
use crossdock_schema_registry::{Entities, FieldType};
use jiff::tz::TimeZone;

use crate::codes::{CodeTable, Unmapped};
use crate::document::Section;
use crate::expr::Expr;
use crate::mapping::{Mapping, Mappings, Path, Reader, path};
use crate::problems::{Spot, did_you_mean};
use crate::rowmap::{RowTrouble, RowView, convert, link_key, record_of};
use crate::scope::Var;

/// Authority of evidence that says nothing else.
const AUTHORITY: i64 = 100;

/// In the key of a code table: the name of the source.
const SOURCE: &str = "@source";

/// One `[[normalise]]` block.
#[derive(Debug)]
pub(crate) struct Normalise {
    /// Where it stands.
    pub spot: Spot,
    /// Identity within its table; does not change when lines move.
    pub name: Name,
    /// Holds for rows that are evidence.
    pub when: Option<Expr>,
    /// Code table and the parts of its key.
    pub codes: Option<(Arc<CodeTable>, Vec<Path>)>,
    /// What is said to have happened; `*` is replaced by what the code table says.
    pub emit: Name,
    /// Link to the record it is about; `None` for the record that the row maps to.
    pub about: Option<Name>,
    /// Index of the mapping block whose lookups and links it uses.
    pub mapping: usize,
    /// When it is said to have happened; `None` for the commit time.
    pub event_time: Option<Path>,
    /// Zone of a wall-clock event time.
    pub zone: TimeZone,
    /// Weight.
    pub authority: i32,
    /// What else is kept of the row, by name.
    pub data: Vec<(String, Path)>,
}

/// What a row is evidence of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fact {
    /// The record.
    pub record: RecordKey,
    /// What happened.
    pub kind: Name,
    /// When; `None` for the commit time.
    pub event_micros: Option<i64>,
    /// What else is known.
    pub data: serde_json::Value,
    /// A code that nobody knows.
    pub trouble: Option<RowTrouble>,
}

/// Whether a part of a code table's key is the name of the source.
fn is_source(path: &Path) -> bool {
    &*path.column == SOURCE
}

/// Evidence rules by source and table.
pub(crate) type Evidences = BTreeMap<(Name, Name), Vec<Normalise>>;

impl Normalise {
    /// All columns that it reads by name.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let codes = self.codes.iter().flat_map(|(_, paths)| paths).filter(|p| !is_source(p));
        codes.chain(&self.event_time).chain(self.data.iter().map(|(_, path)| path))
    }

    /// What a row is evidence of, if anything. `before` is the previous image; `subject` the record
    /// that it is about, where that is known.
    ///
    /// # Errors
    /// When the condition fails or the time cannot be read: then nothing is known.
    pub fn fact(
        &self,
        mapping: &Mapping,
        entities: &Entities,
        view: &RowView<'_>,
        (before, op): (Option<&Fields>, &str),
        subject: Option<RecordKey>,
    ) -> Result<Option<Fact>, RowTrouble> {
        let bad = |what: String| RowTrouble::Mapping {
            field: self.name.clone(),
            rule: self.spot.name(),
            what,
        };
        if let Some(when) = &self.when {
            let scope = view
                .scope(mapping)
                .with("after", Var::Fields(view.row))
                .with("before", before.map_or(Var::Missing, Var::Fields))
                .with("op", Var::Text(op));
            if !when.holds(&scope).map_err(bad)? {
                return Ok(None);
            }
        }
        let record = match subject {
            Some(known) => Some(known),
            None => self.record(mapping, entities, view)?,
        };
        let Some(record) = record else {
            let rule = self.spot.name();
            return Err(RowTrouble::MissingKey { entity: self.about_entity(mapping), rule });
        };
        let (kind, mut data, trouble) = self.kind(mapping, view);
        for (name, path) in &self.data {
            let value = view.value(path).filter(|v| !v.is_null());
            if let (Some(value), Some(data)) = (value, data.as_object_mut()) {
                data.insert(name.clone(), value.to_json());
            }
        }
        let event_micros = match &self.event_time {
            None => None,
            Some(path) => match view.value(path).filter(|v| !v.is_null()) {
                None => None,
                Some(value) => match convert(&value, FieldType::Instant, 0, &self.zone) {
                    Ok(Value::TimestampTz(micros)) => Some(micros),
                    _ => {
                        let from = format!("column {}.{}", mapping.table, path.column);
                        return Err(bad(format!("{from} cannot be read as a point in time")));
                    }
                },
            },
        };
        Ok(Some(Fact { record, kind, event_micros, data, trouble }))
    }

    /// The record that a row is evidence about; `None` when a part of its key is NULL.
    ///
    /// # Errors
    /// When the key cannot be read.
    pub fn record(
        &self,
        mapping: &Mapping,
        entities: &Entities,
        view: &RowView<'_>,
    ) -> Result<Option<RecordKey>, RowTrouble> {
        match &self.about {
            None => record_of(mapping, entities, view),
            Some(name) => match mapping.links.iter().find(|l| l.name == *name) {
                Some(link) => link_key(link, mapping, entities, view),
                None => Ok(None),
            },
        }
    }

    fn about_entity(&self, mapping: &Mapping) -> Name {
        let link = self.about.as_ref();
        link.and_then(|name| mapping.links.iter().find(|l| l.name == *name))
            .map_or_else(|| mapping.entity.clone(), |l| l.entity.clone())
    }

    fn kind(
        &self,
        mapping: &Mapping,
        view: &RowView<'_>,
    ) -> (Name, serde_json::Value, Option<RowTrouble>) {
        let Some((table, paths)) = &self.codes else {
            return (self.emit.clone(), serde_json::json!({}), None);
        };
        let part = |p: &Path| match is_source(p) {
            true => mapping.source.to_string(),
            false => view.value(p).and_then(|v| v.to_text()).unwrap_or_default(),
        };
        let parts: Vec<String> = paths.iter().map(part).collect();
        let code = parts.join(":");
        let data = serde_json::json!({ "code": code });
        let kind = |word: &str| Name::from(self.emit.replace('*', word));
        match (table.look_up(&parts), table.unmapped) {
            (Some(word), _) => (kind(&word), data, None),
            (None, Unmapped::Keep) => (kind(&code), data, None),
            (None, Unmapped::Exception) => {
                let trouble = RowTrouble::UnknownCode { table: table.name.clone(), code };
                (kind("unmapped"), data, Some(trouble))
            }
        }
    }
}

/// Reads the `[[normalise]]` blocks of a rule file.
pub(crate) fn read(
    root: &Section<'_>,
    reader: &Reader<'_>,
    mappings: &Mappings,
    into: &mut Evidences,
) {
    for block in root.tables("normalise") {
        let read = read_block(&block, reader, mappings);
        if let Some((table, mut rule)) = read {
            let rules = into.entry(table).or_default();
            let same = rules.iter().filter(|r| r.emit == rule.emit).count();
            if same > 0 {
                rule.name = format!("{}#{same}", rule.name).into();
            }
            rules.push(rule);
        }
    }
}

fn read_block(
    block: &Section<'_>,
    reader: &Reader<'_>,
    mappings: &Mappings,
) -> Option<((Name, Name), Normalise)> {
    let (key, blocks) = rows_of(block, reader, mappings)?;
    let about = block.text("about");
    let index = choose_mapping(block, about, blocks)?;
    let mapping = blocks.get(index)?;
    let emit = block.required("emit")?;
    let names: Vec<&str> = ["row", "after", "before", "op"]
        .into_iter()
        .chain(mapping.lookups.iter().map(|l| &*l.name))
        .collect();
    let when = match block.get("when") {
        Some(item) => Some(Expr::compile(item.text()?, item.spot(), &names, reader.report)?),
        None => None,
    };
    let codes = read_codes(block, reader, mapping, emit);
    let authority = block.get("authority").map_or(AUTHORITY, |item| {
        item.as_integer().unwrap_or_else(|| {
            item.wrong("a whole number");
            AUTHORITY
        })
    });
    let rule = Normalise {
        spot: block.spot(),
        name: emit.into(),
        when,
        codes,
        emit: emit.into(),
        about: about.filter(|a| *a != &*mapping.entity || has_link(mapping, a)).map(shared),
        mapping: index,
        event_time: block.text("event_time").map(|t| column(t, mapping)),
        zone: block.get("timezone").map_or_else(|| mapping.zone.clone(), |i| reader.zone(&i)),
        authority: i32::try_from(authority).unwrap_or(i32::MAX),
        data: read_data(block, mapping),
    };
    block.done();
    Some((key, rule))
}

/// The rows that a block is about: `source` and `table`, or `source = "SOURCE.TABLE"`, where the
/// schema may be left out as long as one table of the source has that name.
fn rows_of<'m>(
    block: &Section<'_>,
    reader: &Reader<'_>,
    mappings: &'m Mappings,
) -> Option<((Name, Name), &'m Vec<Mapping>)> {
    let text = block.required("source")?;
    let item = block.get("source")?;
    let (source, table_item, wanted) = match (text.split_once('.'), block.get("table")) {
        (Some((source, table)), None) => (source, item, table.to_string()),
        _ => {
            block.required("table")?;
            let table_item = block.get("table")?;
            (text, table_item, reader.table_name(&table_item)?.to_string())
        }
    };
    if !reader.check_source(&item, source) {
        return None;
    }
    let mut found = mappings.iter().filter(|((s, table), _)| {
        let short = table.rsplit_once('.').is_some_and(|(_, name)| name == wanted);
        &**s == source && (**table == *wanted || (short && !wanted.contains('.')))
    });
    match (found.next(), found.next()) {
        (Some((key, blocks)), None) => Some((key.clone(), blocks)),
        (None, _) => {
            let what = format!("no mapping of {source} reads {wanted}");
            let remedy = "add a [[table]] block to its mapping file: it says what the row is about";
            table_item.problem(what, remedy);
            None
        }
        (Some(_), Some(_)) => {
            let what = format!("{source} has several tables called {wanted}");
            table_item.problem(what, "write table = \"SCHEMA.TABLE\"");
            None
        }
    }
}

/// A column as rules name it: `confirmed_at` or, to be plain about it, `after.confirmed_at`.
fn column(text: &str, mapping: &Mapping) -> Path {
    let plain = text.strip_prefix("after.").or_else(|| text.strip_prefix("row."));
    path(plain.unwrap_or(text), &mapping.lookups)
}

fn read_data(block: &Section<'_>, mapping: &Mapping) -> Vec<(String, Path)> {
    let Some(section) = block.table("data") else { return Vec::new() };
    let entries = section.entries();
    let read = |(name, item): &(&str, crate::document::Item<'_>)| {
        Some(((*name).to_string(), column(item.text()?, mapping)))
    };
    entries.iter().filter_map(read).collect()
}

fn has_link(mapping: &Mapping, name: &str) -> bool {
    mapping.links.iter().any(|l| &*l.name == name)
}

/// The block of the table that has the link; the record itself may be named by its entity.
fn choose_mapping(block: &Section<'_>, about: Option<&str>, blocks: &[Mapping]) -> Option<usize> {
    let Some(about) = about else { return Some(0) };
    let by_link = blocks.iter().position(|m| has_link(m, about));
    let found = by_link.or_else(|| blocks.iter().position(|m| &*m.entity == about));
    if found.is_none() {
        let item = block.get("about")?;
        let names = blocks
            .iter()
            .flat_map(|m| m.links.iter().map(|l| &*l.name).chain(std::iter::once(&*m.entity)));
        let remedy = did_you_mean(about, names);
        item.problem(format!("the mapping of this table has no link `{about}`"), remedy);
    }
    found
}

fn read_codes(
    block: &Section<'_>,
    reader: &Reader<'_>,
    mapping: &Mapping,
    emit: &str,
) -> Option<(Arc<CodeTable>, Vec<Path>)> {
    let item = block.get("codes");
    if item.is_none() && emit.contains('*') {
        let what = format!("`{emit}` needs a code table for its `*`");
        block.report().at(&block.spot(), what, "add codes = { table = \"...\", key = [\"...\"] }");
    }
    let s = item?.table()?;
    s.required("table")?;
    let table = s.get("table").and_then(|i| reader.code_table(&i));
    let key = s.get("key").map(|i| i.texts()).unwrap_or_default();
    if key.is_empty() {
        block.report().at(&s.spot(), "`key` is missing in codes", "add key = [\"COLUMN\"]");
    }
    s.done();
    Some((table?, key.iter().map(|k| column(k, mapping)).collect()))
}
