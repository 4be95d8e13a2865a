//! PostgreSQL: one server for all tests, a database for each.

mod access;
mod backfill;
mod documented;
mod faults;
mod identity;
mod in_progress;
mod ledger;
mod outbox;
mod prepared;
mod proxy;
mod resume;
mod same_value;
mod slots;
mod snapshot;
mod snapshot_ranges;
mod snapshot_resume;
mod standby;
mod stream;
mod tls;
mod types;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use crossdock_capture::postgres::{self, PostgresReader};
use crossdock_capture::{CaptureError, DatabaseKind, Memory, SourceOptions, Start, Tls};
use crossdock_harness::{Postgres, PostgresOptions};
use crossdock_model::{
    Block, ChangeEvent, Fragment, Op, Position, RowImage, SnapshotPart, TableName, Value, block,
};
use tokio_postgres::{Client, NoTls};

/// Nothing here takes this long unless it is broken.
const LIMIT: Duration = Duration::from_secs(120);

fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let settings = [
            ("max_connections", "200"),
            // Every test leaves one.
            ("max_replication_slots", "200"),
            ("max_wal_senders", "100"),
            ("logical_decoding_work_mem", "1MB"),
            ("max_prepared_transactions", "10"),
        ];
        let settings = settings.map(|(name, value)| (name.to_string(), value.to_string()));
        let options = PostgresOptions { settings: settings.to_vec(), ..Default::default() };
        Postgres::start_with(&options).expect("a private server starts")
    })
}

async fn client(port: u16, database: &str) -> Client {
    let text = format!("host=127.0.0.1 port={port} user=postgres dbname={database}");
    let (client, connection) = tokio_postgres::connect(&text, NoTls).await.expect("connects");
    tokio::spawn(connection);
    client
}

/// A database of its own for one test, with these tables captured.
async fn database(name: &str, script: &str, tables: &[&str]) -> (SourceOptions, Client) {
    database_on(server().port(), name, script, tables).await
}

async fn database_on(
    port: u16,
    name: &str,
    script: &str,
    tables: &[&str],
) -> (SourceOptions, Client) {
    DATABASE.set(name.to_string());
    let admin = client(port, "postgres").await;
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("database is created");
    let client = client(port, name).await;
    client.batch_execute(script).await.expect("script runs");
    let options = SourceOptions {
        name: name.to_string(),
        kind: DatabaseKind::Postgres,
        host: "127.0.0.1".to_string(),
        port,
        user: "postgres".to_string(),
        password: "".into(),
        database: name.to_string(),
        tls: Tls::Disable,
        tables: tables.iter().map(|t| TableName::parse(t).expect("schema.table")).collect(),
        slot: format!("slot_{name}"),
        slot_failover: true,
        publication: format!("pub_{name}"),
        server_id: 0,
        zero_dates: Default::default(),
        block_bytes_max: 64 * 1024,
        spill_dir: None,
        snapshot: Default::default(),
        poll: None,
    };
    (options, client)
}

async fn next(reader: &mut PostgresReader) -> Result<Block, CaptureError> {
    tokio::time::timeout(LIMIT, reader.next()).await.expect("a block within the limit")
}

/// Reads a snapshot to its end.
async fn snapshot(reader: &mut PostgresReader) -> Vec<Block> {
    let mut blocks = Vec::new();
    loop {
        let block = next(reader).await.expect("snapshot goes on");
        assert!(block.boundary, "every block of a snapshot is whole");
        let last = block.snapshot == SnapshotPart::Last;
        reader.acknowledge(&block.end);
        blocks.push(block);
        if last {
            return blocks;
        }
    }
}

/// Reads the stream until a transaction with a logical message `done` has come, acknowledging.
async fn until_done(reader: &mut PostgresReader) -> Vec<Block> {
    let mut blocks = Vec::new();
    loop {
        let block = next(reader).await.expect("stream goes on");
        if block.boundary {
            reader.acknowledge(&block.end);
        }
        let done = is_done(&DATABASE.with_borrow(String::clone), &block);
        blocks.push(block);
        if done {
            return blocks;
        }
    }
}

/// Whether the stream has logical messages, and transactions in progress: from 14 on.
fn is_talkative() -> bool {
    server().version().unwrap() >= 140_000
}

/// Before 14, logical messages are not in the stream: by database, the place of the last `done`.
static DONE: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// The database of the test that this thread runs.
    static DATABASE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Whether the block comes to what [`say_done`] wrote.
fn is_done(database: &str, block: &Block) -> bool {
    let fragments = fragments(block);
    let mut messages = fragments.iter().flat_map(|f| &f.events).filter_map(|e| e.message.as_ref());
    let done = DONE.lock().unwrap().get(database).copied();
    let passed = |lsn| matches!(block.end, Position::Postgres { lsn: end } if end >= lsn);
    messages.any(|(prefix, _)| prefix == "done") || block.boundary && done.is_some_and(passed)
}

async fn say_done(client: &Client) {
    try_to_say_done(client).await.expect("message is emitted");
}

