//! Which tables of a database may be which entities, and how their columns may be mapped. Guesses,
//! for a person to look at: by the words of names, by types, and by foreign keys.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_capture::{Listing, Reference};
use crossdock_model::{Column, TableName, TableSchema};
use crossdock_schema_registry::{Entities, EntityDef, FieldType};

use super::words::{Words, split};

/// Where the value of a field comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// A column of the row.
    Column(String),
    /// A column of a looked-up row: lookup and column.
    Lookup(String, String),
    /// A constant that a person must look at.
    Constant(String),
}

/// A lookup: the row of another table whose key is in a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Its table.
    pub table: TableName,
    /// The column with its key.
    pub key: String,
}

/// A link to another record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Entity that is linked to.
    pub entity: String,
    /// Its key fields.
    pub key: Vec<(String, From)>,
}

/// A table as it may be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Table.
    pub table: TableName,
    /// Entity.
    pub entity: String,
    /// Lookups by name.
    pub lookups: BTreeMap<String, Lookup>,
    /// Fields, those of the key first.
    pub fields: Vec<(String, From)>,
    /// Links by name.
    pub links: BTreeMap<String, Link>,
    /// Columns that are not mapped.
    pub left: Vec<String>,
    /// Columns with times that have no zone.
    pub zoneless: Vec<String>,
    /// Key fields that took the table's own key for want of a better column.
    pub doubtful: Vec<String>,
}

/// What a database may be mapped to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// Tables, in the order of the entities.
    pub mapped: Vec<Mapped>,
    /// Tables that were not recognised, or not needed, and why.
    pub left: Vec<(TableName, String)>,
}

/// Drafts a mapping.
pub fn draft(listing: &Listing, entities: &Entities, words: &Words) -> Draft {
    let (chosen, mut left) = choose(listing, entities, words);
    let guess = Guess { listing, words };
    // Tables whose keys are columns of their own come first: others find theirs through them.
    let mut mapped: Vec<Mapped> = Vec::new();
    let mut open = Vec::new();
    for (entity, table) in chosen {
        match guess.key(entity, table, &[]) {
            Some(begun) => mapped.push(begun),
            None => open.push((entity, table)),
        }
    }
    let plain = mapped.clone();
    for (entity, table) in open {
        match guess.key(entity, table, &plain) {
            Some(begun) => mapped.push(begun),
            None => {
                let key = entity.key.join(", ");
                let why = format!("may be {}: no column is known for its key ({key})", entity.name);
                left.push((table.name.clone(), why));
            }
        }
    }
    let keyed = mapped.clone();
    for table in &mut mapped {
        guess.complete(table, entities, &keyed);
    }
    mapped.sort_by(|a, b| a.entity.cmp(&b.entity));
    left.sort_by_key(|(name, _)| name.to_string());
    Draft { mapped, left }
}

type Chosen<'c> = Vec<(&'c EntityDef, &'c TableSchema)>;

/// The best table for each entity.
fn choose<'c>(
    listing: &'c Listing,
    entities: &'c Entities,
    words: &Words,
) -> (Chosen<'c>, Vec<(TableName, String)>) {
    let mut best: BTreeMap<&str, (usize, &EntityDef, &TableSchema)> = BTreeMap::new();
    let mut left = Vec::new();
    for table in &listing.tables {
        let fit = |entity: &EntityDef| words.fit(&table.name.table, &entity.name);
        let Some(entity) = entities.iter().max_by_key(|e| fit(e)).filter(|e| fit(e) > 0) else {
            left.push((table.name.clone(), "not recognised".to_string()));
            continue;
        };
        if table.key_columns().is_empty() {
            let why = format!("may be {}: it has no primary key", entity.name);
            left.push((table.name.clone(), why));
            continue;
        }
        let found = (fit(entity), entity, table);
        let beaten = match best.get(&*entity.name) {
            Some(known) if known.0 >= found.0 => table,
            Some(known) => known.2,
            None => {
                best.insert(&entity.name, found);
                continue;
            }
        };
        if best.get(&*entity.name).is_none_or(|known| known.0 < found.0) {
            best.insert(&entity.name, found);
        }
        left.push((beaten.name.clone(), format!("may be {}, too", entity.name)));
    }
    (best.into_values().map(|(_, entity, table)| (entity, table)).collect(), left)
}

