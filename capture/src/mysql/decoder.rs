//! Events of the log become transactions in blocks. No input or output: the stream feeds it.

mod refusals;
mod xa;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crossdock_model::mark::PROGRESS_TABLE;
use crossdock_model::position::{split_epoch, with_epoch};
use crossdock_model::{Block, BlockBuilder, LogOrder, Position, SnapshotPart, TableName, TxHeader};

use super::catalog::Table;
use super::connect::Server;
use super::event::{self, FLAG_SKIP_REPLICATION, Gtid, GtidEvent, Header, kind};
use super::gtid::Executed;
use super::rows::{self, RowError, RowsKind};
use super::statement::{self, Statement};
use super::table_map::{self, Collations, TableMap};
use super::wire::{Input, Malformed};
use crate::{CaptureError, SourceOptions};

pub(super) use xa::Prepared;

/// Table maps kept before the oldest are forgotten (each open table has one).
const TABLES_MAX: usize = 10_000;

/// What the stream must do before the next event.
pub(super) enum Next {
    /// Nothing.
    Go,
    /// Find the table of this map (and ask the catalog), then call [`Decoder::mapped`].
    Resolve {
        /// Its number in the log.
        id: u64,
        /// The parsed map.
        map: Box<TableMap>,
        /// Its bytes, to tell later whether it is still the same.
        raw: Vec<u8>,
    },
    /// The event holds a compressed transaction: give its events to [`Decoder::unpacked`].
    Unpack,
    /// An XA transaction was committed: give its events to [`Decoder::replayed`], then call
    /// [`Decoder::replay_ends`].
    Replay(Prepared),
    /// As [`Replay`](Next::Replay), for a name that must be looked for in the log.
    Search(String),
    /// A table was truncated: find it in the catalog, then call [`Decoder::truncated`].
    Truncate(TableName),
}

/// A transaction being read.
struct Tx {
    header: TxHeader,
    gtid: Gtid,
    /// Changes so far.
    ordinal: u32,
    /// True once something of it is in a block.
    started: bool,
    /// True once the statements between its begin and its commit are reached.
    begun: bool,
    /// True when it was read before.
    known: bool,
    /// Name of an XA transaction, where the GTID has it.
    xid: Option<String>,
}

/// The order of a place, for comparing numbers of files.
fn order(epoch: u32, file: &str, offset: u64) -> LogOrder {
    let file = with_epoch(epoch, file);
    Position::Binlog { file, offset, gtid: String::new() }.order(0)
}

/// A table map seen in the log.
struct Mapped {
    raw: Vec<u8>,
    /// `None` when the table is not captured.
    table: Option<Arc<Table>>,
}

/// State of decoding.
pub(super) struct Decoder {
    options: SourceOptions,
    server_id: u32,
    /// How often the numbers of files have begun anew.
    epoch: u32,
    /// Where reading began by GTID, until it is known that the server numbers its files alike.
    began: Option<LogOrder>,
    file: String,
    offset: u64,
    /// Where the last whole transaction ended.
    boundary: (String, u64),
    executed: Executed,
    /// False until it is known what was executed before reading began (MySQL).
    executed_whole: bool,
    /// The present file is read from its beginning.
    file_whole: bool,
    tx: Option<Tx>,
    xa: xa::Xa,
    mapped: HashMap<u64, Mapped>,
    captured: HashMap<String, HashSet<String>>,
    collations: Collations,
    /// Tables whose definition may have changed since the catalog was asked.
    pub(super) stale: HashSet<TableName>,
    builder: BlockBuilder,
}

impl Decoder {
    /// Goes on after a place; `by_gtid` when the server has found it by its GTIDs.
    pub(super) fn new(
        options: &SourceOptions,
        server: &Server,
        collations: Collations,
        (file, offset): (&str, u64),
        (executed, by_gtid): (Executed, bool),
    ) -> Self {
        let (epoch, name) = split_epoch(file);
        let mut captured: HashMap<String, HashSet<String>> = HashMap::new();
        for name in &options.tables {
            let tables = captured.entry(name.schema.to_string()).or_default();
            tables.insert(name.table.to_string());
            tables.insert(PROGRESS_TABLE.to_string());
        }
        Self {
            options: options.clone(),
            server_id: server.server_id,
            epoch,
            began: by_gtid.then(|| order(epoch, name, offset)),
            boundary: (name.to_string(), offset),
            file: name.to_string(),
            offset,
            executed_whole: server.mariadb || !executed.is_empty(),
            executed,
            file_whole: by_gtid || offset <= 4,
            tx: None,
            xa: xa::Xa::default(),
            mapped: HashMap::new(),
            captured,
            collations,
            stale: HashSet::new(),
            builder: BlockBuilder::new(),
        }
    }

