//! What the store needs besides batches: parts for its history, and views that people read.

use std::sync::Arc;
use std::time::Duration;

use crossdock_apply::store::{ColumnKind, EntityView};
use crossdock_apply::{CanonicalStore, PostgresStore};
use crossdock_model::canonical::{HistoryEntry, Name, Needs, Origin, Outcome, Record, RecordKey};
use crossdock_model::{Named, Value};

use crate::support::{postgres, postgres_database};

fn key(key: &str) -> RecordKey {
    RecordKey { entity: "parcel".into(), key: key.into() }
}

fn parcel(number: &str, weight: &str, sent: bool) -> Record {
    let text = |text: &str| Value::Text(text.to_string().into());
    let fields = [
        ("at", text("2026-03-29T01:30:00Z")),
        ("number", text(number)),
        ("sent", Value::Bool(sent)),
        ("weight", Value::Decimal(weight.to_string().into())),
    ];
    Record {
        key: key(number),
        version: 1,
        deleted: false,
        fields: fields.into_iter().map(|(name, value)| (Name::from(name), value)).collect(),
        origins: Named::new(),
        links: Named::new(),
    }
}

fn version(number: u64) -> HistoryEntry {
    HistoryEntry {
        record: key("P1"),
        version: number,
        source: "wms".into(),
        transaction: "tx".into(),
        position: "0/1".into(),
        commit_micros: 1_795_414_530_500_000,
        changes: r#"{"weight": [null, "1"]}"#.into(),
    }
}

fn view(fields: &[(&str, ColumnKind)]) -> EntityView {
    let fields = fields.iter().map(|(name, kind)| (Name::from(*name), *kind)).collect();
    EntityView { entity: "parcel".into(), fields }
}

