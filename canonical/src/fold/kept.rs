//! Folding a transaction that is too large to be held, piece by piece: what is known of its rows is
//! kept elsewhere between the pieces.

use std::collections::BTreeSet;
use std::sync::Arc;

use crossdock_model::canonical::Name;
use crossdock_model::mark::PROGRESS_TABLE;
use crossdock_model::{ChangeEvent, Column, TableName, TableSchema};

use super::{Fold, Folded, Net, Table, Tables, nothing};
use crate::rules::Rules;

/// Table and primary key of a row.
pub(crate) type Place = (Name, Name);

/// What a row has come to so far; without a net change it was born and is gone.
pub(crate) type Kept<'r> = (Place, Option<Net<'r>>);

/// A transaction without any of its rows.
pub(crate) fn begun<'r>(source: &Name, header: crossdock_model::TxHeader) -> Folded<'r> {
    nothing(source, header)
}

/// The rows that events are about.
pub(crate) fn places(source: &Name, events: &[ChangeEvent], rules: &Rules) -> BTreeSet<Place> {
    let mut tables = Tables::default();
    let mut places = BTreeSet::new();
    for event in events {
        let Some(schema) = &event.table else { continue };
        if &*schema.name.table == PROGRESS_TABLE {
            continue;
        }
        let table = tables.get(source, schema, rules);
        if table.rules.matter() {
            let keys = [&event.before, &event.after].into_iter().flatten();
            let keys = keys.filter_map(|image| table.key_of(image));
            places.extend(keys.map(|pk| (table.name.clone(), pk)));
        }
    }
    places
}

/// Folds further events upon what is known of their rows. Gives these rows, in the order in which
/// they were given, and then those that are new.
pub(crate) fn fold_on<'r>(
    out: &mut Folded<'r>,
    known: Vec<Kept<'r>>,
    events: Vec<ChangeEvent>,
    rules: &'r Rules,
) -> Vec<Kept<'r>> {
    let source = out.source.clone();
    let mut fold = Fold::new(&source);
    for (place, net) in known {
        fold.add(place, net);
    }
    fold.events(&mut Tables::default(), out, events, rules);
    fold.rows.into_iter().zip(fold.slots).collect()
}

impl<'r> Table<'r> {
    /// A table of which only the name and the columns that identify a row are known.
    pub fn of_keys(source: &Name, name: &Name, keys: &[Name], rules: &'r Rules) -> Arc<Self> {
        let column = |name: &Name| Column {
            name: name.clone(),
            type_name: "".into(),
            nullable: false,
            key: None,
            base_type: None,
            default: None,
        };
        let table = TableName::parse(name).unwrap_or_else(|| TableName::new("", name));
        let schema = TableSchema { name: table, columns: keys.iter().map(column).collect() };
        let keys = (0..schema.columns.len()).collect();
        let (name, rules) = (name.clone(), rules.of_table(source, name));
        let names = schema.columns.iter().map(|column| column.name.clone()).collect();
        let sorted = Vec::new();
        Arc::new(Self { schema: Arc::new(schema), name, rules, keys, names, sorted })
    }
}
