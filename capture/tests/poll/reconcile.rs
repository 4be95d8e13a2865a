//! Reading all rows again.

use std::time::Duration;

use crossdock_capture::{CopyMessage, CopyState, DatabaseKind, Memory, Purpose, Start, TableCopy};
use crossdock_model::Op;

use super::{Db, Rig, on_both, settings};

on_both!(
    all_rows_come_again_when_it_is_time,
    somebody_asks_for_rows,
    without_memory_all_rows_come_again,
);

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, version bigint NOT NULL);
    INSERT INTO t VALUES (1, 1), (2, 2), (3, 3);";

async fn all_rows_come_again_when_it_is_time(kind: DatabaseKind) {
    let db = Db::new(kind, "polled_reconcile", TABLE, &["t"]);
    let mut options = db.options("t", &["id"], &["version"]);
    settings(&mut options).reconcile = Some(Duration::from_secs(1));
    let mut rig = Rig::snapshot(&options).await;
    db.sql("DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (4, 4)");
    rig.until(|rig| !rig.messages.is_empty()).await;
    let (message, at) = rig.messages[0].clone();
    let CopyMessage::Copied { table, purpose, filter, since } = message;
    assert_eq!((table, purpose, filter), (db.table("t"), Purpose::Resync, None));
    // Whatever is there lies between; what is gone was seen before only.
    let within =
        rig.seen.iter().filter(|seen| seen.op == Op::Read && seen.at.compare(&since).is_ge());
    let keys: Vec<&str> = within.map(|seen| &*seen.key).collect();
    assert_eq!(keys, ["1", "3", "4"]);
    assert!(rig.seen.iter().filter(|seen| seen.key == "2").all(|s| s.at.compare(&since).is_lt()));
    assert!(rig.seen.iter().all(|seen| seen.at.compare(&at).is_lt()));

    // A row that is back, as it was, comes again: it was deleted by those who read the message.
    let from = rig.seen.len();
    db.sql("INSERT INTO t VALUES (2, 2)");
    rig.until(|rig| rig.messages.len() == 2).await;
    assert!(rig.seen[from..].iter().any(|seen| seen.row == "2|2"));
}

/// As `crossdock snapshot start` does it, with a condition and without.
async fn somebody_asks_for_rows(kind: DatabaseKind) {
    let db = Db::new(kind, "polled_asked", TABLE, &["t"]);
    let mut rig = Rig::snapshot(&db.options("t", &["id"], &["version"])).await;
    for (filter, keys) in [(Some("id > 1 -- and"), vec!["2", "3"]), (None, vec!["1", "2", "3"])] {
        // While it is away, something changes that the condition leaves out.
        let changed = 10 + rig.messages.len();
        db.sql(&format!("UPDATE t SET version = {changed} WHERE id = 1"));
        let known = rig.memory.tables.pop().unwrap();
        let copy = TableCopy::new(db.table("t"), Purpose::Requested);
        let filter = filter.map(str::to_string);
        rig.memory.tables.push(TableCopy { filter: filter.clone(), cursor: known.cursor, ..copy });
        let (from, messages) = (rig.seen.len(), rig.messages.len());
        rig.restart().await;
        rig.until(|rig| rig.messages.len() > messages).await;
        let read = rig.seen[from..].iter().filter(|seen| seen.op == Op::Read);
        assert_eq!(read.map(|seen| &*seen.key).collect::<Vec<_>>(), keys);
        let CopyMessage::Copied { purpose, filter: said, .. } = rig.messages[messages].0.clone();
        let expected = if filter.is_some() { Purpose::Requested } else { Purpose::Resync };
        assert_eq!((purpose, said), (expected, filter));
        rig.until_row(from, &format!("1|{changed}")).await;
    }
    let known = rig.memory.tables.pop().unwrap();
    let copy = TableCopy::new(db.table("t"), Purpose::Requested);
    let filter = Some("nothing = 1".to_string());
    rig.memory.tables.push(TableCopy { filter, cursor: known.cursor, ..copy });
    rig.restart().await;
    let failed = |rig: &Rig| matches!(rig.memory.tables[0].state, CopyState::Failed(_));
    rig.until(failed).await;
    db.sql("INSERT INTO t VALUES (9, 99)");
    rig.until_row(0, "9|99").await;
}

/// Where rounds stood is not known any more: nothing may be missing, and what is gone is found.
async fn without_memory_all_rows_come_again(kind: DatabaseKind) {
    let db = Db::new(kind, "polled_forgotten", TABLE, &["t"]);
    let mut rig = Rig::snapshot(&db.options("t", &["id"], &["version"])).await;
    rig.rounds(2).await;
    db.sql("UPDATE t SET version = 9 WHERE id = 1; DELETE FROM t WHERE id = 3");
    // As the caller has it then: the table is taken for done.
    let copy = TableCopy::new(db.table("t"), Purpose::Added);
    rig.memory =
        Memory { server: None, tables: vec![TableCopy { state: CopyState::Done, ..copy }] };
    let from = rig.seen.len();
    rig.restart().await;
    rig.until(|rig| !rig.messages.is_empty()).await;
    let read = rig.seen[from..].iter().filter(|seen| seen.op == Op::Read);
    assert_eq!(read.map(|seen| &*seen.row).collect::<Vec<_>>(), ["1|9", "2|2"]);
    let CopyMessage::Copied { purpose, .. } = &rig.messages[0].0;
    assert_eq!(*purpose, Purpose::Resync);

    // A resync that somebody ordered, likewise; and its places lie beyond the old ones.
    let copy = TableCopy::new(db.table("t"), Purpose::Resync);
    let memory = Memory { server: None, tables: vec![copy] };
    rig.reader = crossdock_capture::open(&rig.options, Start::Now, memory).await.unwrap();
    rig.until(|rig| rig.messages.len() == 2).await;
}