    /// Where reading would go on.
    pub(super) fn position(&self) -> Position {
        Position::Binlog {
            file: with_epoch(self.epoch, &self.boundary.0),
            offset: self.boundary.1,
            gtid: match self.executed_whole {
                true => self.executed.to_string(),
                // A set with gaps would let a server send again what was read long ago.
                false => String::new(),
            },
        }
    }

    /// Where reading is, in the numbering of this server.
    pub(super) fn place(&self) -> LogOrder {
        order(0, &self.file, self.offset)
    }

    /// True between transactions.
    pub(super) fn at_boundary(&self) -> bool {
        self.tx.is_none()
    }

    /// Bytes that wait for the block to be closed.
    pub(super) fn pending_bytes(&self) -> usize {
        self.builder.len()
    }

    /// Closes the block.
    pub(super) fn take_block(&mut self) -> Block {
        let end = self.position();
        let mut block = self.builder.finish(end, SnapshotPart::Stream);
        // Between the fragments of a transaction nothing is open, yet it is no boundary.
        block.boundary &= self.tx.as_ref().is_none_or(|tx| !tx.started);
        block
    }

    /// Takes the next event in; `checksum` was right.
    pub(super) fn event(&mut self, header: &Header, data: &[u8]) -> Result<Next, CaptureError> {
        let artificial = header.flags & event::FLAG_ARTIFICIAL != 0 || header.end == 0;
        if !artificial && header.kind != kind::FORMAT_DESCRIPTION {
            self.offset = event::offset_after(self.offset, header.end);
        }
        if header.kind == kind::TRANSACTION_PAYLOAD {
            return Ok(Next::Unpack);
        }
        self.dispatch(header, data, artificial)
    }

    /// Takes in an event of a compressed transaction: its place is that of the whole.
    pub(super) fn unpacked(&mut self, header: &Header, data: &[u8]) -> Result<Next, CaptureError> {
        match header.kind {
            kind::TRANSACTION_PAYLOAD | kind::ROTATE | kind::FORMAT_DESCRIPTION => {
                let what = Malformed("event that can't be part of a compressed transaction");
                Err(self.malformed(header, what))
            }
            _ => self.dispatch(header, data, false),
        }
    }

    fn dispatch(
        &mut self,
        header: &Header,
        data: &[u8],
        artificial: bool,
    ) -> Result<Next, CaptureError> {
        if self.xa_keeps(header, data).map_err(|what| self.malformed(header, what))? {
            return Ok(Next::Go);
        }
        if let Some(rows) = RowsKind::of(header.kind) {
            self.rows(header, rows, data)?;
            return Ok(Next::Go);
        }
        let bad = |this: &Self, what| this.malformed(header, what);
        match header.kind {
            kind::TABLE_MAP => return self.table_map(data).map_err(|e| bad(self, e)),
            kind::QUERY | kind::MARIADB_QUERY_COMPRESSED => {
                let packed = header.kind == kind::MARIADB_QUERY_COMPRESSED;
                let (database, text) = event::query(data, packed).map_err(|e| bad(self, e))?;
                return self.query(header, &database, &text);
            }
            kind::XID => self.commit(),
            kind::PREVIOUS_GTIDS if self.file_whole => {
                self.executed.merge(Executed::previous(data).map_err(|e| bad(self, e))?);
                self.executed_whole = true;
            }
            kind::XA_PREPARE => return Ok(self.xa_prepared(data.first() == Some(&1))),
            kind::MARIADB_GTID => {
                let gtid = event::mariadb_gtid(header, data).map_err(|e| bad(self, e))?;
                let begun = !gtid.standalone;
                self.begin(header, gtid, begun)?;
            }
            kind::GTID | kind::ANONYMOUS_GTID => {
                let anonymous = header.kind == kind::ANONYMOUS_GTID;
                let gtid = event::mysql_gtid(data, anonymous).map_err(|e| bad(self, e))?;
                self.begin(header, gtid, false)?;
            }
            kind::GTID_TAGGED => {
                let gtid = event::mysql_tagged_gtid(data).map_err(|e| bad(self, e))?;
                self.begin(header, gtid, false)?;
            }
            kind::ROTATE => {
                let (file, offset) = event::rotate(data).map_err(|e| bad(self, e))?;
                self.rotate(file, offset, artificial);
            }
            kind::PREVIOUS_GTIDS => {}
            _ => self.rare(header)?,
        }
        Ok(Next::Go)
    }

