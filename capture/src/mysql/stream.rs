//! The task that reads a source: snapshot if asked, then the stream, block by block.

mod prepared;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossdock_model::position::split_epoch;
use crossdock_model::{Position, TableName};
use futures_util::FutureExt;
use mysql_async::Conn;
use mysql_common::packets::binlog_request::BinlogRequest;
use tokio::sync::mpsc::Sender;

use super::backfill::{self, Backfill, Here};
use super::catalog::{self, Table};
use super::charset::Charset;
use super::connect::{self, Server};
use super::decoder::{Decoder, Next};
use super::dump::{Events, Log, Piece};
use super::event::Header;
use super::gtid::Executed;
use super::mapping::{self, Mapping};
use super::payload::Payload;
use super::progress::{Cursor, News, Parcel};
use super::request::{self, HEARTBEAT, bad_gtid, gtids_at, settings, sids};
use super::table_map::TableMap;
use super::wire::Malformed;
use crate::{CaptureError, Memory, SourceOptions};

/// The connection is given up when nothing came for so many heartbeats.
const HEARTBEATS_MISSED_MAX: u32 = 20;
/// Progress without captured changes is reported this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Where blocks go.
pub(super) type Blocks = Sender<Result<Parcel, CaptureError>>;

/// The reader has gone: nobody wants further blocks.
pub(super) struct Gone;

/// Why reading ended.
pub(super) enum Stop {
    /// Nobody listens.
    Gone,
    /// An error for the listener.
    Failed(CaptureError),
}

impl From<CaptureError> for Stop {
    fn from(error: CaptureError) -> Self {
        Stop::Failed(error)
    }
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Stop::Gone
    }
}

/// Hands a block over; waits while the listener is behind.
pub(super) async fn send(blocks: &Blocks, parcel: Parcel) -> Result<(), Gone> {
    blocks.send(Ok(parcel)).await.map_err(|_| Gone)
}

/// Waits for the rows that are read beside the stream.
async fn wake(backfill: &mut Option<Backfill>) {
    match backfill {
        Some(backfill) => backfill.wake().await,
        None => std::future::pending().await,
    }
}

/// A compressed transaction of which not all has come.
struct Unpacking {
    /// Of the whole.
    header: Header,
    payload: Payload,
    /// The last event that came out of it: the one that commits must wait for the checksum.
    held: Option<(Header, Vec<u8>)>,
}

/// A dump of the log being read.
pub(super) struct Stream<'a> {
    options: &'a SourceOptions,
    server: Server,
    log: Log,
    /// For the catalog; opened when it is needed, and again when it was lost.
    side: Option<Conn>,
    catalog: HashMap<TableName, Option<Arc<Table>>>,
    charsets: HashMap<Arc<str>, Arc<Mapping>>,
    /// The last version of each table, so that equal ones stay one.
    latest: HashMap<TableName, Arc<Table>>,
    decoder: Decoder,
    /// The compressed transaction that comes in parts.
    unpacking: Option<Unpacking>,
    /// Tables that are read beside the stream.
    backfill: Option<Backfill>,
    reported: Position,
    reported_at: Instant,
}

