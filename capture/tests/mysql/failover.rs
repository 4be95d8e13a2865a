//! A replica takes over: reading goes on by GTID, and positions go on growing.

use std::time::Duration;

use crossdock_capture::{CaptureError, DatabaseKind, LogReader, Memory, Start, open};
use crossdock_harness::wait_until;
use crossdock_model::{LogOrder, Value};

use super::rig::{Rig, Server, on_both, options};

on_both!(a_replica_takes_over, without_gtids_another_server_is_a_gap);

const COUNTER: &str = "CREATE DATABASE wms; USE wms;
    CREATE TABLE counter(id INT PRIMARY KEY AUTO_INCREMENT, n INT) ENGINE=InnoDB;";

fn count(server: &Server, from: u32, to: u32) {
    let script: String =
        (from..to).map(|n| format!("INSERT INTO counter(n) VALUES ({n});\n")).collect();
    server.sql("wms", &script).unwrap();
}

fn follow(replica: &Server, primary: &Server) {
    let sql = match primary.is_mysql() {
        true => format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {},
             SOURCE_USER = 'root', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1;
             START REPLICA;",
            primary.port()
        ),
        false => format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'root',
             MASTER_USE_GTID = slave_pos; START SLAVE;",
            primary.port()
        ),
    };
    replica.sql("", &sql).unwrap();
}

async fn a_replica_takes_over(kind: DatabaseKind) {
    let (mut primary, replica) = (Server::start(kind), Server::start(kind));
    primary.sql("", COUNTER).unwrap();
    follow(&replica, &primary);
    // The primary's files have higher numbers than the replica's ever will.
    primary.sql("", "FLUSH BINARY LOGS; FLUSH BINARY LOGS; FLUSH BINARY LOGS").unwrap();
    let mut options = options(&primary, &["wms.counter"]);
    let mut rig = Rig::open(&options, None).await;
    rig.snapshot().await;
    count(&primary, 0, 20);
    rig.until(|rig| rig.events("counter").len() == 20).await;
    count(&primary, 20, 40);
    let there = || replica.sql("wms", "SELECT COUNT(*) FROM counter");
    assert!(wait_until(Duration::from_secs(60), || there().is_ok_and(|n| n.trim() == "40")));
    primary.kill();
    count(&replica, 40, 60);
    options.port = replica.port();
    rig.options = options;
    rig.reopen().await;
    rig.until(|rig| rig.events("counter").len() >= 60).await;
    let after = rig.durable.clone().unwrap();
    assert!(after.to_string().starts_with("1@"), "{after}");
    // Once more on the same server: its numbering is known.
    rig.reopen().await;
    count(&replica, 60, 70);
    replica.sql("", "FLUSH BINARY LOGS").unwrap();
    count(&replica, 70, 80);
    rig.until(|rig| rig.events("counter").len() >= 80).await;
    let numbers: Vec<_> =
        rig.events("counter").iter().map(|e| e.after.as_ref().unwrap().get(1).cloned()).collect();
    let all: Vec<_> = (0..80).map(|n| Some(Value::Int(n))).collect();
    assert_eq!(numbers, all);
    let orders: Vec<LogOrder> = rig.fragments.iter().map(|f| f.header.commit.order(0)).collect();
    assert!(orders.is_sorted(), "{orders:?}");
    let ends: Vec<LogOrder> = rig.blocks.iter().map(|b| b.end.order(0)).collect();
    assert!(ends.is_sorted(), "{ends:?}");
    assert!(rig.durable.as_ref().unwrap().to_string().starts_with("1@"), "{:?}", rig.durable);
}

async fn without_gtids_another_server_is_a_gap(kind: DatabaseKind) {
    let (server, other) = (Server::start(kind), Server::start(kind));
    server.sql("", COUNTER).unwrap();
    other.sql("", COUNTER).unwrap();
    let mut options = options(&server, &["wms.counter"]);
    let mut rig = Rig::open(&options, None).await;
    rig.snapshot().await;
    let text = rig.durable.clone().unwrap().to_string();
    let from = text.split(" (").next().unwrap().parse().unwrap();
    let reader = open(&options, Start::Snapshot, Memory::default()).await.unwrap();
    let memory = reader.memory().clone();
    assert!(memory.server.is_some());
    options.port = other.port();
    let error = open(&options, Start::After(from), memory).await.err().unwrap();
    assert!(matches!(error, CaptureError::Gap { .. }), "{error:?}");
}
