//! `kill -9` at random moments: the final state equals what the workload's own account says, and
//! what an undisturbed run ends with. Then everything is replayed, and nothing changes.
//!
//! `CRASH_KILLS` sets the number of kills, `CRASH_SEED` repeats a run.

use std::path::Path;
use std::thread;
use std::time::Duration;

use crossdock_demo::expect::Model;
use crossdock_demo::systems::{Systems, TmsKind};
use crossdock_demo::verify::{all_ok, table, verify};
use crossdock_demo::workload::{Ports, Workload};
use crossdock_demo::{demo, seed};
use crossdock_harness::{free_port, wait_until};
use crossdock_tests::Crossdock;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::stage::{demo_config, environment};

const KILLS: u32 = 30;
const SETTLE: Duration = Duration::from_secs(240);

#[test]
fn killed_at_random_moments_it_ends_like_an_undisturbed_run() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let kills = setting("CRASH_KILLS").map_or(KILLS, |n| u32::try_from(n).unwrap());
    let random = setting("CRASH_SEED").unwrap_or_else(|| rand::rng().random());
    eprintln!("CRASH_SEED={random} CRASH_KILLS={kills}");
    let orders = 30 + 2 * kills;

    let undisturbed = {
        let run = Run::new();
        let mut crossdock = run.crossdock();
        crossdock.start().unwrap();
        crossdock.wait_caught_up(SETTLE).unwrap();
        let model = play(&run.systems, random, orders, Duration::ZERO);
        crossdock.wait_caught_up(SETTLE).unwrap();
        run.judge(&model, &crossdock);
        let state = run.state();
        assert!(crossdock.stop().unwrap(), "{}", crossdock.log_tail());
        state
    };

    let run = Run::new();
    let mut crossdock = run.crossdock();
    // First within the snapshot, then (a snapshot commits no violations) within the workload.
    let in_snapshot = kills.div_ceil(10);
    kill_again_and_again(&mut crossdock, random, in_snapshot);
    crossdock.start().unwrap();
    crossdock.wait_caught_up(SETTLE).unwrap();
    crossdock.kill();
    let model = thread::scope(|scope| {
        let pause = Duration::from_millis(u64::from(kills) * 1_000 / u64::from(orders));
        let systems = &run.systems;
        let played = scope.spawn(move || play(systems, random, orders, pause));
        kill_again_and_again(&mut crossdock, random + 1, kills - in_snapshot);
        played.join().unwrap()
    });
    crossdock.start().unwrap();
    crossdock.wait_caught_up(SETTLE).unwrap();
    run.judge(&model, &crossdock);
    same(&undisturbed, &run.state());

    replay_changes_nothing(&run, &mut crossdock, &model);
    assert!(crossdock.stop().unwrap(), "{}", crossdock.log_tail());
}

/// Rewinds the integration and a target to their beginning, then a source by time, while running.
fn replay_changes_nothing(run: &Run, crossdock: &mut Crossdock, model: &Model) {
    let before = (run.state(), run.versions());
    let operate = |crossdock: &Crossdock, arguments: &[&str]| {
        let output = crossdock.run(arguments).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    };
    operate(crossdock, &["checkpoints", "save", "before-replay"]);
    operate(crossdock, &["rewind", "--integrate", "--to", "0"]);
    operate(crossdock, &["rewind", "--target", "erp", "--to", "1"]);
    crossdock.wait_caught_up(SETTLE).unwrap();
    operate(crossdock, &["rewind", "--source", "wms_eu", "--to", "2h"]);
    operate(crossdock, &["rewind", "--target", "wms_eu", "--to", "before-replay"]);
    crossdock.wait_caught_up(SETTLE).unwrap();
    run.judge(model, crossdock);
    same(&before.0, &run.state());
    assert_eq!(before.1, run.versions(), "a replay makes no new versions and no new deliveries");
}

fn kill_again_and_again(crossdock: &mut Crossdock, random: u64, kills: u32) {
    let mut rng = StdRng::seed_from_u64(random);
    for _ in 0..kills {
        crossdock.start().unwrap();
        // From the middle of the start to the middle of the work.
        let life = match rng.random_range(0..4) {
            0 => rng.random_range(5..300),
            _ => rng.random_range(300..2_000),
        };
        thread::sleep(Duration::from_millis(life));
        crossdock.kill();
    }
}