impl<'a> Stream<'a> {
    /// Asks the server for everything after `from`; `same_server`: that is the one that was read
    /// until there.
    pub(super) async fn open(
        options: &'a SourceOptions,
        from: &Position,
        same_server: bool,
    ) -> Result<Self, CaptureError> {
        let Position::Binlog { file, offset, gtid } = from else {
            return Err(CaptureError::definite(
                format!("{}: position {from} is not one of a binlog", options.name),
                "check that the checkpoint belongs to this source",
            ));
        };
        let (_, name) = split_epoch(file);
        let mut conn = connect::connect(options).await?;
        let server = connect::server(options, &mut conn).await?;
        let collations = catalog::collations(options, &server, &mut conn).await?;
        let mut executed = Executed::parse(gtid).ok_or_else(|| bad_gtid(options, gtid))?;
        let mut by_gtid = server.gtids && !executed.is_empty();
        if by_gtid && !server.mariadb && same_server && *offset <= u64::from(u32::MAX) {
            // By GTID a server leaves out what has none, from before gtid_mode was ON.
            by_gtid = !request::is_continued(options, &mut conn, name, &executed).await?;
        }
        if server.mariadb && executed.is_empty() {
            executed = gtids_at(options, &mut conn, name, *offset).await?;
        }
        conn.disconnect().await.ok();
        let mut request = BinlogRequest::new(options.server_id);
        let sids = sids(options, &executed)?;
        if by_gtid && !server.mariadb {
            request = request.with_use_gtid(true).with_sids(sids);
        } else if !by_gtid {
            if *offset > u64::from(u32::MAX) {
                return Err(CaptureError::definite(
                    format!("{}: can't begin behind 4 GiB of {file} without GTIDs", options.name),
                    "turn on GTIDs, or take the snapshot anew",
                ));
            }
            request = request.with_filename(name.as_bytes().to_vec()).with_pos(*offset);
        }
        let log = Log::open(options, settings(&server, by_gtid.then_some(&executed)), request)?;
        tracing::info!(source = %options.name, %from, by_gtid, version = %server.version,
            "reading the binlog");
        let place = (file.as_str(), *offset);
        Ok(Self {
            decoder: Decoder::new(options, &server, collations, place, (executed, by_gtid)),
            unpacking: None,
            backfill: None,
            options,
            server,
            log,
            side: None,
            catalog: HashMap::new(),
            charsets: HashMap::new(),
            latest: HashMap::new(),
            reported: from.clone(),
            reported_at: Instant::now(),
        })
    }

    /// Reads the rows of tables, too, where the memory has some to be read. `snapshot_open` when a
    /// snapshot that was interrupted goes on.
    pub(super) async fn with_tables(
        mut self,
        memory: &Memory,
        snapshot_open: bool,
    ) -> Result<Self, CaptureError> {
        let mut keys = HashMap::new();
        for copy in backfill::unfinished(self.options, memory) {
            if Cursor::of(copy).left.is_some()
                && let Some(table) = self.cataloged(&copy.table).await?
            {
                keys.insert(copy.table.clone(), table.schema.key_columns());
            }
        }
        self.backfill = Backfill::begin(self.options, memory, snapshot_open, &keys);
        Ok(self)
    }

    /// Reads until something fails or nobody listens.
    pub(super) async fn run(mut self, blocks: &Blocks) -> Result<(), Stop> {
        loop {
            self.beside(blocks).await?;
            let piece = match self.log.next().now_or_never() {
                Some(piece) => piece,
                None => {
                    self.idle(blocks).await?;
                    let patience = HEARTBEAT * HEARTBEATS_MISSED_MAX;
                    tokio::select! {
                        biased;
                        piece = self.log.next() => piece,
                        () = wake(&mut self.backfill) => continue,
                        () = tokio::time::sleep(patience) => {
                            let what = format!("{}: no sign of life from the server", self.name());
                            return Err(CaptureError::Transient { what, source: None }.into());
                        }
                    }
                }
            };
            match piece? {
                Some(Piece::Events(events)) => self.events(&events, blocks).await?,
                Some(Piece::Large(header)) => {
                    self.decoder.event(&header, &[])?;
                    self.begin_unpacking(&header);
                }
                Some(Piece::Part(part)) => self.unpack(&part, blocks).await?,
                Some(Piece::End) => self.end_unpacking(blocks).await?,
                None => {
                    let what = format!("{}: the server ended the binlog dump", self.name());
                    return Err(CaptureError::Transient { what, source: None }.into());
                }
            }
        }
    }

