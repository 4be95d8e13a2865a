//! A view for each entity, with a column of its own type for each field: what people and reports
//! read. Made from the registered entities, and made anew when those change.

use crossdock_model::canonical::Name;

use super::PostgresStore;
use crate::sql_text::{literal, quoted};
use crate::{ApplyError, classify};

/// What a view's comment begins with; its end is the hash of the definition.
const MADE_BY: &str = "made by crossdock";

/// Of what type a field is in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// `text`
    Text,
    /// `numeric`: whole numbers and exact decimals alike.
    Number,
    /// `boolean`
    Boolean,
    /// `date`
    Date,
    /// `timestamptz`
    Instant,
    /// `jsonb`
    Json,
}

/// An entity as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityView {
    /// Its name; the view is `crossdock.e_NAME`.
    pub entity: Name,
    /// Fields in the order of the columns.
    pub fields: Vec<(Name, ColumnKind)>,
}

impl EntityView {
    fn name(&self) -> String {
        format!("crossdock.{}", quoted(&format!("e_{}", self.entity)))
    }

    fn definition(&self) -> String {
        let columns: String = self.fields.iter().map(|(name, kind)| column(name, *kind)).collect();
        format!(
            "SELECT key AS record_key{columns}, links AS record_links, version AS record_version, \
             updated_at AS record_updated_at FROM crossdock.record \
             WHERE entity = {} AND NOT deleted",
            literal(&self.entity)
        )
    }
}

fn column(name: &str, kind: ColumnKind) -> String {
    let text = format!("fields ->> {}", literal(name));
    let value = match kind {
        ColumnKind::Text => text,
        ColumnKind::Number => format!("({text})::numeric"),
        ColumnKind::Boolean => format!("({text})::boolean"),
        ColumnKind::Date => format!("({text})::date"),
        ColumnKind::Instant => format!("({text})::timestamptz"),
        ColumnKind::Json => format!("fields -> {}", literal(name)),
    };
    format!(", {value} AS {}", quoted(name))
}

impl PostgresStore {
    /// Makes the view of each entity as it is now, and drops those of entities that are gone.
    /// A view that others depend on and that would have to change is left as it was; gives the
    /// names of these.
    pub async fn show_entities(&mut self, views: &[EntityView]) -> Result<Vec<Name>, ApplyError> {
        let known = self.known_views().await?;
        let mut left = Vec::new();
        for view in views {
            let (name, definition) = (view.name(), view.definition());
            let note = format!("{MADE_BY}: {}", digest(&definition));
            let as_it_is = |(known, comment): &(String, String)| *known == name && *comment == note;
            if known.iter().any(as_it_is) {
                continue;
            }
            let make = format!(
                "BEGIN; DROP VIEW IF EXISTS {name}; CREATE VIEW {name} AS {definition}; \
                 COMMENT ON VIEW {name} IS {}; COMMIT",
                literal(&note)
            );
            if !self.changed(&make).await? {
                left.push(view.entity.clone());
            }
        }
        for (name, _) in known.iter().filter(|(name, _)| views.iter().all(|v| v.name() != *name)) {
            if !self.changed(&format!("DROP VIEW {name}")).await? {
                left.push(name.as_str().into());
            }
        }
        Ok(left)
    }

    /// Views of entities, quoted, with their comments.
    async fn known_views(&mut self) -> Result<Vec<(String, String)>, ApplyError> {
        let sql = "SELECT 'crossdock.' || '\"' || replace(c.relname, '\"', '\"\"') || '\"',
                          obj_description(c.oid, 'pg_class')
                   FROM pg_catalog.pg_class c
                   WHERE c.relnamespace = 'crossdock'::regnamespace AND c.relkind = 'v'
                     AND obj_description(c.oid, 'pg_class') LIKE $1 || ':%'";
        let rows = self.query(sql, &[&MADE_BY]).await?;
        self.read(rows, |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Runs a change of views; false when somebody's own view depends on what would change.
    async fn changed(&mut self, sql: &str) -> Result<bool, ApplyError> {
        let Err(error) = self.client.batch_execute(sql).await else { return Ok(true) };
        // Ends the transaction, if one was begun.
        let ended = self.client.batch_execute("ROLLBACK").await;
        ended.map_err(|e| classify::postgres(&self.name, "making views of entities", e))?;
        let depended = tokio_postgres::error::SqlState::DEPENDENT_OBJECTS_STILL_EXIST;
        if error.code() == Some(&depended) {
            return Ok(false);
        }
        Err(classify::postgres(&self.name, "making views of entities", error))
    }
}

/// Enough of a digest to tell definitions apart.
fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_has_a_typed_column_for_each_field() {
        let view = EntityView {
            entity: "order_line".into(),
            fields: vec![
                ("sku".into(), ColumnKind::Text),
                ("qty".into(), ColumnKind::Number),
                ("it's \"odd\"".into(), ColumnKind::Instant),
            ],
        };
        assert_eq!(view.name(), "crossdock.\"e_order_line\"");
        assert_eq!(
            view.definition(),
            "SELECT key AS record_key, fields ->> 'sku' AS \"sku\", (fields ->> 'qty')::numeric AS \
             \"qty\", (fields ->> 'it''s \"odd\"')::timestamptz AS \"it's \"\"odd\"\"\", \
             links AS record_links, version AS record_version, updated_at AS record_updated_at \
             FROM crossdock.record WHERE entity = 'order_line' AND NOT deleted"
        );
    }
}