fn play(systems: &Systems, random: u64, orders: u32, pause: Duration) -> Model {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut workload = Workload::new(random, Ports::from(systems));
        for _ in 0..orders {
            workload.round(true).await.unwrap();
            tokio::time::sleep(pause).await;
        }
        workload.finish().await.unwrap();
        workload.model().clone()
    })
}

/// The systems with their history, and a place for Crossdock.
struct Run {
    systems: Systems,
    folder: tempfile::TempDir,
    port: u16,
}

impl Run {
    fn new() -> Self {
        let systems = demo::start_systems(TmsKind::Mariadb).unwrap();
        Self { systems, folder: tempfile::tempdir().unwrap(), port: free_port().unwrap() }
    }

    fn crossdock(&self) -> Crossdock {
        let state = self.folder.path().join("state");
        let env = environment(&self.systems, &state, self.port);
        Crossdock::new(Path::new(&demo_config()), &env, self.port, self.folder.path())
    }

    /// Compares with the account of the workload. What a target was just told may still be on its
    /// way back, so a difference must last to count.
    fn judge(&self, model: &Model, crossdock: &Crossdock) {
        let mut checks = Vec::new();
        let agreed = wait_until(Duration::from_secs(20), || {
            checks = verify(&self.systems, model).unwrap();
            all_ok(&checks)
        });
        assert!(agreed, "{}\n{}", table(&checks), crossdock.log_tail());
        assert!(!crossdock.log_tail().contains("panicked"), "{}", crossdock.log_tail());
        let status = crossdock.status().unwrap();
        assert_eq!(status["echo_leaked_total"], 0, "{status:#}");
    }

    /// The final state of every store, without what depends on when things were done.
    fn state(&self) -> Vec<(&'static str, String)> {
        let store = |sql| self.systems.store.sql("canonical", sql).unwrap();
        let erp = |sql| self.systems.erp.sql("erp", sql).unwrap();
        vec![
            (
                "records",
                store(
                    "SELECT entity, key, deleted, fields, links FROM crossdock.record ORDER BY 1, 2",
                ),
            ),
            (
                "evidence",
                store(
                    // A cancellation has no time of its own: it takes that of its commit.
                    "SELECT entity, key, kind, source, authority, withdrawn,
                            CASE WHEN kind <> 'shipment.cancelled' THEN event_time END
                     FROM crossdock.evidence ORDER BY 1, 2, 3, 4, 7",
                ),
            ),
            (
                "releases",
                store(
                    "SELECT rule, business_key, unmet, released FROM crossdock.release ORDER BY 1, 2",
                ),
            ),
            (
                "exceptions",
                store(
                    "SELECT kind, entity, key, source FROM crossdock.exception WHERE open
                     ORDER BY 1, 2, 3, 4",
                ),
            ),
            (
                "accruals",
                erp("SELECT shipment_no, charge_code, cost_version, amount, currency
                     FROM freight_accruals ORDER BY 1, 2, 3"),
            ),
        ]
    }

    /// Counts that only grow: a replay must not move them.
    fn versions(&self) -> String {
        let sql = "SELECT (SELECT sum(version) FROM crossdock.record),
                          (SELECT count(*) FROM crossdock.history),
                          (SELECT count(*) FROM crossdock.delivery),
                          (SELECT sum(count) FROM crossdock.exception)";
        let store = self.systems.store.sql("canonical", sql).unwrap();
        store + "|" + &self.systems.erp.sql("erp", "SELECT count(*) FROM crossdock_inbox").unwrap()
    }
}

fn same(expected: &[(&str, String)], found: &[(&str, String)]) {
    for ((name, expected), (_, found)) in expected.iter().zip(found) {
        let missing = expected.lines().filter(|line| !found.lines().any(|l| l == *line));
        let missing: Vec<_> = missing.take(5).collect();
        let extra = found.lines().filter(|line| !expected.lines().any(|l| l == *line));
        let extra: Vec<_> = extra.take(5).collect();
        assert!(expected == found, "{name} differ; missing: {missing:#?}; extra: {extra:#?}");
    }
}

#[test]
fn the_account_of_the_history_is_not_empty() {
    // Guards the oracle itself: an account that counts nothing would agree with anything.
    let model = seed::model();
    assert!(format!("{model:?}").len() > 100_000);
}