    fn begin(
        &mut self,
        header: &Header,
        event: GtidEvent,
        begun: bool,
    ) -> Result<(), CaptureError> {
        if self.tx.as_ref().is_some_and(|tx| tx.started) {
            return Err(CaptureError::definite(
                format!(
                    "{}: transaction without end before {}:{}",
                    self.options.name, self.file, self.offset
                ),
                "check the server's binlog with mysqlbinlog (mariadb-binlog)",
            ));
        }
        self.xa_forget();
        let start = self.offset.saturating_sub(u64::from(header.size));
        let origin = match header.flags & FLAG_SKIP_REPLICATION != 0 {
            true => Some("skip_replication".to_string()),
            false => (header.server_id != self.server_id).then(|| header.server_id.to_string()),
        };
        let id = match event.gtid {
            Gtid::Anonymous => format!("{}:{start}", self.file),
            ref gtid => gtid.to_string(),
        };
        let known = self.executed.contains(&event.gtid);
        if !known {
            self.compare_numbering(start);
        }
        let prepares = event.prepares.then(|| event.xid.clone()).flatten();
        self.tx = Some(Tx {
            xid: event.xid,
            header: TxHeader {
                id,
                commit: Position::Binlog {
                    file: with_epoch(self.epoch, &self.file),
                    offset: start,
                    gtid: String::new(),
                },
                commit_micros: event
                    .commit_micros
                    .unwrap_or_else(|| i64::from(header.seconds) * 1_000_000),
                origin,
                snapshot: false,
            },
            known,
            gtid: event.gtid,
            ordinal: 0,
            started: false,
            begun,
        });
        if let Some(xid) = prepares {
            self.xa_start(xid);
        }
        Ok(())
    }

    /// What comes first after the place where reading began must lie behind it, or this server has
    /// another numbering: then an epoch begins, so that positions go on growing.
    fn compare_numbering(&mut self, start: u64) {
        let Some(began) = self.began.take() else { return };
        if order(self.epoch, &self.file, start) < began {
            self.epoch = self.epoch.saturating_add(1);
            tracing::warn!(source = %self.options.name, file = %self.file, epoch = self.epoch,
                "the log goes on by GTID on a server with another numbering of files");
        }
    }

    /// Ends the transaction; also the place to go on from when nothing of it was captured.
    fn commit(&mut self) {
        if let Some(tx) = self.tx.take() {
            if tx.started {
                if !self.builder.in_transaction() {
                    self.builder.begin(&tx.header, false);
                }
                self.builder.end();
            }
            self.executed.add(&tx.gtid);
        }
        self.boundary = (self.file.clone(), self.offset);
    }

    fn rotate(&mut self, file: String, offset: u64, artificial: bool) {
        self.file_whole |= self.file != file;
        self.file = file;
        self.offset = offset;
        if !artificial {
            self.mapped.clear();
            let here = order(self.epoch, &self.file, self.offset);
            let behind = self.began.is_none_or(|began| began <= here);
            if self.tx.is_none() && behind {
                self.boundary = (self.file.clone(), self.offset);
            }
        }
    }

    fn is_captured(&self, database: &str, table: &str) -> bool {
        self.captured.get(database).is_some_and(|tables| tables.contains(table))
    }

    fn table_map(&mut self, data: &[u8]) -> Result<Next, Malformed> {
        let mut input = Input::new(data);
        let id = table_map::table_id(&mut input)?;
        if self.mapped.get(&id).is_some_and(|known| known.raw == data) {
            return Ok(Next::Go);
        }
        input.u16()?;
        let (database, table) = table_map::names(&mut input)?;
        let raw = data.to_vec();
        if !self.is_captured(&database, &table) {
            self.remember(id, Mapped { raw, table: None });
            return Ok(Next::Go);
        }
        let map = Box::new(table_map::parse(data, &self.collations)?);
        Ok(Next::Resolve { id, map, raw })
    }

    fn remember(&mut self, id: u64, mapped: Mapped) {
        if self.mapped.len() >= TABLES_MAX {
            self.mapped.clear();
        }
        self.mapped.insert(id, mapped);
    }

