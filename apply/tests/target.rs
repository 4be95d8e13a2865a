//! One contract for every target.

use crossdock_apply::target::Seen;
use crossdock_apply::{AnyTarget, ConnectOptions, DatabaseKind, Target, TargetBatch};
use crossdock_model::canonical::{RowWrite, WriteKind};
use crossdock_model::mark::{Mark, digest};
use crossdock_model::{TableName, Value};
use uuid::Uuid;

use crate::support::{mariadb, mariadb_database, postgres, postgres_database};

const TABLE: &str = "CREATE TABLE inbox (id int PRIMARY KEY, note varchar(10), \
                     qty decimal(20,3) CHECK (qty >= 0))";

struct Place {
    options: ConnectOptions,
    schema: String,
}

impl Place {
    fn sql(&self, sql: &str) -> String {
        match self.options.kind {
            DatabaseKind::Postgres => postgres().sql(&self.options.database, sql).unwrap(),
            _ => mariadb().sql(&self.options.database, sql).unwrap().replace('\t', "|"),
        }
        .trim()
        .to_string()
    }

    async fn connect(&self) -> AnyTarget {
        AnyTarget::connect(&self.options, "plant").await.unwrap()
    }

    fn write(&self, kind: WriteKind, id: i64, columns: &[(&str, Value<'static>)]) -> RowWrite {
        RowWrite {
            table: TableName::new(&self.schema, "inbox"),
            kind,
            key: vec![("id".into(), Value::Int(id))],
            columns: columns.iter().map(|(n, v)| ((*n).into(), v.clone())).collect(),
        }
    }

    fn rows(&self) -> String {
        self.sql("SELECT id, coalesce(note, '-'), coalesce(qty, 0) FROM inbox ORDER BY id")
    }
}

fn places(name: &str) -> [Place; 2] {
    let postgres = Place { options: postgres_database(name), schema: "public".into() };
    let mariadb = Place { options: mariadb_database(name), schema: name.into() };
    [postgres, mariadb].map(|place| {
        place.sql(TABLE);
        place
    })
}

fn batch(upto: u64, writes: Vec<RowWrite>) -> TargetBatch {
    let writes = writes.into_iter().map(|w| (Uuid::from_u128(u128::from(upto)), w)).collect();
    TargetBatch { stream: "deliver".into(), upto, writes, ..TargetBatch::default() }
}

fn text(value: &str) -> Value<'static> {
    Value::Text(value.to_string().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_do_what_their_kind_says() {
    use WriteKind::{Delete, Insert, Update, Upsert};
    for place in places("t_kinds") {
        let mut target = place.connect().await;
        let qty = |q: &'static str| ("qty", Value::Decimal(q.into()));
        let note = |n: &str| ("note", text(n));
        let first = batch(
            1,
            vec![
                place.write(Insert, 1, &[note("a"), qty("1.5")]),
                place.write(Insert, 2, &[note("b"), qty("2")]),
                place.write(Insert, 1, &[note("twice"), qty("9")]),
                place.write(Upsert, 3, &[note("c")]),
            ],
        );
        assert_eq!(target.apply(&first).await.unwrap(), Some(3));
        assert_eq!(place.rows(), "1|a|1.500\n2|b|2.000\n3|c|".to_string() + zero(&place));
        let second = batch(
            2,
            vec![
                place.write(Insert, 1, &[note("late")]),
                place.write(Upsert, 2, &[note("B")]),
                place.write(Upsert, 2, &[note("BB")]),
                place.write(Upsert, 4, &[note("d")]),
                place.write(Update, 1, &[qty("7")]),
                place.write(Update, 99, &[qty("7")]),
                place.write(Update, 3, &[("note", Value::Null), qty("0")]),
                place.write(Delete, 4, &[]),
                place.write(Delete, 98, &[]),
            ],
        );
        target.apply(&second).await.unwrap();
        assert_eq!(place.rows(), "1|a|7.000\n2|BB|2.000\n3|-|0.000");
        assert_eq!(target.progress("deliver").await.unwrap().unwrap().seq, 2);
    }
}

fn zero(place: &Place) -> &'static str {
    match place.options.kind {
        DatabaseKind::Postgres => "0",
        _ => "0.000",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_applied_once() {
    for place in places("t_once") {
        let mut target = place.connect().await;
        assert_eq!(target.progress("deliver").await.unwrap(), None);
        let write = |id, n: &str| vec![place.write(WriteKind::Upsert, id, &[("note", text(n))])];
        assert_eq!(target.apply(&batch(5, write(1, "a"))).await.unwrap(), Some(1));
        assert_eq!(target.apply(&batch(5, write(1, "b"))).await.unwrap(), None);
        assert_eq!(target.apply(&batch(4, write(2, "b"))).await.unwrap(), None);
        assert_eq!(place.sql("SELECT id, note FROM inbox"), "1|a");
        // Another stream has progress of its own; a new connection finds it all.
        let other = TargetBatch { stream: "mirror".into(), ..batch(1, write(7, "m")) };
        assert_eq!(target.apply(&other).await.unwrap(), Some(1));
        drop(target);
        let mut target = place.connect().await;
        let progress = target.progress("deliver").await.unwrap().unwrap();
        assert_eq!(progress.seq, 5);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let age = i64::try_from(now.as_micros()).unwrap() - progress.applied_micros;
        assert!((0..60_000_000).contains(&age), "{age}");
        assert_eq!(target.progress("mirror").await.unwrap().unwrap().seq, 1);
        assert_eq!(target.apply(&batch(5, write(1, "c"))).await.unwrap(), None);
        assert_eq!(target.rewind("deliver", 4).await.unwrap(), Some(5));
        assert_eq!(target.rewind("nobody", 4).await.unwrap(), None);
        assert_eq!(target.apply(&batch(5, write(1, "d"))).await.unwrap(), Some(1));
        assert_eq!(place.sql("SELECT note FROM inbox WHERE id = 1"), "d");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_whole_or_not_there() {
    for place in places("t_whole") {
        let mut target = place.connect().await;
        let write = |id, q: &str| {
            let qty = Value::Decimal(q.to_string().into());
            place.write(WriteKind::Insert, id, &[("qty", qty)])
        };
        let bad = batch(1, vec![write(1, "1"), write(2, "-1"), write(3, "3")]);
        let error = target.apply(&bad).await.unwrap_err();
        assert!(!error.is_transient(), "{error}");
        assert_eq!(place.sql("SELECT count(*) FROM inbox"), "0");
        assert_eq!(target.progress("deliver").await.unwrap(), None);
        let long = place.write(WriteKind::Insert, 1, &[("note", text("longer than ten"))]);
        let error = target.apply(&batch(1, vec![long])).await.unwrap_err();
        assert!(!error.to_string().contains("longer"), "{error}");
        let mut strange = write(1, "1");
        strange.table = TableName::new(&place.schema, "nowhere");
        let error = target.apply(&batch(1, vec![strange])).await.unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
        target.apply(&batch(1, vec![write(1, "1")])).await.unwrap();
        assert_eq!(place.sql("SELECT count(*) FROM inbox"), "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_appliers_never_both_apply() {
    for place in places("t_two") {
        let mut appliers = Vec::new();
        for _ in 0..4 {
            appliers.push(place.connect().await);
        }
        let count = place.write(WriteKind::Insert, 1, &[("note", text("x"))]);
        let running: Vec<_> = appliers
            .into_iter()
            .map(|mut target| {
                let batch = batch(1, vec![count.clone()]);
                tokio::spawn(async move { target.apply(&batch).await })
            })
            .collect();
        let mut applied = 0;
        for result in running {
            applied += result.await.unwrap().unwrap().unwrap_or(0);
        }
        assert_eq!(applied, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_batches_take_few_statements() {
    for place in places("t_large") {
        let mut target = place.connect().await;
        let rows = |n: &str| -> Vec<RowWrite> {
            let note = text(n);
            (0..6_003)
                .map(|id| place.write(WriteKind::Upsert, id, &[("note", note.clone())]))
                .collect()
        };
        assert_eq!(target.apply(&batch(1, rows("a"))).await.unwrap(), Some(6_003));
        assert_eq!(target.apply(&batch(2, rows("b"))).await.unwrap(), Some(6_003));
        assert_eq!(place.sql("SELECT count(*) FROM inbox WHERE note = 'b'"), "6003");
        let delete = (0..6_000).map(|id| place.write(WriteKind::Delete, id, &[])).collect();
        assert_eq!(target.apply(&batch(3, delete)).await.unwrap(), Some(6_000));
        assert_eq!(place.sql("SELECT count(*) FROM inbox"), "3");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mark_travels_with_the_rows() {
    let [place, maria] = places("t_mark");
    place.sql("SELECT pg_create_logical_replication_slot('t_mark', 'test_decoding')");
    for place in [&place, &maria] {
        let mut target = place.connect().await;
        let write = place.write(WriteKind::Upsert, 1, &[("note", text("a"))]);
        target.apply(&batch(1, vec![write.clone()])).await.unwrap();
        target.apply(&batch(1, vec![write])).await.unwrap();
    }
    let seen = place.sql("SELECT data FROM pg_logical_slot_get_changes('t_mark', NULL, NULL)");
    let message = seen.lines().find(|line| line.starts_with("message:")).unwrap();
    assert!(message.contains("prefix: crossdock"), "{message}");
    assert_eq!(seen.matches("message:").count(), 1, "{seen}");
    let in_postgres = Mark::from_json(message.split_once("content:").unwrap().1).unwrap();
    let stored = maria.sql("SELECT mark FROM crossdock_progress WHERE stream = 'deliver'");
    let in_mariadb = Mark::from_json(&stored).unwrap();
    for (mark, table) in [(in_postgres, "public.inbox"), (in_mariadb, "t_mark.inbox")] {
        assert_eq!(mark.by, "plant");
        let [row] = &mark.rows[..] else { panic!("{mark:?}") };
        assert_eq!((row.table.as_str(), row.key.join(",")), (table, "id".to_string()));
        assert_eq!(row.columns, ["id", "note"]);
        assert_eq!(row.values, digest([&Value::Int(1), &text("a")]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_seen_is_deleted() {
    for place in places("t_others") {
        place.sql("INSERT INTO inbox (id, note) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')");
        let mut target = place.connect().await;
        let seen = |key: &[&str]| Seen {
            table: TableName::new(&place.schema, "inbox"),
            key: key.iter().map(|name| (*name).into()).collect(),
        };
        // Again and again, as after an interruption.
        for _ in 0..2 {
            let table = seen(&["id"]);
            target.begin_seen(0, &table).await.unwrap();
            let keys = [2, 4, 4, 7].map(|id| vec![Value::Int(id)]);
            target.note_seen(0, &table, &keys).await.unwrap();
            target.note_seen(0, &table, &keys[..1]).await.unwrap();
            target.delete_others(0, &table).await.unwrap();
            assert_eq!(place.sql("SELECT id FROM inbox ORDER BY id"), "2\n4");
        }
        assert_eq!(target.delete_others(1, &seen(&[])).await.unwrap(), 2, "nothing was seen");
        assert_eq!(place.rows(), "");
    }
}

/// Two transactions that wait for each other: ours is the one that the server ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_tried_again_and_made_once() {
    let [place, _] = places("t_deadlock");
    place.sql("INSERT INTO inbox (id, note) VALUES (1, 'a'), (2, 'b')");
    // Whoever waits for so long looks for a deadlock.
    place.sql("ALTER DATABASE t_deadlock SET deadlock_timeout = '4s'");
    let mut target = place.connect().await;
    let how = format!("host=127.0.0.1 port={} user=postgres dbname=t_deadlock", postgres().port());
    let (other, connection) = tokio_postgres::connect(&how, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let first = "SET deadlock_timeout = '300s'; BEGIN; UPDATE inbox SET note = 'x' WHERE id = 2";
    other.batch_execute(first).await.unwrap();
    let write = |id| place.write(WriteKind::Update, id, &[("note", text("ours"))]);
    let both = batch(1, vec![write(1), write(2)]);
    let again = both.clone();
    let applying = tokio::spawn(async move { (target.apply(&both).await, target) });
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    let ours_waits = crossdock_harness::wait_until(std::time::Duration::from_secs(60), || {
        place.sql(waiting) == "1"
    });
    assert!(ours_waits);
    other.batch_execute("UPDATE inbox SET note = 'x' WHERE id = 1; COMMIT").await.unwrap();
    let (applied, mut target) = applying.await.unwrap();
    let error = applied.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("40P01"), "{error}");
    assert_eq!(place.rows(), "1|x|0\n2|x|0");
    assert_eq!(target.apply(&again).await.unwrap(), Some(2));
    assert_eq!(place.rows(), "1|ours|0\n2|ours|0");
}
