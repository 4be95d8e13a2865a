//! What is known of a store's keys: never less than is there.

use crossdock_apply::store::{Asked, Presence};
use crossdock_apply::{CanonicalStore, PostgresStore};
use crossdock_model::canonical::{
    Contribution, Deadline, Needs, Outcome, Record, RecordKey, RowKey, SourceRow,
};
use crossdock_model::{LogOrder, Named};
use uuid::Uuid;

use crate::support::postgres_database;

fn row(pk: &str) -> RowKey {
    RowKey { source: "wms".into(), table: "wms.lines".into(), pk: pk.into() }
}

fn key(key: &str) -> RecordKey {
    RecordKey { entity: "parcel".into(), key: key.into() }
}

fn outcome(rows: &[&str], records: &[&str]) -> Outcome {
    let new_row = |pk: &&str| SourceRow {
        key: row(pk),
        image: Default::default(),
        at: LogOrder::default(),
        deleted: false,
        waiting_for: vec![],
        refers_to: vec![],
    };
    let record = |name: &&str| Record {
        key: key(name),
        version: 1,
        deleted: false,
        fields: Named::new(),
        origins: Named::new(),
        links: Named::new(),
    };
    Outcome {
        new_rows: rows.iter().map(new_row).map(std::sync::Arc::new).collect(),
        records: records.iter().map(record).map(std::sync::Arc::new).collect(),
        ..Outcome::default()
    }
}

fn needs(rows: &[&str], records: &[&str]) -> Needs {
    Needs {
        rows: rows.iter().map(|pk| row(pk)).collect(),
        records: records.iter().map(|name| key(name)).collect(),
        linking_to: vec![key("P9")],
        ..Needs::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_there_is_asked_for_and_nothing_else() {
    let options = postgres_database("presence");
    let mut store = PostgresStore::open(&options, "plant").await.unwrap();
    let mut empty = Presence::read(&mut store).await.unwrap();
    let all = needs(&["1", "2\0", "3"], &["P1", "P2\0", "P3", "P4"]);
    let asked = |rows, records, plain| Asked {
        needs: needs(rows, records),
        plain_records: needs(&[], plain).records,
    };
    assert_eq!(empty.asked(&all), asked(&[], &[], &[]));
    let mut first = outcome(&["1", "2\0"], &["P1", "P2\0"]);
    first.deadlines.push(Deadline {
        id: Uuid::from_u128(1),
        record: key("P3"),
        rule: "late".into(),
        due_micros: 0,
        raised: false,
        gone: false,
    });
    // What is said of the one stands with it, of the other apart.
    let said = |name| {
        std::sync::Arc::new(Contribution {
            record: key(name),
            row: row("1"),
            fields: Default::default(),
            links: Default::default(),
            at: LogOrder::default(),
            gone: false,
        })
    };
    first.new_contributions = vec![said("P1"), said("P4")];
    first.said.insert(key("P1"), vec![said("P1")]);
    store.commit(&first, &[], "r").await.unwrap();
    let there = asked(&["1", "2\0"], &["P3", "P4"], &["P1", "P2\0"]);
    let read = Presence::read(&mut store).await.unwrap();
    assert_eq!(read.asked(&all), there, "what is read");
    empty.put(&first);
    assert_eq!(empty.asked(&all), there, "what is put");
    let everything = Asked { needs: all.clone(), plain_records: vec![] };
    assert_eq!(Presence::default().asked(&all), everything, "nothing is known");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_store_with_too_many_keys_nothing_is_known() {
    let options = postgres_database("presence_many");
    let mut store = PostgresStore::open(&options, "plant").await.unwrap();
    let names: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    store.commit(&outcome(&names[..10], &names), &[], "r").await.unwrap();
    let all = needs(&["1", "other"], &["1", "other"]);
    let some = Presence::read_up_to(&mut store, 10).await.unwrap();
    assert_eq!(some.asked(&all).needs.rows, needs(&["1"], &[]).rows);
    assert_eq!(some.asked(&all).plain_records, all.records);
    let mut grown = Presence::read_up_to(&mut store, 40).await.unwrap();
    assert_eq!(grown.asked(&all).plain_records, needs(&[], &["1"]).records);
    let more: Vec<String> = (100..140).map(|n| n.to_string()).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    grown.put(&outcome(&[], &more));
    assert_eq!(grown.asked(&all).plain_records, all.records);
}
