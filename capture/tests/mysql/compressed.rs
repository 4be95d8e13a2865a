//! Compressed transactions of MySQL that are larger than what is read at a time.

use crossdock_capture::{DatabaseKind, LogReader, Memory, open};
use crossdock_model::{Op, Value};

use super::rig::{Rig, Server, options, server_rows};

const PALLETS: &str = "CREATE DATABASE wms; USE wms;
    CREATE TABLE pallets(id INT PRIMARY KEY, note VARBINARY(1000) NOT NULL);";

/// Rows in one compressed transaction; `note` is SQL.
fn insert(server: &Server, rows: u32, note: &str) {
    let sql = format!(
        "SET cte_max_recursion_depth = 100000000;
         INSERT INTO pallets WITH RECURSIVE ids AS
             (SELECT 1 id UNION ALL SELECT id + 1 FROM ids WHERE id < {rows}) SELECT id, {note} FROM ids"
    );
    server.sql("wms", &sql).unwrap();
}

fn server() -> Option<Server> {
    if !crossdock_harness::MySql::installed() {
        return None;
    }
    let settings = [("binlog_transaction_compression", "ON"), ("max_allowed_packet", "1G")];
    let server = Server::start_with(DatabaseKind::Mysql, &settings);
    server.sql("", PALLETS).unwrap();
    Some(server)
}

/// Random bytes do not get smaller: the event is continued in a second packet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_transaction_larger_than_a_packet() {
    let Some(server) = server() else { return };
    let mut rig = Rig::open(&options(&server, &["wms.pallets"]), None).await;
    rig.snapshot().await;
    insert(&server, 20_000, "RANDOM_BYTES(900)");
    server.sql("wms", "UPDATE pallets SET note = 'last' WHERE id = 20000").unwrap();
    rig.until(|rig| rig.events("pallets").iter().any(|event| event.op == Op::Update)).await;
    let sums = server_rows(&server, "SELECT id, CRC32(note) FROM pallets WHERE id < 20000");
    assert_eq!(sums.len(), 19_999);
    let mut read = 0;
    for event in rig.events("pallets").into_iter().filter(|event| event.op == Op::Create) {
        let image = event.after.as_ref().unwrap();
        let (Some(Value::Int(id)), Some(Value::Bytes(note))) = (image.get(0), image.get(1)) else {
            panic!("{image:?}")
        };
        if let Some(row) = sums.get(id) {
            assert_eq!(row[1], Some(crc32fast::hash(note).to_string()), "{id}");
            read += 1;
        }
    }
    assert_eq!(read, 19_999);
}

/// MiB that the process may have had at most, with the runtime of the tests in it.
const PEAK_MIB_MAX: u64 = 128;

/// `TRANSACTION_ROWS=5000000`, with no other test beside it, for the memory, too (`make
/// test-large-transaction`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_a_compressed_transaction() {
    let asked = std::env::var("TRANSACTION_ROWS").ok().map(|rows| rows.parse().unwrap());
    let count: u32 = asked.unwrap_or(100_000);
    let Some(server) = server() else { return };
    let mut options = options(&server, &["wms.pallets"]);
    options.block_bytes_max = 64 * 1024;
    let mut rig = Rig::open(&options, None).await;
    rig.snapshot().await;
    let from = rig.durable.clone().unwrap();
    drop(rig);
    insert(&server, count, "CONCAT('pallet ', id, ' of shipment ', id DIV 7)");
    let mut reader = open(&options, Some(&from).into(), Memory::default()).await.unwrap();
    let (mut rows, mut bytes) = (0, 0);
    while rows < u64::from(count) {
        let block = reader.next().await.unwrap();
        rows += block.counts.iter().map(|(.., count)| count).sum::<u64>();
        bytes += block.bytes.len();
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let peak: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    println!("{rows} rows, {} MiB of blocks, peak {} MiB", bytes >> 20, peak >> 10);
    assert!(asked.is_none() || peak >> 10 <= PEAK_MIB_MAX, "{} MiB", peak >> 10);
}
