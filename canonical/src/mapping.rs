//! Mapping files as written: which rows become which fields of which records.

mod lookup;

use std::collections::BTreeMap;
use std::sync::Arc;

use crossdock_model::canonical::{Fields, Name};
use crossdock_model::names::shared;
use crossdock_model::{TableName, Value};
use crossdock_schema_registry::{Entities, EntityDef, FieldType};
use jiff::tz::TimeZone;

use crate::codes::{CodeTable, Codes};
use crate::document::{Item, Section};
use crate::expr::Expr;
use crate::problems::{Report, Spot, did_you_mean};
use crate::upcast::{self, Older};

pub(crate) use lookup::{Alias, Lookup};

/// Decimal places by which a value may be shifted.
const SHIFT_MAX: i64 = 30;

/// One `[[table]]` block.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// Where it stands.
    pub spot: Spot,
    /// Source whose rows it reads.
    pub source: Name,
    /// `schema.table`.
    pub table: Name,
    /// Entity that the rows become.
    pub entity: Name,
    /// Rows of other tables that it reads, in the order in which they can be found.
    pub lookups: Vec<Lookup>,
    /// Only rows for which this holds contribute.
    pub when: Option<Expr>,
    /// A row for which this holds counts as deleted.
    pub deleted_when: Option<Expr>,
    /// Canonical fields.
    pub fields: Vec<FieldMap>,
    /// Other records that the row names.
    pub links: Vec<LinkMap>,
    /// Zone of wall-clock columns.
    pub zone: TimeZone,
    /// How its rows looked before; taken out once all files are read.
    pub was: Older,
}

impl Mapping {
    /// Whether two images of a row lead to the same looked-up rows: one leads to the next, and the
    /// first ones are found by columns of the row.
    pub fn finds_the_same(&self, a: &Fields, b: &Fields) -> bool {
        let part = |key: &Path| key.lookup.is_some() || a.get(&key.column) == b.get(&key.column);
        let same = |l: &Lookup| l.key.iter().all(part);
        // A row that refers to its own table may find itself, as it is now.
        self.lookups.iter().all(|l| l.table != self.table && same(l))
    }
}

/// A column of the row or of a looked-up row, or a member of a JSON column.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// Index of the lookup; `None` for the row itself.
    pub lookup: Option<usize>,
    /// Column.
    pub column: Name,
    /// Members of the JSON document in that column.
    pub members: Vec<String>,
}

/// Where a value comes from.
#[derive(Debug)]
pub(crate) enum Term {
    /// A column.
    Path(Path),
    /// A constant.
    Constant(Value<'static>),
    /// An expression over `row` and the lookups.
    Expr(Box<Expr>),
}

/// How one canonical field is made.
#[derive(Debug)]
pub(crate) struct FieldMap {
    /// Field.
    pub name: Name,
    /// Its type.
    pub kind: FieldType,
    /// Where the value comes from.
    pub term: Term,
    /// Places by which the decimal point moves to the right.
    pub shift: i64,
    /// Zone of a wall-clock time.
    pub zone: TimeZone,
    /// Code table through which the value goes.
    pub codes: Option<Arc<CodeTable>>,
    /// Where it stands.
    pub spot: Spot,
}

impl FieldMap {
    /// Whether it may be another value when some columns of the row are others.
    pub fn reads(&self, columns: &[&Name]) -> bool {
        match &self.term {
            Term::Constant(_) => false,
            Term::Path(path) => path.lookup.is_none() && columns.contains(&&path.column),
            Term::Expr(expr) => expr.reads("row", columns),
        }
    }
}

/// How another record's key is made.
#[derive(Debug)]
pub(crate) struct LinkMap {
    /// Link name.
    pub name: Name,
    /// Entity of the other record.
    pub entity: Name,
    /// Its key fields.
    pub key: Vec<FieldMap>,
}

/// What reading needs to know.
pub(crate) struct Reader<'r> {
    /// Entities.
    pub entities: &'r Entities,
    /// Code tables.
    pub codes: &'r Codes,
    /// Configured sources.
    pub sources: &'r [Name],
    /// Where problems go.
    pub report: &'r Report,
}

