//! Deliveries that leave their order: who waits for whom, and what comes when.

use std::time::Duration;

use crossdock_apply::store::{ExceptionLine, Filter, Owed, Parking, RuleFilter};
use crossdock_apply::{CanonicalStore, PostgresStore};
use crossdock_model::canonical::{Delivery, Outcome, RecordKey};
use serde_json::json;
use uuid::Uuid;

use crate::support::postgres_database;

/// Owes deliveries to `erp`, each about a record: `(record, field that is reverted)`.
async fn owing(name: &str, deliveries: &[(&str, Option<&str>)]) -> PostgresStore {
    let options = postgres_database(name);
    let mut writer = PostgresStore::open(&options, "plant").await.unwrap();
    let owed = deliveries.iter().enumerate().map(|(at, (record, reverts))| Delivery {
        event_id: Uuid::from_u128(at as u128 + 1),
        target: "erp".into(),
        rule: "status".into(),
        record: RecordKey { entity: "shipment".into(), key: (*record).into() },
        writes: Vec::new(),
        reverts: reverts.map(Into::into),
        hops: 0,
    });
    let outcome = Outcome { deliveries: owed.collect(), ..Outcome::default() };
    writer.commit(&outcome, &[], "rules").await.unwrap();
    let mut store = PostgresStore::open_reader(&options).await.unwrap();
    assert!(store.claim_target("erp").await.unwrap());
    store
}

async fn owed(store: &mut PostgresStore) -> Vec<Owed> {
    store.owed("erp", &RuleFilter::all(), (0, u64::MAX), 100).await.unwrap()
}

async fn seqs(store: &mut PostgresStore) -> Vec<u64> {
    owed(store).await.iter().map(|o| o.seq).collect()
}

async fn again(store: &mut PostgresStore) -> Vec<(u64, u64)> {
    let due = store.due_again("erp", 100).await.unwrap();
    due.iter().map(|a| (a.number, a.owed.seq)).collect()
}

async fn open(store: &mut PostgresStore) -> Vec<ExceptionLine> {
    store.exceptions(&Filter { limit: 100, ..Filter::default() }).await.unwrap()
}

async fn park(store: &mut PostgresStore, owed: &Owed, parent: bool) {
    let parking = Parking { owed, parent, text: "refused", context: json!({}) };
    store.park(&parking).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_wait_and_come_in_order() {
    let records = ["a", "b", "a", "a", "b", "a"].map(|r| (r, None));
    let mut store = owing("p_order", &records).await;
    let all = owed(&mut store).await;
    park(&mut store, &all[0], false).await;
    assert_eq!(store.park_behind("erp", &[3, 4, 5]).await.unwrap(), [3, 4], "5 is not of a");
    assert_eq!(seqs(&mut store).await, [2, 5, 6]);
    assert_eq!(again(&mut store).await, []);
    let [one] = &open(&mut store).await[..] else { panic!() };
    assert_eq!((one.waiting, &*one.key), (2, "a"));

    assert_eq!(store.retry_exception(one, "anna").await.unwrap(), 3);
    assert_eq!(store.retry_exception(one, "anna").await.unwrap(), 0, "nothing is left to retry");
    assert_eq!(again(&mut store).await, [(1, 1), (2, 3), (3, 4)]);
    // What arrives meanwhile comes after them.
    assert_eq!(store.park_behind("erp", &[6]).await.unwrap(), [6]);
    assert_eq!(again(&mut store).await, [(1, 1), (2, 3), (3, 4), (4, 6)]);
    // The first is fine now, the second is not.
    store.again_done("erp", 1).await.unwrap();
    park(&mut store, &all[2], false).await;
    assert_eq!(again(&mut store).await, []);
    let [two] = &open(&mut store).await[..] else { panic!() };
    assert!(two.id != one.id && two.waiting == 2, "{two:?}");
    assert!(store.discard_exception(two, "wrong", "bert").await.unwrap());
    assert_eq!(again(&mut store).await, [(5, 4), (6, 6)]);
    store.again_done("erp", 6).await.unwrap();
    assert!(open(&mut store).await.is_empty());
    assert!(store.parked_records("erp").await.unwrap().is_empty());
    assert_eq!(store.exception_actions(two.id).await.unwrap()[0].by_person, "bert");
    assert_eq!(seqs(&mut store).await, [2, 5]);
    // After a rewind all come in their order, but for the discarded one.
    store.forget_applied("erp", 0).await.unwrap();
    assert_eq!(seqs(&mut store).await, [1, 2, 4, 5, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_delivers_to_a_target() {
    let mut store = owing("p_claim", &[("a", None)]).await;
    let mut other = PostgresStore::open_reader(&crate::support::reach("p_claim")).await.unwrap();
    assert!(!other.claim_target("erp").await.unwrap());
    assert!(other.claim_target("wms").await.unwrap());
    let all = owed(&mut store).await;
    drop(store);
    let mut taken = false;
    for _ in 0..200 {
        taken = taken || other.claim_target("erp").await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(taken);
    park(&mut other, &all[0], true).await;
    let refusals = other.refusals("erp").await.unwrap();
    assert_eq!((refusals.refused, refusals.parents), (0, 1));
    assert_eq!(other.retry_parents("erp", 10).await.unwrap(), 1);
    assert_eq!(again(&mut other).await, [(1, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reverts_without_end_are_withheld() {
    let revert = ("a", Some("incoterm"));
    let given = [revert, revert, ("a", Some("carrier")), revert, ("b", Some("incoterm")), revert];
    let mut store = owing("p_reverts", &given).await;
    let all = owed(&mut store).await;
    let mut withheld = Vec::new();
    let hour = Duration::from_secs(3_600);
    for owed in &all {
        if store.is_ping_pong(owed, 2, hour).await.unwrap() {
            store.withhold_revert(owed, 2).await.unwrap();
            withheld.push(owed.seq);
        }
    }
    assert_eq!(withheld, [4, 6], "two of `incoterm` of `a` were made");
    assert!(store.is_ping_pong(&all[5], 100, Duration::ZERO).await.unwrap(), "still one withheld");
    assert!(!store.is_ping_pong(&all[2], 1, hour).await.unwrap());
    assert!(store.parked_records("erp").await.unwrap().is_empty(), "others of `a` go on");
    let [one] = &open(&mut store).await[..] else { panic!() };
    assert_eq!((&*one.kind, one.count, one.waiting), ("revert_ping_pong", 2, 2));
    assert!(store.retry_exception(one, "anna").await.unwrap() > 0);
    assert_eq!(again(&mut store).await, [(1, 6)], "the last one alone");
    store.again_done("erp", 1).await.unwrap();
    assert!(open(&mut store).await.is_empty());
}
