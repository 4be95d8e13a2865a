//! The task that reads a source: snapshot if asked, then the stream, block by block.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossdock_model::position::split_epoch;
use crossdock_model::{Block, Position, TableName};
use futures_util::{FutureExt, StreamExt};
use mysql_async::binlog::BinlogChecksumAlg;
use mysql_async::binlog::events::Event;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, Sid};
use tokio::sync::mpsc::Sender;

use super::catalog::{self, Table};
use super::connect::{self, Server, literal, server_error};
use super::decoder::{Decoder, Next};
use super::event::{Header, kind};
use super::gtid::Executed;
use super::payload::Payload;
use super::table_map::TableMap;
use super::wire::Malformed;
use crate::{CaptureError, SourceOptions};

/// An idle server says so this often.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The connection is given up when nothing came for so many heartbeats.
const HEARTBEATS_MISSED_MAX: u32 = 20;
/// Progress without captured changes is reported this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What the library makes of a packet.
type Packet = Result<Event, mysql_async::Error>;

/// Where blocks go.
pub(super) type Blocks = Sender<Result<Block, CaptureError>>;

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
pub(super) async fn send(blocks: &Blocks, block: Block) -> Result<(), Gone> {
    blocks.send(Ok(block)).await.map_err(|_| Gone)
}

/// A dump of the log being read.
pub(super) struct Stream<'a> {
    options: &'a SourceOptions,
    server: Server,
    log: Pin<Box<BinlogStream>>,
    /// For the catalog; opened when it is needed, and again when it was lost.
    side: Option<Conn>,
    catalog: HashMap<TableName, Option<Arc<Table>>>,
    /// The last version of each table, so that equal ones stay one.
    latest: HashMap<TableName, Arc<Table>>,
    decoder: Decoder,
    /// Headers of a compressed transaction's events, which the library may deliver once more.
    unpacked: VecDeque<Header>,
    reported: Position,
    reported_at: Instant,
}

impl<'a> Stream<'a> {
    /// Asks the server for everything after `from`.
    pub(super) async fn open(
        options: &'a SourceOptions,
        from: &Position,
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
        let by_gtid = server.gtids && !executed.is_empty();
        if server.mariadb && executed.is_empty() {
            executed = gtids_at(options, &mut conn, name, *offset).await?;
        }
        prepare(options, &server, &mut conn, by_gtid.then_some(&executed)).await?;
        let mut request = BinlogStreamRequest::new(options.server_id);
        let sids = sids(options, &executed)?;
        if by_gtid && !server.mariadb {
            request = request.with_gtid().with_gtid_set(sids);
        } else if !by_gtid {
            if *offset > u64::from(u32::MAX) {
                return Err(CaptureError::definite(
                    format!("{}: can't begin behind 4 GiB of {file} without GTIDs", options.name),
                    "turn on GTIDs, or take the snapshot anew",
                ));
            }
            request = request.with_filename(name.as_bytes()).with_pos(*offset);
        }
        let log = conn
            .get_binlog_stream(request)
            .await
            .map_err(|error| server_error(options, "asking for the binlog", error))?;
        tracing::info!(source = %options.name, %from, by_gtid, version = %server.version,
            "reading the binlog");
        let place = (file.as_str(), *offset);
        Ok(Self {
            decoder: Decoder::new(options, &server, collations, place, (executed, by_gtid)),
            unpacked: VecDeque::new(),
            options,
            server,
            log: Box::pin(log),
            side: None,
            catalog: HashMap::new(),
            latest: HashMap::new(),
            reported: from.clone(),
            reported_at: Instant::now(),
        })
    }

    /// Reads until something fails or nobody listens.
    pub(super) async fn run(mut self, blocks: &Blocks) -> Result<(), Stop> {
        loop {
            let event = match self.packet().now_or_never() {
                Some(event) => event?,
                None => {
                    self.idle(blocks).await?;
                    let patience = HEARTBEAT * HEARTBEATS_MISSED_MAX;
                    match tokio::time::timeout(patience, self.packet()).await {
                        Ok(event) => event?,
                        Err(elapsed) => {
                            let what = format!("{}: no sign of life from the server", self.name());
                            return Err(CaptureError::transient(what, elapsed).into());
                        }
                    }
                }
            };
            match event {
                Some(Ok(event)) => self.event(&event, blocks).await?,
                Some(Err(error)) => {
                    return Err(server_error(self.options, "reading the binlog", error).into());
                }
                None => {
                    let what = format!("{}: the server ended the binlog dump", self.name());
                    return Err(CaptureError::Transient { what, source: None }.into());
                }
            }
            self.flush_full(blocks).await?;
        }
    }