struct Guess<'g> {
    listing: &'g Listing,
    words: &'g Words,
}

impl Guess<'_> {
    /// The key of an entity in a table; `None` when a part of it cannot be found.
    fn key(&self, entity: &EntityDef, table: &TableSchema, known: &[Mapped]) -> Option<Mapped> {
        let mut mapped = Mapped {
            table: table.name.clone(),
            entity: entity.name.to_string(),
            lookups: BTreeMap::new(),
            fields: Vec::new(),
            links: BTreeMap::new(),
            left: Vec::new(),
            zoneless: Vec::new(),
            doubtful: Vec::new(),
        };
        for field in &entity.key {
            let kind = entity.field(field)?;
            let column = self.column(&entity.name, field, kind, table, &BTreeSet::new());
            let from = column.map(From::Column).or_else(|| self.through(&mut mapped, field, known));
            let constant = || self.words.constants.get(&**field).cloned().map(From::Constant);
            let from = from.or_else(constant).or_else(|| {
                let from = From::Column(own_key(table)?);
                let taken = mapped.fields.iter().any(|(_, f)| *f == from);
                (!taken).then(|| mapped.doubtful.push(field.to_string()))?;
                Some(from)
            });
            mapped.fields.push((field.to_string(), from?));
        }
        // A key that is only a doubt and a constant may wait for a lookup.
        let late = known.is_empty() && entity.key.len() > 1 && !mapped.doubtful.is_empty();
        (!late).then_some(mapped)
    }

    /// A field of the record that a foreign key leads to.
    fn through(&self, mapped: &mut Mapped, field: &str, known: &[Mapped]) -> Option<From> {
        let table = mapped.table.clone();
        for reference in self.references(&table) {
            let Some(to) = known.iter().find(|m| m.table == reference.to) else { continue };
            let column = to.fields.iter().find_map(|(name, from)| match from {
                From::Column(column) if name == field => Some(column.clone()),
                _ => None,
            });
            let Some(column) = column else { continue };
            if column == reference.to_column {
                return Some(From::Column(reference.column.clone()));
            }
            let name = self.lookup(mapped, reference)?;
            return Some(From::Lookup(name, column));
        }
        None
    }

    /// Adds a lookup; `None` when its table has another key than the one that is referred to.
    fn lookup(&self, mapped: &mut Mapped, reference: &Reference) -> Option<String> {
        let to = self.listing.tables.iter().find(|t| t.name == reference.to)?;
        if own_key(to)? != reference.to_column {
            return None;
        }
        let name = base(&reference.column);
        let lookup = Lookup { table: reference.to.clone(), key: reference.column.clone() };
        mapped.lookups.entry(name.clone()).or_insert(lookup);
        Some(name)
    }

    fn references(&self, table: &TableName) -> impl Iterator<Item = &Reference> {
        self.listing.references.iter().filter(move |r| r.table == *table)
    }

    /// Finds the other fields, and the links.
    fn complete(&self, mapped: &mut Mapped, entities: &Entities, known: &[Mapped]) {
        let Some(entity) = entities.entity(&mapped.entity) else { return };
        let Some(table) = self.listing.tables.iter().find(|t| t.name == mapped.table) else {
            return;
        };
        let columns = |mapped: &Mapped| -> BTreeSet<String> {
            let fields = mapped.fields.iter().filter_map(|(_, from)| match from {
                From::Column(column) => Some(column.clone()),
                From::Lookup(..) | From::Constant(_) => None,
            });
            fields.collect()
        };
        for (field, kind) in entity.fields.iter().filter(|(f, _)| !entity.is_key(f)) {
            let taken = columns(mapped);
            if let Some(column) = self.column(&entity.name, field, *kind, table, &taken) {
                if matches!(kind, FieldType::Instant) && is_zoneless(table, &column) {
                    mapped.zoneless.push(column.clone());
                }
                mapped.fields.push((field.to_string(), From::Column(column)));
            }
        }
        for reference in self.references(&table.name) {
            let Some(to) = known.iter().find(|m| m.table == reference.to) else { continue };
            if to.table == table.name {
                continue;
            }
            if let Some(key) = self.link_key(mapped, reference, to) {
                let name = match mapped.links.contains_key(&to.entity) {
                    true => base(&reference.column),
                    false => to.entity.clone(),
                };
                let link = Link { entity: to.entity.clone(), key };
                mapped.links.entry(name).or_insert(link);
            }
        }
        let used = columns(mapped);
        let unused = table.columns.iter().filter(|c| !used.contains(&*c.name));
        mapped.left = unused.map(|c| c.name.to_string()).collect();
    }

    /// The key of the record that a foreign key leads to.
    fn link_key(
        &self,
        mapped: &mut Mapped,
        reference: &Reference,
        to: &Mapped,
    ) -> Option<Vec<(String, From)>> {
        let key = to.fields.clone();
        let entity_key: Vec<&(String, From)> = key.iter().take(to.key_length()).collect();
        let mut found = Vec::new();
        for (field, from) in entity_key {
            let From::Column(column) = from else { return None };
            if *column == reference.to_column {
                found.push((field.clone(), From::Column(reference.column.clone())));
            } else {
                let name = self.lookup(mapped, reference)?;
                found.push((field.clone(), From::Lookup(name, column.clone())));
            }
        }
        Some(found)
    }

    /// A column that a field may be.
    fn column(
        &self,
        entity: &str,
        field: &str,
        kind: FieldType,
        table: &TableSchema,
        taken: &BTreeSet<String>,
    ) -> Option<String> {
        let names = self.words.names(entity, field);
        let mut found = names.iter().filter_map(|name| {
            let free = table.columns.iter().filter(|c| !taken.contains(&*c.name));
            let mut fitting = free.filter(|c| split(&c.name) == *name && fits(kind, c));
            fitting.next().map(|c| c.name.to_string())
        });
        found.next()
    }
}