    /// Goes on with the tables that are read beside the stream, when it is time.
    async fn beside(&mut self, blocks: &Blocks) -> Result<(), Stop> {
        let Some(backfill) = &self.backfill else { return Ok(()) };
        if !self.decoder.at_boundary() || !backfill.is_due(self.decoder.place()) {
            return Ok(());
        }
        if self.decoder.pending_bytes() > 0 {
            self.flush(blocks).await?;
        }
        let here = Here { position: self.decoder.position(), place: self.decoder.place() };
        let Some(backfill) = &mut self.backfill else { return Ok(()) };
        for parcel in backfill.step(here)? {
            send(blocks, parcel).await?;
        }
        if backfill.is_over() {
            self.backfill = None;
        }
        Ok(())
    }

    async fn flush_full(&mut self, blocks: &Blocks) -> Result<(), Stop> {
        match self.decoder.pending_bytes() >= self.options.block_bytes_max {
            true => self.flush(blocks).await,
            false => Ok(()),
        }
    }

    fn name(&self) -> &str {
        &self.options.name
    }

    /// Nothing more is waiting: hand over what is complete.
    async fn idle(&mut self, blocks: &Blocks) -> Result<(), Stop> {
        if !self.decoder.at_boundary() {
            return Ok(());
        }
        let quiet = self.decoder.pending_bytes() == 0;
        if quiet && self.reported_at.elapsed() < PROGRESS_EVERY {
            return Ok(());
        }
        if quiet && self.decoder.position() == self.reported {
            return Ok(());
        }
        self.flush(blocks).await
    }

    async fn flush(&mut self, blocks: &Blocks) -> Result<(), Stop> {
        let mut block = self.decoder.take_block();
        self.reported = block.end.clone();
        self.reported_at = Instant::now();
        let mut news = News::Nothing;
        if let Some(backfill) = &mut self.backfill {
            news = backfill.observe(&block)?;
            block.snapshot = backfill.part();
        }
        Ok(send(blocks, Parcel { block, news }).await?)
    }

    async fn events(&mut self, events: &Events, blocks: &Blocks) -> Result<(), Stop> {
        for (header, data) in events.iter() {
            self.beside(blocks).await?;
            match self.decoder.event(header, data)? {
                Next::Unpack => {
                    self.begin_unpacking(header);
                    self.unpack(data, blocks).await?;
                    self.end_unpacking(blocks).await?;
                }
                next => self.act(next, blocks).await?,
            }
            self.flush_full(blocks).await?;
        }
        Ok(())
    }

    /// What follows are the parts of a compressed transaction.
    fn begin_unpacking(&mut self, header: &Header) {
        self.unpacking =
            Some(Unpacking { header: *header, payload: Payload::default(), held: None });
    }

    /// Decodes the events in a part of a compressed transaction.
    async fn unpack(&mut self, part: &[u8], blocks: &Blocks) -> Result<(), Stop> {
        let Some(mut unpacking) = self.unpacking.take() else { return Ok(()) };
        unpacking.payload.push(part);
        let bad = |this: &Self, what| this.decoder.malformed(&unpacking.header, what);
        while let Some(event) = unpacking.payload.next().map_err(|what| bad(self, what))? {
            if let Some(event) = unpacking.held.replace(event) {
                self.inner(&event, blocks).await?;
            }
        }
        self.unpacking = Some(unpacking);
        Ok(())
    }

    async fn end_unpacking(&mut self, blocks: &Blocks) -> Result<(), Stop> {
        let Some(Unpacking { header, payload, held }) = self.unpacking.take() else {
            return Ok(());
        };
        payload.finish().map_err(|what| self.decoder.malformed(&header, what))?;
        match held {
            Some(event) => self.inner(&event, blocks).await,
            None => Ok(()),
        }
    }

    /// Decodes an event of a compressed transaction.
    async fn inner(&mut self, event: &(Header, Vec<u8>), blocks: &Blocks) -> Result<(), Stop> {
        let next = self.decoder.unpacked(&event.0, &event.1)?;
        self.act(next, blocks).await?;
        self.flush_full(blocks).await
    }

    async fn act(&mut self, next: Next, blocks: &Blocks) -> Result<(), Stop> {
        match next {
            Next::Replay(prepared) => self.replay(prepared, blocks).await,
            Next::Search(xid) => {
                let prepared = self.search(&xid).await?;
                self.replay(prepared, blocks).await
            }
            next => Ok(self.follow(next).await?),
        }
    }