    /// The next packet. The library panics at those that are too short for an event.
    async fn packet(&mut self) -> Result<Option<Packet>, CaptureError> {
        let next = AssertUnwindSafe(self.log.next()).catch_unwind().await;
        next.map_err(|_| {
            let what = format!(
                "{}: the server sent a packet that is not an event, behind {}",
                self.options.name,
                self.decoder.position()
            );
            CaptureError::Transient { what, source: None }
        })
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
        let block = self.decoder.take_block();
        self.reported = block.end.clone();
        self.reported_at = Instant::now();
        Ok(send(blocks, block).await?)
    }

    async fn event(&mut self, event: &Event, blocks: &Blocks) -> Result<(), Stop> {
        let raw = event.header();
        let header = Header {
            seconds: raw.timestamp(),
            kind: raw.event_type_raw(),
            server_id: raw.server_id(),
            size: raw.event_size(),
            end: raw.log_pos(),
            flags: raw.flags_raw(),
        };
        if self.is_repeated(&header) {
            return Ok(());
        }
        let data = self.verified(&header, event)?;
        match self.decoder.event(&header, data)? {
            Next::Unpack => self.unpack(&header, data, blocks).await,
            next => Ok(self.follow(next).await?),
        }
    }

    /// The library decompresses, too, but keeps silent about what it can't read: what it delivers
    /// of a compressed transaction was decoded from its event already.
    fn is_repeated(&mut self, header: &Header) -> bool {
        if self.unpacked.front() == Some(header) {
            self.unpacked.pop_front();
            return true;
        }
        self.unpacked.clear();
        false
    }

    /// Decodes the events of a compressed transaction.
    async fn unpack(&mut self, whole: &Header, data: &[u8], blocks: &Blocks) -> Result<(), Stop> {
        let bad = |this: &Self, what| Stop::Failed(this.decoder.malformed(whole, what));
        let mut payload = Payload::open(data).map_err(|what| bad(self, what))?;
        while let Some((header, data)) = payload.next().map_err(|what| bad(self, what))? {
            let next = self.decoder.unpacked(&header, &data)?;
            self.follow(next).await?;
            self.unpacked.push_back(header);
            self.flush_full(blocks).await?;
        }
        Ok(())
    }

    /// Does what the decoder needs before the next event.
    async fn follow(&mut self, next: Next) -> Result<(), CaptureError> {
        match next {
            Next::Go | Next::Unpack => {}
            Next::Resolve { id, map, raw } => {
                let table = self.resolve(*map).await?;
                self.decoder.mapped(id, raw, table);
            }
            Next::Truncate(name) => {
                let table = self.cataloged(&name).await?;
                self.decoder.truncated(table);
            }
        }
        Ok(())
    }

