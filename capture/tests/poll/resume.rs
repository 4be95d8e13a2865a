//! Killed at any point, with a memory that lags behind what was handed over: every row ends as the
//! source has it.

use crossdock_capture::DatabaseKind;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Db, Rig, on_both};

on_both!(every_row_ends_as_the_source_has_it);

async fn every_row_ends_as_the_source_has_it(kind: DatabaseKind) {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let series = match kind {
        DatabaseKind::Postgres => "generate_series(1, 4000) AS s(seq)",
        _ => "seq_1_to_4000",
    };
    let db = Db::new(
        kind,
        "polled_resume",
        &format!(
            "CREATE TABLE t (id int PRIMARY KEY, version bigint NOT NULL, v int, w text);
             INSERT INTO t SELECT seq, seq, 0, repeat('w', 60) FROM {series};"
        ),
        &["t"],
    );
    let options = db.options("t", &["id"], &["version"]);
    let start = crossdock_capture::Start::Snapshot;
    let mut rig = Rig::open(&options, start, Default::default()).await;
    let mut version = 4_000;
    for _ in 0..40 {
        for _ in 0..random.random_range(0..12) {
            let save = random.random_bool(0.3);
            rig.block(save).await.unwrap();
        }
        version += 1;
        let from = random.random_range(1..4_500);
        let to = from + random.random_range(1..600);
        db.sql(&format!(
            "UPDATE t SET version = {version}, v = v + 1 WHERE id BETWEEN {from} AND {to}"
        ));
        if random.random_bool(0.4) {
            rig.restart().await;
        }
    }
    version += 1;
    db.sql(&format!("INSERT INTO t VALUES (99999, {version}, 0, 'end')"));
    rig.until(|rig| rig.seen.iter().any(|seen| seen.key == "99999")).await;
    rig.rounds(3).await;
    let mut expected: Vec<String> = db
        .sql("SELECT id, version, v, w FROM t")
        .lines()
        .map(|line| line.replace('\t', "|"))
        .collect();
    let mut rows = rig.rows();
    expected.sort();
    rows.sort();
    assert_eq!(rows.len(), expected.len(), "seed {seed}");
    assert!(rows == expected, "seed {seed}");
}
