//! Polling, on PostgreSQL and MariaDB: one server of each for all tests, a database for each test.

mod failures;
mod reconcile;
mod resume;
mod rounds;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use crossdock_capture::{
    CaptureError, CopyMessage, DatabaseKind, LogReader, MESSAGE_PREFIX, Memory, PollOptions,
    PollTable, Reader, SourceOptions, Start, Tls,
};
use crossdock_harness::{MariaDb, Postgres};
use crossdock_model::{Block, Op, Position, RowImage, SnapshotPart, TableName, Value, block};

/// Nothing here takes this long unless it is broken.
const LIMIT: Duration = Duration::from_secs(120);
/// The login that polls: it may SELECT, and nothing else.
const LOGIN: &str = "onlooker";

fn postgres() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = Postgres::start().expect("a private server starts");
        server.sql("postgres", &format!("CREATE ROLE {LOGIN} LOGIN PASSWORD 'x'")).unwrap();
        server
    })
}

fn mariadb() -> &'static MariaDb {
    static SERVER: OnceLock<MariaDb> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = MariaDb::start().expect("a private server starts");
        server.sql("", &format!("CREATE USER {LOGIN}@'%' IDENTIFIED BY 'x'")).unwrap();
        server
    })
}

/// A database of its own.
#[derive(Clone)]
pub struct Db {
    pub kind: DatabaseKind,
    /// Database, or schema of PostgreSQL's database of that name.
    pub name: String,
}

impl Db {
    /// With what `script` makes. The login may read `tables`, and nothing else.
    pub fn new(kind: DatabaseKind, name: &str, script: &str, tables: &[&str]) -> Self {
        let db = Self { kind, name: name.to_string() };
        let create = format!("CREATE DATABASE {name}");
        match kind {
            DatabaseKind::Postgres => postgres().sql("postgres", &create).unwrap(),
            _ => mariadb().sql("", &create).unwrap(),
        };
        db.sql(script);
        for table in tables {
            match kind {
                DatabaseKind::Postgres => db.sql(&format!("GRANT SELECT ON {table} TO {LOGIN}")),
                _ => db.sql(&format!("GRANT SELECT ON {name}.{table} TO {LOGIN}@'%'")),
            };
        }
        db
    }

    pub fn sql(&self, script: &str) -> String {
        match self.kind {
            DatabaseKind::Postgres => postgres().sql(&self.name, script).unwrap(),
            _ => mariadb().sql(&self.name, script).unwrap(),
        }
    }

    /// The server's port; of no use to those who poll another server.
    fn port(&self) -> u16 {
        match self.kind {
            DatabaseKind::Postgres => postgres().port(),
            _ => mariadb().port(),
        }
    }

    pub fn table(&self, table: &str) -> TableName {
        match self.kind {
            DatabaseKind::Postgres => TableName::new("public", table),
            _ => TableName::new(&self.name, table),
        }
    }

    /// Options that poll one table or view, fast.
    pub fn options(&self, table: &str, key: &[&str], cursor: &[&str]) -> SourceOptions {
        let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
        let polled = PollTable {
            table: self.table(table),
            key: words(key),
            cursor: words(cursor),
            every: Duration::from_millis(20),
            overlap: Duration::from_millis(200),
            reconcile: None,
        };
        SourceOptions {
            name: "legacy".into(),
            kind: self.kind,
            host: "127.0.0.1".into(),
            port: self.port(),
            user: LOGIN.into(),
            password: "x".to_string().into(),
            database: self.name.clone(),
            tls: Tls::Disable,
            tables: vec![polled.table.clone()],
            slot: String::new(),
            slot_failover: false,
            publication: String::new(),
            server_id: 0,
            zero_dates: Default::default(),
            block_bytes_max: 16 * 1024,
            spill_dir: None,
            snapshot: Default::default(),
            poll: Some(PollOptions { tables: vec![polled] }),
        }
    }
}

/// All rows of the one table of some options that capture it by its log, as polling reads them:
/// for comparing. In the order of the key, which is one column.
pub async fn all_rows(options: &SourceOptions, key: &str) -> Vec<Vec<Value<'static>>> {
    let db = Db { kind: options.kind, name: String::new() };
    let mut polled = db.options("", &[key], &[key]).poll.unwrap();
    polled.tables[0].table = options.tables[0].clone();
    let options = SourceOptions { poll: Some(polled), ..options.clone() };
    Rig::snapshot(&options).await.values
}

/// How the one table of some options is polled.
pub fn settings(options: &mut SourceOptions) -> &mut PollTable {
    options.poll.as_mut().and_then(|poll| poll.tables.first_mut()).unwrap()
}

/// One row as it was handed over.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub op: Op,
    pub key: String,
    pub row: String,
    pub at: Position,
}

