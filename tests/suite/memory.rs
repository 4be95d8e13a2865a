//! Memory does not follow what a source puts into one transaction.

use std::fs;

use crossdock_harness::MySql;

use crate::world::{Kind, LIMIT, World};

/// MiB that a compressed transaction may take more than the same one not compressed.
const MORE_MIB_MAX: u64 = 24;

/// The most memory that the process has had in this life, MiB.
pub fn peak_mib(world: &World) -> u64 {
    let pid = world.crossdock.pid().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// The most that the process ever had, after one transaction of half a million rows.
fn peak_after(compression: &str) -> u64 {
    let table = "CREATE TABLE big (id int PRIMARY KEY, n int, note varchar(80));";
    let mut world = World::on_binlog(Kind::MySql, table, "tables = [\"shop.big\"]");
    world.start();
    world.sql(&format!(
        "SET binlog_transaction_compression = {compression}, cte_max_recursion_depth = 1000000;
         INSERT INTO big WITH RECURSIVE ids AS
             (SELECT 1 id UNION ALL SELECT id + 1 FROM ids WHERE id < 500000)
             SELECT id, -id, CONCAT('pallet ', id, ' of shipment ', id DIV 7) FROM ids;"
    ));
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    let status = world.crossdock.status().unwrap();
    assert_eq!(status["sources"][0]["events_total"], 500_000, "{status}");
    peak_mib(&world)
}

/// A compressed transaction comes in parts, and is decoded event by event.
#[test]
fn a_compressed_transaction_of_half_a_million_rows() {
    if !MySql::installed() {
        return;
    }
    let (plain, compressed) = (peak_after("OFF"), peak_after("ON"));
    println!("peak: {plain} MiB, compressed {compressed} MiB");
    assert!(compressed <= plain + MORE_MIB_MAX, "{plain} MiB, compressed {compressed} MiB");
}