    /// Does what the decoder needs before the next event.
    async fn follow(&mut self, next: Next) -> Result<(), CaptureError> {
        match next {
            Next::Go | Next::Unpack | Next::Replay(_) | Next::Search(_) => {}
            Next::Resolve { id, map, raw } => {
                let table = self.resolve(*map).await?;
                self.decoder.mapped(id, raw, table);
            }
            Next::Truncate(name) => {
                // It may have been dropped since.
                let table = self.cataloged(&name).await?;
                let table = table.or_else(|| self.latest.get(&name).cloned());
                self.decoder.truncated(&table.unwrap_or_else(|| Table::bare(&name)));
            }
        }
        Ok(())
    }

    /// Finds the table of a map, asking the catalog again when what is known does not fit.
    async fn resolve(&mut self, map: TableMap) -> Result<Arc<Table>, CaptureError> {
        let name = TableName::new(&map.database, &map.table);
        if self.decoder.stale.remove(&name) {
            self.catalog.remove(&name);
        }
        let fresh = !self.catalog.contains_key(&name);
        let known = self.cataloged(&name).await?;
        let mut table = Table::from_log(map.clone(), known.as_deref(), self.options.zero_dates);
        let fits = |table: &Table, known: &Option<Arc<Table>>| {
            known.as_ref().is_some_and(|known| known.schema == table.schema)
        };
        if !fresh && table.as_ref().is_none_or(|table| !fits(table, &known)) {
            self.catalog.remove(&name);
            let known = self.cataloged(&name).await?;
            table = Table::from_log(map, known.as_deref(), self.options.zero_dates);
        }
        let mut table = table.ok_or_else(|| {
            CaptureError::definite(
                format!("{}: {name} had other columns when the log was written", self.name()),
                "run `SET GLOBAL binlog_row_metadata = 'FULL'` so that the log describes itself; \
                 for what is in the log already, take the snapshot anew",
            )
        })?;
        for codec in &mut table.codecs {
            if let Some(charset) = codec.kind.charset_mut()
                && let Charset::Other(name) = &*charset
            {
                *charset = self.charset(&name.clone()).await?;
            }
        }
        Ok(match self.latest.get(&name) {
            Some(latest) if **latest == table => latest.clone(),
            _ => {
                let table = Arc::new(table);
                self.latest.insert(name, table.clone());
                table
            }
        })
    }

    /// A character set that only the server knows.
    async fn charset(&mut self, name: &Arc<str>) -> Result<Charset, CaptureError> {
        if let Some(known) = self.charsets.get(name) {
            return Ok(Charset::Mapped(known.clone()));
        }
        let mut conn = connect::connect(self.options).await?;
        let mapping = Arc::new(mapping::load(self.options, &mut conn, name).await?);
        conn.disconnect().await.ok();
        self.charsets.insert(name.clone(), mapping.clone());
        Ok(Charset::Mapped(mapping))
    }

    async fn cataloged(&mut self, name: &TableName) -> Result<Option<Arc<Table>>, CaptureError> {
        if let Some(known) = self.catalog.get(name) {
            return Ok(known.clone());
        }
        let mut side = match self.side.take() {
            Some(conn) => conn,
            None => connect::connect(self.options).await?,
        };
        let table = match catalog::table(self.options, &self.server, &mut side, name).await {
            // It may have been closed since it was last used.
            Err(error) if error.is_transient() => {
                side = connect::connect(self.options).await?;
                catalog::table(self.options, &self.server, &mut side, name).await?
            }
            other => other?,
        };
        self.side = Some(side);
        self.catalog.insert(name.clone(), table.clone());
        Ok(table)
    }
}

impl From<Malformed> for CaptureError {
    fn from(what: Malformed) -> Self {
        CaptureError::definite(what.to_string(), "report it with the table's definition")
    }
}