impl Mapped {
    /// How many of its fields, the first ones, are its entity's key.
    fn key_length(&self) -> usize {
        // Known tables have nothing but their key yet.
        self.fields.len()
    }
}

/// The only column of a table's key.
fn own_key(table: &TableSchema) -> Option<String> {
    match table.key_columns().as_slice() {
        [one] => Some(table.columns.get(*one)?.name.to_string()),
        _ => None,
    }
}

/// A column's name without what says that it is a key: `customer_id` is the customer.
fn base(column: &str) -> String {
    let mut words = split(column);
    let keys = ["id", "ref", "no", "code", "key", "number"];
    if words.len() > 1 && words.last().is_some_and(|last| keys.contains(&last.as_str())) {
        words.pop();
    }
    words.join("_")
}

fn is_zoneless(table: &TableSchema, column: &str) -> bool {
    let found = table.columns.iter().find(|c| &*c.name == column);
    found.is_some_and(|c| {
        let name = c.type_name.to_lowercase();
        name.starts_with("datetime") || name.contains("without time zone")
    })
}

/// Whether a column's type may hold values of a field.
fn fits(kind: FieldType, column: &Column) -> bool {
    let declared = column.base_type.as_ref().unwrap_or(&column.type_name).to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    let binary = has(&["blob", "bytea", "binary", "[]"]);
    let boolean = has(&["bool", "tinyint(1)", "bit(1)"]);
    let moment = has(&["timestamp", "datetime"]);
    let number = has(&["int", "numeric", "decimal", "double", "float", "real", "serial"]);
    match kind {
        FieldType::Text => !binary && !boolean && !has(&["json"]),
        FieldType::Integer => has(&["int", "serial"]) && !boolean && !has(&["interval", "point"]),
        FieldType::Decimal => number && !boolean && !has(&["interval", "point"]),
        FieldType::Boolean => boolean,
        FieldType::Date => moment || declared.starts_with("date"),
        FieldType::Instant => moment,
        FieldType::Json => has(&["json"]),
    }
}
