//! Exceptions: one sentence in the words of the business, and everything needed to decide.

use std::collections::BTreeMap;

use crossdock_model::canonical::{ExceptionItem, Name, RecordKey, RowKey};
use serde_json::json;
use uuid::Uuid;

use crate::ids::derive;
use crate::rowmap::RowTrouble;

/// Exceptions of a batch, each once.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    installation: String,
    order: Vec<Uuid>,
    items: BTreeMap<Uuid, Raised>,
}

/// What has become of one exception in a batch.
#[derive(Debug)]
struct Raised {
    /// As it was raised, when it was closed after that: it stays on record.
    opened: Option<ExceptionItem>,
    last: ExceptionItem,
}

impl Troubles {
    /// For one installation.
    pub fn new(installation: &str) -> Self {
        Self { installation: installation.to_string(), ..Self::default() }
    }

    /// An identity of this installation.
    pub fn id(&self, parts: &[&str]) -> Uuid {
        let all: Vec<&str> = std::iter::once(&*self.installation).chain(parts.to_vec()).collect();
        derive(&all)
    }

    /// Raises or closes; of several of one identity the last counts.
    pub fn raise(&mut self, item: ExceptionItem) {
        let id = item.id;
        match self.items.get_mut(&id) {
            None => {
                self.order.push(id);
                self.items.insert(id, Raised { opened: None, last: item });
            }
            Some(raised) => {
                let before = std::mem::replace(&mut raised.last, item);
                if before.open {
                    raised.opened = Some(before);
                }
            }
        }
    }

    /// All of them in the order in which they were first raised. One that was raised and closed is
    /// there twice.
    pub fn into_items(mut self) -> Vec<ExceptionItem> {
        let mut items = Vec::with_capacity(self.order.len());
        for raised in self.order.iter().filter_map(|id| self.items.remove(id)) {
            items.extend(raised.opened.filter(|_| !raised.last.open));
            items.push(raised.last);
        }
        items
    }

    /// What is wrong with a row, or (`open` false) is not any more.
    pub fn of_row(&mut self, row: &RowKey, trouble: &RowTrouble, place: &str, open: bool) {
        let id_of =
            |kind: &str, what: &str| self.id(&[kind, &row.source, &row.table, &row.pk, what]);
        let (id, kind, rule, text, mut context) = match trouble {
            RowTrouble::Mapping { field, rule, what } => (
                id_of("mapping_error", field),
                "mapping_error",
                rule.clone(),
                format!("A row of {} in {} cannot be read: {what}.", row.table, row.source),
                json!({ "field": &**field }),
            ),
            RowTrouble::MissingKey { entity, rule } => (
                id_of("missing_key", entity),
                "missing_key",
                rule.clone(),
                format!(
                    "A row of {} in {} lacks a part of the {entity}'s key.",
                    row.table, row.source
                ),
                json!({ "entity": &**entity }),
            ),
            RowTrouble::UnknownCode { table, code } => {
                if !open {
                    // Other rows may carry the same code.
                    return;
                }
                (
                    self.id(&["unmapped_code", &row.source, table, code]),
                    "unmapped_code",
                    table.clone(),
                    format!(
                        "{} uses the code {code}, which code table {table} does not know.",
                        row.source
                    ),
                    json!({ "code": code }),
                )
            }
            RowTrouble::Ambiguous { alias, columns, rows: [found, other] } => (
                self.id(&["ambiguous_lookup", &row.source, &alias.table, &alias.pk]),
                "ambiguous_lookup",
                row.table.clone(),
                format!(
                    "Rows {} and {} of {} in {} are both found by {}; the first one counts.",
                    shown(found),
                    shown(other),
                    row.table,
                    row.source,
                    columns.join(", ")
                ),
                json!({ "columns": columns, "rows": [shown(found), shown(other)] }),
            ),
        };
        if let Some(members) = context.as_object_mut() {
            members.insert("table".into(), json!(&*row.table));
            members.insert("row".into(), json!(shown(&row.pk)));
            members.insert("position".into(), json!(place));
        }
        self.raise(ExceptionItem {
            id,
            kind: kind.into(),
            record: None,
            source: row.source.clone(),
            rule,
            team: "".into(),
            text,
            context,
            open,
        });
    }

    /// A rule that could not be evaluated for a record.
    pub fn of_rule(&mut self, record: &RecordKey, rule: &Name, what: &str, team: &Name) {
        self.raise(ExceptionItem {
            id: self.id(&["rule_error", rule, &record.key]),
            kind: "rule_error".into(),
            record: Some(record.clone()),
            source: crate::ownership::COMPUTED.into(),
            rule: rule.clone(),
            team: team.clone(),
            text: format!("Rule {rule} cannot be evaluated for {}: {what}.", record.key),
            context: json!({ "error": what }),
            open: true,
        });
    }
}

/// A primary key as people read it.
fn shown(pk: &str) -> String {
    pk.replace('\u{1f}', ",")
}
