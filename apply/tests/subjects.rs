//! What is registered is kept, once, whoever registers at the same time.

use crossdock_apply::PostgresStore;
use crossdock_apply::store::{StoredSubjects, StoredVersion};

use crate::support::postgres_database;

fn version(subject: &str, version: u32, id: u32) -> StoredVersion {
    let schema = format!("\"schema {id}\"");
    StoredVersion { subject: subject.into(), version, id, schema }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_registered_is_read_again_and_errors_keep_nothing() {
    let at = postgres_database("subjects_kept");
    let mut store = PostgresStore::open(&at, "test").await.unwrap();
    assert_eq!(store.subjects().await.unwrap(), StoredSubjects::default());
    let added = store.change_subjects(|s| {
        s.versions.push(version("a", 1, 1));
        s.levels.insert("a".into(), "FULL".into());
        Ok::<_, ()>(7)
    });
    assert_eq!(added.await.unwrap(), Ok(7));
    let refused = store.change_subjects(|s| {
        s.versions.push(version("a", 2, 2));
        Err::<(), _>("no")
    });
    assert_eq!(refused.await.unwrap(), Err("no"));
    let levelled = store.change_subjects(|s| {
        s.levels.insert("a".into(), "NONE".into());
        Ok::<_, ()>(())
    });
    levelled.await.unwrap().unwrap();
    let kept = PostgresStore::open_reader(&at).await.unwrap().subjects().await.unwrap();
    assert_eq!(kept.versions, [version("a", 1, 1)]);
    assert_eq!(kept.levels.get("a").map(String::as_str), Some("NONE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_register_at_once_take_turns() {
    let at = postgres_database("subjects_turns");
    drop(PostgresStore::open(&at, "test").await.unwrap());
    let register = |at: crossdock_apply::ConnectOptions| async move {
        let mut store = PostgresStore::open_reader(&at).await.unwrap();
        for _ in 0..20 {
            let next = store.change_subjects(|s| {
                let n = u32::try_from(s.versions.len()).unwrap() + 1;
                s.versions.push(version("a", n, n));
                Ok::<_, ()>(())
            });
            next.await.unwrap().unwrap();
        }
    };
    let all: Vec<_> = (0..4).map(|_| tokio::spawn(register(at.clone()))).collect();
    for one in all {
        one.await.unwrap();
    }
    let kept = PostgresStore::open_reader(&at).await.unwrap().subjects().await.unwrap();
    assert_eq!(kept.versions, (1..=80).map(|n| version("a", n, n)).collect::<Vec<_>>());
}