    /// Says which table a map stands for.
    pub(super) fn mapped(&mut self, id: u64, raw: Vec<u8>, table: Arc<Table>) {
        self.remember(id, Mapped { raw, table: Some(table) });
    }

    /// Opens the transaction in the block, unless it is open. False when it was read before.
    fn open(&mut self, header: &Header) -> Result<bool, CaptureError> {
        if self.tx.is_none() {
            self.begin(header, GtidEvent::of(Gtid::Anonymous), true)?;
        }
        let Some(tx) = &mut self.tx else { return Ok(false) };
        if tx.known {
            return Ok(false);
        }
        if !self.builder.in_transaction() {
            self.builder.begin(&tx.header, !tx.started);
            tx.started = true;
        }
        Ok(true)
    }

    fn rows(&mut self, header: &Header, rows: RowsKind, data: &[u8]) -> Result<(), CaptureError> {
        let id = table_map::table_id(&mut Input::new(data))
            .map_err(|what| self.malformed(header, what))?;
        // The server ends a statement with a dummy table number.
        if id == 0xff_ffff {
            return Ok(());
        }
        let table = match self.mapped.get(&id) {
            Some(Mapped { table: None, .. }) => return Ok(()),
            Some(Mapped { table: Some(table), .. }) => table.clone(),
            None => return Err(self.malformed(header, Malformed("rows without a table map"))),
        };
        if !self.open(header)? {
            return Ok(());
        }
        let Some(tx) = &mut self.tx else { return Ok(()) };
        rows::decode(&mut self.builder, &table, rows, data, &mut tx.ordinal)
            .map_err(|RowError { column, what }| self.bad_row(header, &table, column, what))
    }

    fn query(&mut self, header: &Header, database: &str, text: &str) -> Result<Next, CaptureError> {
        let begun = self.tx.as_ref().is_some_and(|tx| tx.begun);
        match statement::sort(text) {
            Statement::Begin => match &mut self.tx {
                Some(tx) => tx.begun = true,
                None => self.begin(header, GtidEvent::of(Gtid::Anonymous), true)?,
            },
            Statement::XaStart(xid) => {
                if self.tx.is_none() {
                    self.begin(header, GtidEvent::of(Gtid::Anonymous), true)?;
                }
                self.xa_start(xid);
            }
            Statement::XaCommit(xid) => {
                if self.tx.is_none() {
                    self.begin(header, GtidEvent::of(Gtid::Anonymous), false)?;
                }
                return Ok(self.xa_commit(xid));
            }
            Statement::XaRollback(xid) => self.xa_rollback(&xid),
            Statement::Commit => self.commit(),
            Statement::Rollback if self.tx.as_ref().is_some_and(|tx| tx.started) => {
                return Err(self.rolled_back());
            }
            Statement::Rollback => self.commit(),
            Statement::RollbackTo if self.tx.as_ref().is_some_and(|tx| tx.started) => {
                return Err(self.rolled_back());
            }
            Statement::RollbackTo | Statement::Bracket => {}
            Statement::Truncate(named, table) => {
                let database = named.unwrap_or_else(|| database.to_string());
                if self.is_captured(&database, &table) && self.open(header)? {
                    return Ok(Next::Truncate(TableName::new(&database, &table)));
                }
                self.end_unless(begun);
            }
            Statement::Rows => {
                if self.touches_captured(text) {
                    return Err(self.statement_logged("a statement that changes rows"));
                }
                self.end_unless(begun);
            }
            Statement::Other => {
                let tables = self.options.tables.iter();
                let named = tables.filter(|name| statement::names(text, &name.table)).cloned();
                self.stale.extend(named);
                self.end_unless(begun);
            }
        }
        Ok(Next::Go)
    }

    /// A statement outside BEGIN and COMMIT is a transaction of its own.
    fn end_unless(&mut self, begun: bool) {
        if !begun {
            self.commit();
        }
    }

    fn touches_captured(&self, text: &str) -> bool {
        self.options.tables.iter().any(|name| statement::names(text, &name.table))
    }

    /// Adds the truncation that [`Next::Truncate`] asked about.
    pub(super) fn truncated(&mut self, table: Option<Arc<Table>>) {
        if let (Some(tx), Some(table)) = (&mut self.tx, table) {
            rows::truncate(&mut self.builder, &table, tx.ordinal);
            tx.ordinal += 1;
        }
        let begun = self.tx.as_ref().is_some_and(|tx| tx.begun);
        self.end_unless(begun);
    }
}
