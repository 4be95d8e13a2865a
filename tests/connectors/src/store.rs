//! The canonical store, as the check sees it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use crossdock_harness::Postgres;
use serde_json::Value as Json;

/// A private PostgreSQL with the database `canonical`.
pub struct Store(Postgres);

/// What is in the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// Records by key.
    pub records: BTreeMap<String, Record>,
    /// Kinds of the evidence that counts, by the key of the record that it is about.
    pub evidence: BTreeMap<String, BTreeSet<String>>,
    /// Open exceptions: kind and key or text.
    pub exceptions: BTreeSet<String>,
    /// Rows that wait for others.
    pub parked: Vec<String>,
}

/// A record that is not deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// How often it has changed.
    pub version: i64,
    /// Its fields that have a value; whole numbers as texts, too.
    pub fields: BTreeMap<String, Json>,
    /// Keys of the records that it names, by the link's name.
    pub links: BTreeMap<String, String>,
}

impl Store {
    /// Starts a server with an empty database.
    pub fn start() -> Result<Self> {
        let server = Postgres::start()?;
        let role = "CREATE ROLE crossdock LOGIN PASSWORD 'connector'";
        server.sql("postgres", role)?;
        server.sql("postgres", "CREATE DATABASE canonical OWNER crossdock")?;
        Ok(Self(server))
    }

    /// Where it is, for the connector's config.
    pub fn environment(&self) -> Vec<(String, String)> {
        vec![("STORE_PORT".to_string(), self.0.port().to_string())]
    }

    /// All that is in it.
    pub fn look(&self) -> Result<Contents> {
        let mut contents = Contents::default();
        let records = self.lines(
            "SELECT json_build_array(key, version, fields, links) FROM crossdock.record
             WHERE NOT deleted",
        )?;
        for row in records {
            let fields = row[2].as_object().context("the fields of a record")?;
            let filled = fields.iter().filter(|(_, value)| !value.is_null());
            let plain = |value: &Json| match value {
                Json::Number(number) => number.to_string().into(),
                other => other.clone(),
            };
            let record = Record {
                version: row[1].as_i64().context("the version of a record")?,
                fields: filled.map(|(name, value)| (name.clone(), plain(value))).collect(),
                links: links(&row[3]),
            };
            contents.records.insert(text(&row[0]), record);
        }
        for row in self.lines(
            "SELECT json_build_array(key, kind) FROM crossdock.evidence WHERE NOT withdrawn",
        )? {
            contents.evidence.entry(text(&row[0])).or_default().insert(text(&row[1]));
        }
        for row in self.lines(
            "SELECT json_build_array(kind, coalesce(key, text)) FROM crossdock.exception
             WHERE open",
        )? {
            contents.exceptions.insert(format!("{} {}", text(&row[0]), text(&row[1])));
        }
        for row in self.lines(
            "SELECT json_build_array(table_name, pk) FROM crossdock.source_row
             WHERE waiting_for <> '[]'",
        )? {
            contents.parked.push(format!("{} {}", text(&row[0]), text(&row[1])));
        }
        Ok(contents)
    }

    fn lines(&self, query: &str) -> Result<Vec<Json>> {
        let answer = self.0.sql("canonical", query)?;
        let lines = answer.lines().filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str(line).context("a line of the store")).collect()
    }
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or_default().to_string()
}

/// Links by name: the store keeps entity and key of each.
fn links(value: &Json) -> BTreeMap<String, String> {
    let Some(links) = value.as_object() else { return BTreeMap::new() };
    let key = |link: &Json| link.get("key").map_or_else(|| link.to_string(), text);
    links.iter().map(|(name, link)| (name.clone(), key(link))).collect()
}