impl Reader<'_> {
    /// Reads one mapping file.
    pub fn file(&self, root: &Section<'_>) -> Vec<Mapping> {
        let source = root.required("source").unwrap_or_default();
        if let Some(item) = root.get("source") {
            self.check_source(&item, source);
        }
        let zone = root.get("timezone").map_or(TimeZone::UTC, |i| self.zone(&i));
        let blocks = root.tables("table");
        let mappings = blocks.iter().filter_map(|b| self.block(b, source, &zone)).collect();
        root.get("codes");
        root.done();
        mappings
    }

    /// Reports a source that is not configured.
    pub fn check_source(&self, item: &Item<'_>, source: &str) -> bool {
        let known = self.sources.iter().any(|s| &**s == source);
        if !known {
            let remedy = did_you_mean(source, self.sources.iter().map(|s| &**s));
            item.problem(format!("there is no source `{source}` in the configuration"), remedy);
        }
        known
    }

    /// Reads a time zone by its IANA name.
    pub fn zone(&self, item: &Item<'_>) -> TimeZone {
        let Some(name) = item.text() else { return TimeZone::UTC };
        TimeZone::get(name).unwrap_or_else(|_| {
            let remedy = "write an IANA name such as \"Europe/Berlin\" or \"UTC\"";
            item.problem(format!("there is no time zone `{name}`"), remedy);
            TimeZone::UTC
        })
    }

    /// Reads `schema.table`.
    pub fn table_name(&self, item: &Item<'_>) -> Option<Name> {
        let text = item.text()?;
        let Some(table) = TableName::parse(text) else {
            let remedy = "write schema.table (database.table on MySQL and MariaDB)";
            item.problem(format!("`{text}` names no table"), remedy);
            return None;
        };
        Some(shared(&table.to_string()))
    }

    /// The entity of a given name.
    pub fn entity(&self, item: &Item<'_>) -> Option<&EntityDef> {
        let name = item.text()?;
        let found = self.entities.entity(name);
        if found.is_none() {
            let remedy = did_you_mean(name, self.entities.iter().map(|e| &*e.name));
            item.problem(format!("there is no entity `{name}`"), remedy);
        }
        found
    }

    fn block(&self, block: &Section<'_>, source: &str, zone: &TimeZone) -> Option<Mapping> {
        block.required("table");
        block.required("entity");
        let table = block.get("table").and_then(|i| self.table_name(&i));
        let entity = block.get("entity").and_then(|i| self.entity(&i));
        let lookups = self.lookups(block);
        let names: Vec<&str> =
            std::iter::once("row").chain(lookups.iter().map(|l| &*l.name)).collect();
        let condition = |key: &str| {
            let item = block.get(key)?;
            Expr::compile(item.text()?, item.spot(), &names, self.report)
        };
        let (when, deleted_when) = (condition("when"), condition("deleted_when"));
        let was = upcast::read(block, self.report);
        let fields = block.get("fields").and_then(|i| i.table());
        let links = block.get("links").and_then(|i| i.table());
        let entity = entity?;
        let read = |s: &Section<'_>| self.fields(s, entity, &lookups, zone, &names);
        let mut fields = fields.map(|s| read(&s)).unwrap_or_default();
        // In the order in which records keep them.
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        let links = links.map(|s| self.links(&s, &lookups, zone, &names)).unwrap_or_default();
        block.done();
        for key in &entity.key {
            if !fields.iter().any(|f| f.name == *key) {
                let what = format!("the key field `{key}` of {} is not mapped", entity.name);
                let remedy = format!("add `{key} = \"COLUMN\"` to [table.fields]");
                block.report().at(&block.spot(), what, remedy);
            }
        }
        Some(Mapping {
            spot: block.spot(),
            source: shared(source),
            table: table?,
            entity: entity.name.clone(),
            lookups,
            when,
            deleted_when,
            fields,
            links,
            zone: zone.clone(),
            was,
        })
    }

    fn fields(
        &self,
        section: &Section<'_>,
        entity: &EntityDef,
        lookups: &[Lookup],
        zone: &TimeZone,
        names: &[&str],
    ) -> Vec<FieldMap> {
        let entries = section.entries();
        let read = |(name, item): &(&str, Item<'_>)| {
            let Some((name, kind)) = entity.fields.get_key_value(*name) else {
                let what = format!("{} has no field `{name}`", entity.name);
                item.problem(what, did_you_mean(name, entity.fields.keys().map(|f| &**f)));
                return None;
            };
            self.field(name, *kind, item, lookups, zone, names)
        };
        entries.iter().filter_map(read).collect()
    }

    fn field(
        &self,
        name: &Name,
        kind: FieldType,
        item: &Item<'_>,
        lookups: &[Lookup],
        zone: &TimeZone,
        names: &[&str],
    ) -> Option<FieldMap> {
        let mut field = FieldMap {
            name: name.clone(),
            kind,
            term: Term::Constant(Value::Null),
            shift: 0,
            zone: zone.clone(),
            codes: None,
            spot: item.spot(),
        };
        if !item.is_table() {
            field.term = Term::Path(path(item.text()?, lookups));
            return Some(field);
        }
        let s = item.table()?;
        let (column, value, expr) = (s.get("column"), s.get("value"), s.get("expr"));
        field.term = match (&column, &value, &expr) {
            (Some(c), None, None) => Term::Path(path(c.text()?, lookups)),
            (None, Some(v), None) => Term::Constant(self.constant(v, kind)?),
            (None, None, Some(e)) => {
                Term::Expr(Box::new(Expr::compile(e.text()?, e.spot(), names, self.report)?))
            }
            _ => {
                item.problem(
                    format!("`{name}` needs exactly one of column, value and expr"),
                    "for example { column = \"amount_cents\", shift = -2 }",
                );
                return None;
            }
        };
        if let Some(shift) = s.get("shift") {
            match shift.as_integer().filter(|n| n.abs() <= SHIFT_MAX) {
                Some(places) if matches!(kind, FieldType::Decimal) => field.shift = places,
                Some(_) => shift.problem("only a decimal can be shifted", "remove `shift`"),
                None => shift.wrong("a whole number from -30 to 30"),
            }
        }
        if let Some(zone) = s.get("timezone") {
            field.zone = self.zone(&zone);
        }
        field.codes = s.get("codes").and_then(|i| self.code_table(&i));
        s.done();
        Some(field)
    }

    /// The code table of a given name.
    pub fn code_table(&self, item: &Item<'_>) -> Option<Arc<CodeTable>> {
        let name = item.text()?;
        let found = self.codes.get(name).cloned();
        if found.is_none() {
            let remedy = did_you_mean(name, self.codes.keys().map(|n| &**n));
            item.problem(format!("there is no code table `{name}`"), remedy);
        }
        found
    }

    fn constant(&self, item: &Item<'_>, kind: FieldType) -> Option<Value<'static>> {
        let value = if let Some(text) = item.as_text() {
            Value::Text(text.to_string().into())
        } else if let Some(n) = item.as_integer() {
            Value::Int(n)
        } else if let Some(b) = item.as_bool() {
            Value::Bool(b)
        } else {
            item.wrong("a text, a whole number or true or false");
            return None;
        };
        kind.coerce(&value)
            .map_err(|()| item.problem(format!("this constant is not {kind}"), "mend the value"))
            .ok()
    }

    fn links(
        &self,
        section: &Section<'_>,
        lookups: &[Lookup],
        zone: &TimeZone,
        names: &[&str],
    ) -> Vec<LinkMap> {
        let mut links = Vec::new();
        for (name, item) in section.entries() {
            let Some(s) = item.table() else { continue };
            let entity = match s.get("entity") {
                Some(given) => self.entity(&given),
                None => self.entities.entity(name).or_else(|| {
                    let what = format!("there is no entity `{name}`");
                    item.problem(what, "add `entity = \"...\"` to the link");
                    None
                }),
            };
            let Some(entity) = entity else { continue };
            let mut key = Vec::new();
            for (field, value) in s.entries() {
                if field == "entity" && !entity.is_key("entity") {
                    continue;
                }
                match entity.fields.get_key_value(field).filter(|_| entity.is_key(field)) {
                    Some((field, kind)) => {
                        key.extend(self.field(field, *kind, &value, lookups, zone, names));
                    }
                    None => {
                        let what = format!("`{field}` is not a key field of {}", entity.name);
                        let remedy = format!("its key is: {}", entity.key.join(", "));
                        value.problem(what, remedy);
                    }
                }
            }
            for field in entity.key.iter().filter(|k| key.iter().all(|f| f.name != **k)) {
                let what = format!("the link `{name}` lacks `{field}`, a key field of its entity");
                item.problem(what, format!("add `{field} = \"COLUMN\"`"));
            }
            links.push(LinkMap { name: shared(name), entity: entity.name.clone(), key });
        }
        links
    }
}

/// Reads `column`, `column.member` or `lookup.column.member`.
pub(crate) fn path(text: &str, lookups: &[Lookup]) -> Path {
    let mut parts = text.split('.');
    let first = parts.next().unwrap_or_default();
    let lookup = lookups.iter().position(|l| &*l.name == first);
    let column = match lookup {
        Some(_) => parts.next().unwrap_or_default(),
        None => first,
    };
    Path { lookup, column: shared(column), members: parts.map(str::to_string).collect() }
}

/// Mapping blocks by source and table.
pub(crate) type Mappings = BTreeMap<(Name, Name), Vec<Mapping>>;