async fn try_to_say_done(client: &Client) -> Result<(), tokio_postgres::Error> {
    let sql = "SELECT current_database()::text, current_setting('server_version_num')::int,
               (pg_logical_emit_message(true, 'done', '') - '0/0')::int8";
    let row = client.query_one(sql, &[]).await?;
    if row.get::<_, i32>(1) < 140_000 {
        let lsn = u64::try_from(row.get::<_, i64>(2)).expect("a place in the log");
        DONE.lock().unwrap().insert(row.get(0), lsn);
    }
    Ok(())
}

fn fragments(block: &Block) -> Vec<Fragment> {
    block::decode(&block.bytes).expect("a block decodes")
}

/// Row changes of the blocks in order, with `done` and other messages left out.
fn changes(blocks: &[Block]) -> Vec<ChangeEvent> {
    let events = blocks.iter().flat_map(fragments).flat_map(|fragment| fragment.events);
    events.filter(|event| event.op != Op::Message).collect()
}

fn full(image: &Option<RowImage<'static>>) -> Vec<Value<'static>> {
    match image {
        Some(RowImage::Full(values)) => values.clone(),
        other => panic!("not a full image: {other:?}"),
    }
}

/// A copy of the source that is kept up by events, and complains about any that can't be right.
#[derive(Default)]
struct Replica {
    /// By table and key: the row.
    rows: BTreeMap<(String, String), Vec<Value<'static>>>,
    events: usize,
    /// Place of the last event.
    last: Option<(u64, u32)>,
}

impl Replica {
    fn apply(&mut self, block: &Block) {
        for fragment in fragments(block) {
            let Position::Postgres { lsn } = fragment.header.commit else { panic!("no LSN") };
            for event in fragment.events {
                if !fragment.header.snapshot {
                    let place = (lsn, event.ordinal);
                    assert!(self.last < Some(place), "{place:?} after {:?}", self.last);
                    self.last = Some(place);
                }
                self.event(&event);
            }
        }
    }

    fn event(&mut self, event: &ChangeEvent) {
        self.events += 1;
        let Some(table) = &event.table else { return };
        let key = |image: &RowImage<'static>| {
            let columns = table.key_columns();
            let texts = columns.iter().map(|c| image.get(*c).and_then(Value::to_text));
            let key = texts.map(|t| t.expect("key is there")).collect::<Vec<_>>().join("|");
            (table.name.to_string(), key)
        };
        match (event.op, &event.before, &event.after) {
            (Op::Read | Op::Create, None, Some(after)) => {
                let before = self.rows.insert(key(after), full(&event.after));
                assert!(before.is_none(), "row {:?} came twice", key(after));
            }
            (Op::Update, before, Some(after)) => {
                let old = before.as_ref().map_or_else(|| key(after), key);
                let mut row = self.rows.remove(&old).expect("an updated row is there");
                for (column, cell) in row.iter_mut().enumerate() {
                    if let Some(value) = after.get(column) {
                        *cell = value.clone();
                    }
                }
                self.rows.insert(key(after), row);
            }
            (Op::Delete, Some(before), None) => {
                assert!(self.rows.remove(&key(before)).is_some(), "a deleted row is there");
            }
            (Op::Truncate, None, None) => {
                self.rows.retain(|(name, _), _| *name != table.name.to_string());
            }
            other => panic!("impossible event {other:?}"),
        }
    }

    /// Rows of a table as text, `a|b|c`, by key.
    fn texts(&self, table: &str) -> Vec<String> {
        let rows = self.rows.iter().filter(|((name, _), _)| name == table);
        let text = |value: &Value<'_>| value.to_text().unwrap_or_else(|| "NULL".to_string());
        let mut rows: Vec<String> =
            rows.map(|(_, row)| row.iter().map(text).collect::<Vec<_>>().join("|")).collect();
        rows.sort();
        rows
    }
}

/// Rows of a table of integers and texts as the server has them.
async fn server_texts(client: &Client, table: &str, columns: &str) -> Vec<String> {
    let list = columns.split(',').map(|c| format!("coalesce({c}::text, 'NULL')"));
    let list = list.collect::<Vec<_>>().join(", ");
    let sql = format!("SELECT concat_ws('|', {list}) FROM {table}");
    let rows = client.query(&sql, &[]).await.expect("rows are read");
    let mut rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    rows.sort();
    rows
}

async fn open(options: &SourceOptions, from: Option<&Position>) -> PostgresReader {
    postgres::open(options, from.into(), Memory::default()).await.expect("the reader opens")
}

/// Waits until a query returns true.
async fn wait_for(client: &Client, sql: &str) {
    let start = std::time::Instant::now();
    while !client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
        assert!(start.elapsed() < LIMIT, "never true: {sql}");
        tokio::task::yield_now().await;
    }
}

/// Waits until nobody reads the slot.
async fn wait_for_free(client: &Client, options: &SourceOptions) {
    let sql = format!(
        "SELECT NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{}' AND active)",
        options.slot
    );
    wait_for(client, &sql).await;
}
