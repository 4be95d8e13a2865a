//! A server, a reader, and what was read so far.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crossdock_capture::{
    CaptureError, DatabaseKind, LogReader, Memory, Reader, SourceOptions, Start, Tls, open,
};
use crossdock_harness::{Daemon, DaemonOptions, MariaDb, MySql};
use crossdock_model::block::decode;
use crossdock_model::{
    Block, ChangeEvent, Fragment, Op, Position, RowImage, SnapshotPart, TableName,
};

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A private server of either kind.
pub enum Server {
    Maria(MariaDb),
    My(MySql),
}

impl Server {
    pub fn start(kind: DatabaseKind) -> Self {
        Self::start_with(kind, &[])
    }

    pub fn start_with(kind: DatabaseKind, settings: &[(&str, &str)]) -> Self {
        let options = DaemonOptions::with(settings);
        match kind {
            DatabaseKind::Mysql => Self::My(MySql::start_with(&options).unwrap()),
            _ => Self::Maria(MariaDb::start_with(&options).unwrap()),
        }
    }

    pub fn kind(&self) -> DatabaseKind {
        match self {
            Self::Maria(_) => DatabaseKind::Mariadb,
            Self::My(_) => DatabaseKind::Mysql,
        }
    }

    pub fn is_mysql(&self) -> bool {
        matches!(self, Self::My(_))
    }
}

impl Deref for Server {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        match self {
            Self::Maria(server) => server,
            Self::My(server) => server,
        }
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Daemon {
        match self {
            Self::Maria(server) => server,
            Self::My(server) => server,
        }
    }
}

/// Each test on MariaDB, and on MySQL where `deploy/setup/mysql.sh` has put one.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod mariadb {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crossdock_capture::DatabaseKind::Mariadb).await;
            }
        )+}
        mod mysql {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if crossdock_harness::MySql::installed() {
                    super::$name(crossdock_capture::DatabaseKind::Mysql).await;
                }
            }
        )+}
    };
}
pub(crate) use on_both;

/// Options for a server; small blocks, so that tests have several.
pub fn options(server: &Server, tables: &[&str]) -> SourceOptions {
    SourceOptions {
        name: "wms".into(),
        kind: server.kind(),
        host: "127.0.0.1".into(),
        port: server.port(),
        user: "root".into(),
        password: String::new().into(),
        database: String::new(),
        tls: Tls::Disable,
        tables: tables.iter().map(|name| TableName::parse(name).unwrap()).collect(),
        slot: String::new(),
        slot_failover: false,
        publication: String::new(),
        server_id: 4_000_000_001,
        zero_dates: Default::default(),
        block_bytes_max: 16 * 1024,
        spill_dir: None,
        snapshot: Default::default(),
        poll: None,
    }
}

/// What a reader gave.
pub struct Rig {
    pub options: SourceOptions,
    reader: Reader,
    /// Where a restart would go on.
    pub durable: Option<Position>,
    /// What came, without what was cut off in the middle of a transaction.
    pub fragments: Vec<Fragment>,
    /// How many of them are of whole transactions, and of a snapshot as far as it came.
    whole: usize,
    pub blocks: Vec<Block>,
}

impl Rig {
    pub async fn open(options: &SourceOptions, from: Option<&Position>) -> Self {
        let reader = open(options, from.into(), Memory::default()).await.unwrap();
        Self {
            options: options.clone(),
            reader,
            durable: from.cloned(),
            fragments: Vec::new(),
            whole: 0,
            blocks: Vec::new(),
        }
    }

    /// Opens again as it is said, once the server is there.
    pub async fn restart(&mut self, start: Start, memory: Memory) {
        self.reader = open(&self.options, start, memory).await.unwrap();
    }

    /// What the reader remembers.
    pub fn memory(&self) -> &Memory {
        self.reader.memory()
    }