    /// The event's data without checksum, once that is right.
    fn verified<'e>(&self, header: &Header, event: &'e Event) -> Result<&'e [u8], CaptureError> {
        let data = event.data();
        let footer = event.footer();
        let checked = footer.get_checksum_enabled()
            && matches!(
                footer.get_checksum_alg(),
                Ok(Some(BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32))
            );
        if !checked {
            // The rotate event that opens a dump may have a checksum before any is announced.
            if header.kind == kind::ROTATE
                && header.body_bytes().is_ok_and(|bytes| data.len() == bytes as usize)
                && let Some((body, sum)) = data.split_last_chunk::<4>()
                && header.checksum_holds(body, &[], *sum)
            {
                return Ok(body);
            }
            return Ok(data);
        }
        let tail: &[u8] = match header.kind {
            kind::FORMAT_DESCRIPTION => &[1],
            _ => &[],
        };
        match event.checksum() {
            Some(sum) if header.checksum_holds(data, tail, sum) => Ok(data),
            _ => Err(CaptureError::definite(
                format!(
                    "{}: event of type {} ending at {} has a wrong checksum",
                    self.name(),
                    header.kind,
                    header.end
                ),
                "check the server's disk and network; verify the file with mysqlbinlog \
                 (mariadb-binlog) --verify-binlog-checksum",
            )),
        }
    }

    /// Finds the table of a map, asking the catalog again when what is known does not fit.
    async fn resolve(&mut self, map: TableMap) -> Result<Arc<Table>, CaptureError> {
        let name = TableName::new(&map.database, &map.table);
        if self.decoder.stale.remove(&name) {
            self.catalog.remove(&name);
        }
        let fresh = !self.catalog.contains_key(&name);
        let known = self.cataloged(&name).await?;
        let mut table = Table::from_log(map.clone(), known.as_deref());
        let fits = |table: &Table, known: &Option<Arc<Table>>| {
            known.as_ref().is_some_and(|known| known.schema == table.schema)
        };
        if !fresh && table.as_ref().is_none_or(|table| !fits(table, &known)) {
            self.catalog.remove(&name);
            let known = self.cataloged(&name).await?;
            table = Table::from_log(map, known.as_deref());
        }
        let table = table.ok_or_else(|| {
            CaptureError::definite(
                format!("{}: {name} had other columns when the log was written", self.name()),
                "run `SET GLOBAL binlog_row_metadata = 'FULL'` so that the log describes itself; \
                 for what is in the log already, take the snapshot anew",
            )
        })?;
        Ok(match self.latest.get(&name) {
            Some(latest) if **latest == table => latest.clone(),
            _ => {
                let table = Arc::new(table);
                self.latest.insert(name, table.clone());
                table
            }
        })
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

fn bad_gtid(options: &SourceOptions, gtid: &str) -> CaptureError {
    CaptureError::definite(
        format!("{}: `{gtid}` is not a GTID position", options.name),
        "check the checkpoint; MariaDB writes 0-1-42, MySQL uuid:1-42",
    )
}

/// MariaDB's GTID position of a place in a file.
pub(super) async fn gtids_at(
    options: &SourceOptions,
    conn: &mut Conn,
    file: &str,
    offset: u64,
) -> Result<Executed, CaptureError> {
    let sql = format!("SELECT BINLOG_GTID_POS({}, {offset})", literal(file));
    let text: Option<Option<String>> = conn
        .query_first(sql)
        .await
        .map_err(|error| server_error(options, "asking for the GTID position", error))?;
    let text = text.flatten().unwrap_or_default();
    Executed::parse(&text).ok_or_else(|| bad_gtid(options, &text))
}

/// Says what kind of replica this is.
async fn prepare(
    options: &SourceOptions,
    server: &Server,
    conn: &mut Conn,
    from: Option<&Executed>,
) -> Result<(), CaptureError> {
    let beat = HEARTBEAT.as_nanos();
    let mut sql = vec![
        format!("SET @master_heartbeat_period = {beat}, @source_heartbeat_period = {beat}"),
        "SET @master_binlog_checksum = @@global.binlog_checksum, \
         @source_binlog_checksum = @@global.binlog_checksum"
            .to_string(),
        "SET SESSION net_write_timeout = 600".to_string(),
    ];
    if server.mariadb {
        sql.push("SET @mariadb_slave_capability = 4".into());
        if let Some(executed) = from {
            let state = literal(&executed.to_string());
            sql.push(format!("SET @slave_connect_state = {state}"));
            sql.push("SET @slave_gtid_strict_mode = 0, @slave_gtid_ignore_duplicates = 0".into());
        }
    }
    for statement in sql {
        conn.query_drop(statement)
            .await
            .map_err(|error| server_error(options, "preparing the dump", error))?;
    }
    Ok(())
}

/// MySQL's executed set as the dump request wants it.
fn sids(options: &SourceOptions, executed: &Executed) -> Result<Vec<Sid<'static>>, CaptureError> {
    let mut sids = Vec::new();
    for (source, intervals) in executed.sources() {
        let mut text = source.clone();
        for (from, to) in intervals {
            text.push_str(&format!(":{from}-{to}"));
        }
        sids.push(text.parse().map_err(|_| bad_gtid(options, &text))?);
    }
    Ok(sids)
}

impl From<Malformed> for CaptureError {
    fn from(what: Malformed) -> Self {
        CaptureError::definite(what.to_string(), "report it with the table's definition")
    }
}
