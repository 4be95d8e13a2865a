//! What can't be polled is said, with the object and the remedy; and what `check` finds.

use crossdock_capture::{CaptureError, DatabaseKind, Memory, Severity, SourceOptions, Start};
use crossdock_model::Position;

use super::{Db, Rig, on_both, settings};

on_both!(
    a_cursor_that_went_is_named,
    keys_that_do_not_do_are_refused,
    check_says_what_is_needed,
    a_place_of_a_log_is_refused,
);

fn definite(error: &CaptureError) -> (String, String) {
    match error {
        CaptureError::Definite { what, remedy } => (what.clone(), remedy.clone()),
        other => panic!("{other:?}"),
    }
}

async fn a_cursor_that_went_is_named(kind: DatabaseKind) {
    let db = Db::new(
        kind,
        "polled_gone",
        "CREATE TABLE t (id int PRIMARY KEY, version bigint NOT NULL);
         CREATE VIEW seen AS SELECT id, version FROM t;",
        &["seen"],
    );
    let mut rig = Rig::snapshot(&db.options("seen", &["id"], &["version"])).await;
    db.sql("DROP VIEW seen; CREATE VIEW seen AS SELECT id, version AS changed FROM t;");
    if kind == DatabaseKind::Postgres {
        db.sql("GRANT SELECT ON seen TO onlooker");
    }
    // Between the two there may be no view at all.
    let (what, remedy) = loop {
        let (what, remedy) = definite(&rig.error().await);
        if what.contains("no column") {
            break (what, remedy);
        }
        rig.restart().await;
    };
    let table = db.table("seen");
    assert_eq!(what, format!("source legacy: {table} has no column version, its `cursor`"));
    assert!(remedy.contains(&format!("[source.legacy.poll.\"{table}\"]")), "{remedy}");
    db.sql("DROP VIEW seen");
    let mut rig = Rig::open(&rig.options, Start::After(rig.position.unwrap()), rig.memory).await;
    let (what, _) = definite(&rig.error().await);
    assert!(what.contains(&format!("{table}, which is polled, does not exist")), "{what}");
}

async fn keys_that_do_not_do_are_refused(kind: DatabaseKind) {
    let db = Db::new(
        kind,
        "polled_keys",
        "CREATE TABLE t (id int, part int, version bigint NOT NULL, doc json);
         INSERT INTO t VALUES (1, 1, 1, '{}'), (1, 2, 2, '{}'), (2, NULL, 3, '{}');",
        &["t"],
    );
    for (key, expected) in [
        (&["id"][..], "two rows of DB.t have the same `key`"),
        (&["id", "part"], "DB.t has a row with NULL in its `key`"),
    ] {
        let options = db.options("t", key, &["version"]);
        let mut rig = Rig::open(&options, Start::Snapshot, Memory::default()).await;
        let (what, _) = definite(&rig.error().await);
        let expected = expected.replace("DB.t", &db.table("t").to_string());
        assert_eq!(what, format!("source legacy: {expected}"));
    }
    if kind == DatabaseKind::Postgres {
        let options = db.options("t", &["id"], &["doc"]);
        let mut rig = Rig::open(&options, Start::Snapshot, Memory::default()).await;
        let (what, _) = definite(&rig.error().await);
        assert!(what.contains("t.doc, its `cursor`, is of a type whose values have no order"));
    }
}

async fn findings(options: &SourceOptions) -> (Vec<String>, Vec<String>, Vec<String>) {
    let found = crossdock_capture::check(options).await.unwrap();
    let of = |severity| {
        let fit = found.iter().filter(|finding| finding.severity == severity);
        fit.map(|finding| format!("{} > {}", finding.what, finding.remedy)).collect()
    };
    (of(Severity::Error), of(Severity::Warning), of(Severity::Ok))
}

async fn check_says_what_is_needed(kind: DatabaseKind) {
    let db = Db::new(
        kind,
        "polled_check",
        "CREATE TABLE t (id int PRIMARY KEY, part int, version bigint, hidden int);
         CREATE TABLE closed (id int PRIMARY KEY, version bigint);
         CREATE VIEW seen AS SELECT part, version FROM t;
         INSERT INTO t VALUES (1, 1, NULL, 1), (2, 1, 2, 1);",
        &["t", "seen"],
    );
    let (t, seen) = (db.table("t"), db.table("seen"));
    let mut options = db.options("t", &["id"], &["version"]);
    let (errors, warnings, ok) = findings(&options).await;
    assert_eq!(errors, [""; 0]);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].starts_with(&format!("{t} has rows with NULL in its cursor (version)")));
    assert!(warnings[1].contains("begins with version") && warnings[1].contains("CREATE INDEX"));
    assert!(warnings[2].starts_with(&format!("{t} is never reconciled")), "{warnings:?}");
    assert!(ok.iter().any(|ok| ok.contains("no right but SELECT is needed")), "{ok:?}");
    assert!(ok.iter().any(|ok| ok.contains("unique by an index")), "{ok:?}");

    db.sql("CREATE INDEX by_version ON t (version); UPDATE t SET version = 1");
    settings(&mut options).reconcile = Some(std::time::Duration::from_secs(60));
    let (errors, warnings, _) = findings(&options).await;
    assert_eq!((errors.len(), warnings.len()), (0, 0), "{warnings:?}");

    let (errors, ..) = findings(&db.options("seen", &["part"], &["version"])).await;
    assert_eq!(
        errors,
        [format!(
            "{seen} has rows with the same key (part) > name columns that tell its rows apart"
        )]
    );
    let (errors, ..) = findings(&db.options("seen", &["part"], &["changed"])).await;
    assert!(errors[0].contains("has no column changed, its `cursor`"), "{errors:?}");
    let (errors, ..) = findings(&db.options("closed", &["id"], &["version"])).await;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("GRANT SELECT ON"), "{errors:?}");
    // What it says is enough.
    let grant = errors[0].split("GRANT").skip(1).map(|rest| format!("GRANT{rest}"));
    db.sql(&grant.collect::<String>());
    assert_eq!(findings(&db.options("closed", &["id"], &["version"])).await.0, [""; 0]);
    let (errors, ..) = findings(&db.options("absent", &["id"], &["version"])).await;
    assert!(errors[0].contains("absent does not exist"), "{errors:?}");
}

async fn a_place_of_a_log_is_refused(kind: DatabaseKind) {
    let table = "CREATE TABLE t (id int PRIMARY KEY, version bigint)";
    let db = Db::new(kind, "polled_place", table, &["t"]);
    let options = db.options("t", &["id"], &["version"]);
    let start = Start::After(Position::Postgres { lsn: 7 });
    let Err(error) = crossdock_capture::open(&options, start, Memory::default()).await else {
        panic!("it was opened")
    };
    assert!(error.to_string().contains("0/7 is no place of a polled source"), "{error}");
}