/// A reader, and what it gave.
pub struct Rig {
    pub options: SourceOptions,
    pub reader: Reader,
    pub seen: Vec<Seen>,
    pub messages: Vec<(CopyMessage, Position)>,
    pub parts: Vec<SnapshotPart>,
    /// Where a restart would go on.
    pub position: Option<Position>,
    /// As it was saved last.
    pub memory: Memory,
    /// All images in turn.
    pub values: Vec<Vec<Value<'static>>>,
}

impl Rig {
    pub async fn open(options: &SourceOptions, start: Start, memory: Memory) -> Self {
        let reader = crossdock_capture::open(options, start, memory.clone()).await.unwrap();
        Self {
            options: options.clone(),
            reader,
            seen: Vec::new(),
            messages: Vec::new(),
            parts: Vec::new(),
            position: None,
            memory,
            values: Vec::new(),
        }
    }

    /// Reads a snapshot to its end.
    pub async fn snapshot(options: &SourceOptions) -> Self {
        let mut rig = Self::open(options, Start::Snapshot, Memory::default()).await;
        rig.until(|rig| rig.parts.last() == Some(&SnapshotPart::Last)).await;
        rig
    }

    /// Reads one block; `save` says whether the memory is saved with it.
    pub async fn block(&mut self, save: bool) -> Result<Block, CaptureError> {
        let next = tokio::time::timeout(LIMIT, self.reader.next());
        let block = next.await.expect("a block within the limit")?;
        assert!(block.boundary, "every block is whole");
        if let Some(last) = &self.position {
            assert!(block.end.compare(last).is_gt(), "{} after {last}", block.end);
        }
        for fragment in block::decode(&block.bytes).unwrap() {
            assert!(fragment.header.commit.compare(&block.end).is_le());
            for event in fragment.events {
                let at = fragment.header.commit.clone();
                if let Some((prefix, content)) = &event.message {
                    assert_eq!(prefix, MESSAGE_PREFIX);
                    self.messages.push((serde_json::from_slice(content).unwrap(), at));
                    continue;
                }
                let table = event.table.as_ref().unwrap();
                let Some(RowImage::Full(values)) = &event.after else { panic!("{event:?}") };
                let text = |value: &Value<'_>| value.to_text().unwrap_or("NULL".into());
                let key = table.key_columns().into_iter().map(|at| text(&values[at]));
                let key = key.collect::<Vec<_>>().join("/");
                let row = values.iter().map(text).collect::<Vec<_>>().join("|");
                assert!(event.before.is_none());
                self.values.push(values.clone());
                self.seen.push(Seen { op: event.op, key, row, at });
            }
        }
        self.position = Some(block.end.clone());
        self.parts.push(block.snapshot);
        if save {
            self.memory = self.reader.memory().clone();
        }
        Ok(block)
    }

    pub async fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            self.block(true).await.unwrap();
        }
    }

    /// Reads until the reader fails.
    pub async fn error(&mut self) -> CaptureError {
        loop {
            if let Err(error) = self.block(true).await {
                return error;
            }
        }
    }

    /// Lets some whole rounds pass.
    pub async fn rounds(&mut self, rounds: usize) {
        for _ in 0..rounds {
            let before = round(&self.position);
            while round(&self.position) == before {
                self.block(true).await.unwrap();
            }
        }
    }

    /// Begins again from what is durable, as after a kill.
    pub async fn restart(&mut self) {
        let resumes = self.parts.last() != Some(&SnapshotPart::Stream)
            && self.parts.last() != Some(&SnapshotPart::Last);
        let start = match self.position.clone() {
            Some(position) if resumes => Start::Resume(position),
            Some(position) => Start::After(position),
            // Killed before anything was durable.
            None => Start::Snapshot,
        };
        let memory = self.memory.clone();
        self.reader = crossdock_capture::open(&self.options, start, memory).await.unwrap();
    }

    /// What the rows hold by what was handed over.
    pub fn rows(&self) -> Vec<String> {
        let mut rows = BTreeMap::new();
        for seen in &self.seen {
            rows.insert(&seen.key, &seen.row);
        }
        rows.into_values().cloned().collect()
    }

    /// Reads until a row came as it is now, after the first `from`.
    pub async fn until_row(&mut self, from: usize, row: &str) {
        self.until(|rig| rig.seen.iter().skip(from).any(|seen| seen.row == row)).await;
    }
}

fn round(position: &Option<Position>) -> u64 {
    match position {
        Some(Position::Poll { round, .. }) => *round,
        other => panic!("{other:?}"),
    }
}

/// Each test on both kinds of database.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_postgres {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crossdock_capture::DatabaseKind::Postgres).await;
            }
        )+}
        mod on_mariadb {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crossdock_capture::DatabaseKind::Mariadb).await;
            }
        )+}
    };
}
pub(crate) use on_both;