    /// Reads one block.
    pub async fn block(&mut self) -> Result<(), CaptureError> {
        let block = tokio::time::timeout(PATIENCE, self.reader.next()).await.expect("a block")?;
        let ends = block.snapshot == SnapshotPart::Last;
        if ends || (block.snapshot == SnapshotPart::Stream && block.boundary) {
            self.durable = Some(block.end.clone());
            self.reader.acknowledge(&block.end);
        }
        self.fragments.extend(decode(&block.bytes).unwrap());
        if block.boundary {
            self.whole = self.fragments.len();
        }
        self.blocks.push(block);
        Ok(())
    }

    /// Reads to the end of the snapshot.
    pub async fn snapshot(&mut self) {
        while self.blocks.last().is_none_or(|block| block.snapshot != SnapshotPart::Last) {
            self.block().await.unwrap();
        }
    }

    /// Reads until the condition holds.
    pub async fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            self.block().await.unwrap();
        }
    }

    /// Reads until the reader fails.
    pub async fn error(&mut self) -> CaptureError {
        loop {
            if let Err(error) = self.block().await {
                return error;
            }
        }
    }

    /// Opens again from the last durable position, once the server is there.
    pub async fn reopen(&mut self) {
        for _ in 0..600 {
            match open(&self.options, self.durable.as_ref().into(), Memory::default()).await {
                Ok(reader) => {
                    self.reader = reader;
                    // As the journal does: the reader says the transaction again, whole.
                    self.fragments.truncate(self.whole);
                    return;
                }
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the server did not come back");
    }

    /// All events of one table, in order.
    pub fn events(&self, table: &str) -> Vec<&ChangeEvent> {
        let all = self.fragments.iter().flat_map(|fragment| &fragment.events);
        all.filter(|e| e.table.as_ref().is_some_and(|t| &*t.name.table == table)).collect()
    }

    /// Rows of a table by first column, after all events; rows may come several times.
    pub fn images(&self, table: &str) -> BTreeMap<i64, Vec<Option<String>>> {
        let mut rows = BTreeMap::new();
        for event in self.events(table) {
            let id = |image: &Option<RowImage<'_>>| -> Option<i64> {
                image.as_ref()?.get(0)?.to_text()?.parse().ok()
            };
            if let Some(key) = id(&event.before) {
                rows.remove(&key);
            }
            if let (Some(key), Some(image)) = (id(&event.after), &event.after) {
                let columns = event.table.as_ref().unwrap().columns.len();
                let cells = (0..columns).map(|i| image.get(i).unwrap().to_text()).collect();
                rows.insert(key, cells);
            }
        }
        rows
    }

    /// Rows of a table by first column, after all events; asserts that nothing came twice.
    pub fn rows(&self, table: &str) -> BTreeMap<i64, Vec<Option<String>>> {
        let mut rows = BTreeMap::new();
        for event in self.events(table) {
            let image = event.after.as_ref().or(event.before.as_ref()).unwrap();
            let key: i64 = image.get(0).unwrap().to_text().unwrap().parse().unwrap();
            let columns = event.table.as_ref().unwrap().columns.len();
            let cells = (0..columns).map(|i| image.get(i).unwrap().to_text()).collect();
            match event.op {
                Op::Read | Op::Create => {
                    assert!(rows.insert(key, cells).is_none(), "{key} came twice");
                }
                Op::Update => {
                    assert!(rows.insert(key, cells).is_some(), "{key} was never there");
                }
                _ => assert!(rows.remove(&key).is_some(), "{key} was never there"),
            }
        }
        rows
    }
}

/// Rows of a table by first column, as the server has them.
pub fn server_rows(server: &Server, query: &str) -> BTreeMap<i64, Vec<Option<String>>> {
    let text = server.sql("wms", query).unwrap();
    text.lines()
        .map(|line| {
            let cells: Vec<_> =
                line.split('\t').map(|c| (c != "NULL").then(|| c.to_string())).collect();
            (cells[0].as_ref().unwrap().parse().unwrap(), cells)
        })
        .collect()
}