#[tokio::test]
async fn history_is_in_parts_by_month_and_old_ones_are_dropped() {
    let options = postgres_database("upkeep_history");
    let mut store = PostgresStore::open(&options, "test").await.unwrap();
    store.keep_history(None).await.unwrap();
    let ask = |sql: &str| postgres().sql("upkeep_history", sql).unwrap();
    // This month is in the part that was there first; three are made ahead.
    let parts =
        "SELECT count(*), max(upto) > now() + interval '85 days' FROM crossdock.history_parts()";
    assert_eq!(ask(parts), "4|t");
    store.keep_history(None).await.unwrap();
    assert_eq!(ask(parts), "4|t", "nothing to do is nothing done");
    let outcome = Outcome { history: vec![version(1), version(2)], ..Outcome::default() };
    store.commit(&outcome, &[], "rules").await.unwrap();
    // A part of the past, as a store that has been there for long has it.
    ask("ALTER TABLE crossdock.history DETACH PARTITION crossdock.history_first");
    ask("CREATE TABLE crossdock.history_2025_01 PARTITION OF crossdock.history
           FOR VALUES FROM ('2025-01-01Z') TO ('2025-02-01Z');
         INSERT INTO crossdock.history (entity, key, version, source, transaction, position,
           committed_at, ruleset, changes, at)
           SELECT entity, key, version, source, transaction, position, committed_at, ruleset,
                  changes, '2025-01-15Z' FROM crossdock.history_first");
    store.keep_history(None).await.unwrap();
    let count = "SELECT count(*) FROM crossdock.history";
    assert_eq!(ask(count), "2", "without a limit everything stays");
    store.keep_history(Some(Duration::from_secs(36_500 * 86_400))).await.unwrap();
    assert_eq!(ask(count), "2", "younger than the limit");
    store.keep_history(Some(Duration::from_secs(31 * 86_400))).await.unwrap();
    assert_eq!(ask(count), "0");
    assert_eq!(ask("SELECT to_regclass('crossdock.history_2025_01') IS NULL"), "t");
    // The month of today has a part again, since the first one is gone.
    store.commit(&outcome, &[], "rules").await.unwrap();
    assert_eq!(ask(count), "2");
}

#[tokio::test]
async fn each_entity_has_a_view_with_typed_columns_that_follows_its_changes() {
    let options = postgres_database("upkeep_views");
    let mut store = PostgresStore::open(&options, "test").await.unwrap();
    let records = vec![
        parcel("P1", "2.50", true),
        parcel("P2", "10", false),
        Record { deleted: true, ..parcel("P3", "7", true) },
    ];
    let records = records.into_iter().map(Arc::new).collect();
    let outcome = Outcome { records, ..Outcome::default() };
    store.commit(&outcome, &[], "rules").await.unwrap();
    let ask = |sql: &str| postgres().sql("upkeep_views", sql).unwrap();
    let first = view(&[("number", ColumnKind::Text), ("weight", ColumnKind::Number)]);
    assert!(store.show_entities(std::slice::from_ref(&first)).await.unwrap().is_empty());
    assert_eq!(ask("SELECT sum(weight), count(*) FROM crossdock.e_parcel"), "12.5|2");
    let all = view(&[
        ("at", ColumnKind::Instant),
        ("number", ColumnKind::Text),
        ("sent", ColumnKind::Boolean),
        ("weight", ColumnKind::Number),
    ]);
    assert!(store.show_entities(std::slice::from_ref(&all)).await.unwrap().is_empty());
    let sent = "SELECT record_key, at AT TIME ZONE 'UTC', record_version
                FROM crossdock.e_parcel WHERE sent";
    assert_eq!(ask(sent), "P1|2026-03-29 01:30:00|1");
    // Somebody's report depends on it: it stays as it is, and that is said.
    ask("CREATE VIEW public.heavy AS SELECT * FROM crossdock.e_parcel WHERE weight > 5");
    assert!(store.show_entities(&[all]).await.unwrap().is_empty(), "nothing has changed");
    let left = store.show_entities(std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(left, [Name::from("parcel")]);
    assert_eq!(ask("SELECT number FROM public.heavy"), "P2");
    ask("DROP VIEW public.heavy");
    assert!(store.show_entities(&[first]).await.unwrap().is_empty());
    // An entity that is gone takes its view with it.
    assert!(store.show_entities(&[]).await.unwrap().is_empty());
    assert_eq!(ask("SELECT to_regclass('crossdock.e_parcel') IS NULL"), "t");
}

/// The schema as it was before origins were kept together.
const VERSION_8: [&str; 8] = [
    include_str!("../src/store/migrations/0001_first.sql"),
    include_str!("../src/store/migrations/0002_subjects.sql"),
    include_str!("../src/store/migrations/0003_deadlines.sql"),
    include_str!("../src/store/migrations/0004_ruleset_change.sql"),
    include_str!("../src/store/migrations/0005_rate_guards.sql"),
    include_str!("../src/store/migrations/0006_parked.sql"),
    include_str!("../src/store/migrations/0007_history_by_month.sql"),
    include_str!("../src/store/migrations/0008_evidence_recorded.sql"),
];

#[tokio::test]
async fn origins_of_an_older_store_are_brought_together() {
    let options = postgres_database("upkeep_origins");
    let ask = |sql: &str| postgres().sql("upkeep_origins", sql).unwrap();
    ask("CREATE SCHEMA crossdock");
    VERSION_8.iter().for_each(|migration| _ = ask(migration));
    ask("INSERT INTO crossdock.meta (schema_version, epoch, installation) VALUES (8, 1, 'test')");
    ask(r#"INSERT INTO crossdock.record (entity, key, version, deleted, links, fields, origins)
           VALUES ('parcel', 'P0', 1, false, '{}', '{}', '{}'), ('parcel', 'P1', 2, false, '{}',
             '{"weight": "1", "depot": "HH", "status": "sent"}',
             '{"weight": {"source": "erp", "at": "01", "rule": "r:3"},
               "status": {"source": "crossdock", "at": "", "rule": "life", "inferred": ["packed"]},
               "depot": {"source": "erp", "at": "01", "rule": "r:3"}}')"#);
    ask(r"INSERT INTO crossdock.contribution VALUES
           ('parcel', 'P1', 'erp', 'public.parcels', '1', '\x01', '{}', repeat('0', 40))");
    let mut store = PostgresStore::open(&options, "test").await.unwrap();
    let needs = Needs { records: vec![key("P0"), key("P1")], ..Needs::default() };
    let loaded = store.load(&needs).await.unwrap().records;
    assert_eq!(loaded[1].1.contributions.len(), 1);
    assert!(loaded[0].1.apart && loaded[1].1.apart, "what is said stays where it was");
    let origins = |at: usize| loaded[at].1.record.as_ref().unwrap().origins.clone();
    assert_eq!(origins(0), Named::new());
    let by_erp = Origin::new("erp".into(), "01".into(), "r:3".into());
    let mut by_life = Origin::new("crossdock".into(), "".into(), "life".into());
    by_life.inferred = vec!["packed".into()];
    let expected = [("depot", by_erp.clone()), ("status", by_life), ("weight", by_erp)];
    assert_eq!(origins(1), expected.map(|(field, origin)| (Name::from(field), origin)).into());
    assert_eq!(
        ask("SELECT key, field, source, at, rule FROM crossdock.v_origin ORDER BY field"),
        "P1|depot|erp|01|r:3\nP1|status|crossdock||life\nP1|weight|erp|01|r:3"
    );
    let inferred = "SELECT key, field, state, inferred FROM crossdock.v_inferred";
    assert_eq!(ask(inferred), "P1|status|sent|packed");
}
