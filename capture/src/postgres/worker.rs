//! The thread of one reader: the snapshot where one is needed, then the stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossdock_model::{Block, TableName};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio_postgres::Client;

use super::backfill::{Backfill, Task};
use super::catalog::{self, LogColumn};
use super::connection::{Connection, Filled, server_error};
use super::control::Control;
use super::decoder::Decoder;
use super::image::Table;
use super::in_progress::{Changes, Commit, InProgress, Taken};
use super::pace::{Limits, Pace};
use super::pgoutput::{EPOCH_MICROS, RelationMessage};
use super::prepare::Prepared;
use super::progress::{News, Parcel};
use super::snapshot::{self, Keep};
use super::status::Status;
use super::{errors, identity, slot, sql};
use crate::{CaptureError, ServerIdentity, SourceOptions};

/// A block never is smaller than this because of `block_bytes_max`.
const BLOCK_BYTES_MIN: usize = 4 * 1024;
/// How long to wait before trying again to hand over a block that nobody takes.
const HAND_OVER_PAUSE: Duration = Duration::from_millis(1);
/// How often at most an idle source's position is moved.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// What goes to the reader's handle.
pub(super) type Delivery = Result<Parcel, CaptureError>;

/// Where the thread begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// With a snapshot, and the stream unless nothing is kept.
    Snapshot(Keep),
    /// With a slot made now.
    Now,
    /// After an LSN.
    After(u64),
}

/// Everything that the thread needs.
pub(super) struct Worker {
    pub options: Arc<SourceOptions>,
    pub control: Arc<Control>,
    pub prepared: Prepared,
    /// The server that was read last, if reading goes on.
    pub known: Option<ServerIdentity>,
    pub blocks: Sender<Delivery>,
    /// For the catalog, whose connection is asynchronous.
    pub runtime: tokio::runtime::Handle,
    /// What is to be read beside the stream.
    pub task: Task,
}

impl Worker {
    /// Runs until the reader is dropped or something goes wrong.
    pub(super) fn run(self, begin: Begin) {
        let blocks = self.blocks.clone();
        if let Err(error) = self.read(begin) {
            // A reader that is gone does not want to know.
            let _ = blocks.blocking_send(Err(error));
        }
    }

    fn read(self, begin: Begin) -> Result<(), CaptureError> {
        let from = match begin {
            Begin::After(from) => from,
            Begin::Now => snapshot::begin_now(&self)?,
            Begin::Snapshot(keep) => {
                let point = snapshot::take(&self, keep)?;
                if keep == Keep::Nothing {
                    return Ok(());
                }
                point
            }
        };
        self.control.acknowledged.fetch_max(from, Ordering::AcqRel);
        let mut connection = Connection::open(&self.options, &self.control, true)?;
        let known = self.known.as_ref();
        let server = identity::verify(&mut connection, known, from, self.prepared.standby)?;
        // Set once: nobody else does.
        let _ = self.control.server.set(server);
        slot::keep_on_standbys(&mut connection, &self.prepared)?;
        start(&mut connection, &self.options, self.prepared.version, from)?;
        let backfill = match begin {
            // Everything has just been read.
            Begin::Snapshot(_) => None,
            Begin::Now | Begin::After(_) => Backfill::begin(
                &self.options,
                &self.control,
                &self.runtime,
                &self.prepared,
                &self.task,
                from,
            ),
        };
        let spill_dir = self.options.spill_dir.clone().unwrap_or_else(std::env::temp_dir);
        let resolver = Resolver {
            tables: self.prepared.tables.into_iter().map(|(found, t)| (found.name, t)).collect(),
            options: self.options.clone(),
            runtime: self.runtime,
            client: None,
        };
        let limits = if connection.gather()? { Limits::SAME_MACHINE } else { Limits::NETWORK };
        let now = Instant::now();
        let mut decoder = Decoder::new(from);
        if backfill.is_some() {
            decoder.note_ended();
        }
        let mut stream = Stream {
            status: Status::new(from, self.prepared.sender_timeout, now),
            connection,
            decoder,
            backfill,
            in_progress: InProgress::new(spill_dir),
            resolver,
            control: self.control,
            blocks: self.blocks,
            block_bytes_max: self.options.block_bytes_max.max(BLOCK_BYTES_MIN),
            pace: Pace::new(limits, now),
            block_since: now,
            server_micros: 0,
            idle_moved: now,
        };
        if begin == Begin::Now {
            // The position is known at once, also where nothing happens.
            let block = stream.decoder.empty_block(from, crate::memory::now_micros());
            if stream.deliver(block, News::Nothing)? == Reader::Gone {
                return Ok(());
            }
        }
        stream.run()
    }
}

fn start(
    connection: &mut Connection,
    options: &SourceOptions,
    version: i32,
    from: u64,
) -> Result<(), CaptureError> {
    let at = crossdock_model::Position::Postgres { lsn: from };
    // 14 brought logical messages and transactions in progress (protocol 2). Of protocol 4 (16)
    // nothing else is used: `parallel` only adds places to aborts, for who applies in parallel.
    let (protocol, more) = match version {
        160_000.. => (4, ", messages 'true', streaming 'on'"),
        140_000.. => (2, ", messages 'true', streaming 'on'"),
        _ => (1, ""),
    };
    // The list of names is parsed once more by the plugin: quoted as identifiers in a literal.
    let publication = sql::literal(&sql::identifier(&options.publication));
    connection.send_query(&format!(
        "START_REPLICATION SLOT {} LOGICAL {at} (proto_version '{protocol}', publication_names \
         {publication}{more})",
        sql::identifier(&options.slot)
    ))?;
    let frame = connection.reply()?;
    match frame.0 {
        b'W' => Ok(()),
        b'E' => {
            let error = server_error(connection.body(&frame));
            Err(match &*error.code {
                "42704" | "55000" | "58P01" => errors::gap(
                    options,
                    format!("slot {} can't be read from {at}: {}", options.slot, error.message),
                ),
                _ => errors::server(options, "starting replication", &error),
            })
        }
        tag => Err(connection.odd(tag)),
    }
}

/// Looks up the tables that the log describes.
struct Resolver {
    tables: HashMap<TableName, Table>,
    options: Arc<SourceOptions>,
    runtime: tokio::runtime::Handle,
    client: Option<Client>,
}

impl Resolver {
    fn resolve(&mut self, relation: &RelationMessage<'_>) -> Result<Option<Table>, CaptureError> {
        let name = TableName::new(relation.schema, relation.table);
        let Some(known) = self.tables.get(&name) else { return Ok(None) };
        let columns = LogColumn::of(relation);
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.runtime.block_on(sql::connect(&self.options))?,
        };
        let described = catalog::table(&client, &self.options, relation.oid, name, &columns);
        let mut table = self.runtime.block_on(described)?;
        self.client = Some(client);
        if table.schema == known.schema {
            // One schema, one pointer: blocks tell tables apart by it.
            table.schema = known.schema.clone();
        } else {
            tracing::info!(source = self.options.name, table = %table.schema.name,
                "the table has another schema from here on");
        }
        self.tables.insert(table.schema.name.clone(), table.clone());
        Ok(Some(table))
    }
}

struct Stream {
    connection: Connection,
    decoder: Decoder,
    /// Tables that are read beside the stream, while there are any.
    backfill: Option<Backfill>,
    in_progress: InProgress,
    resolver: Resolver,
    control: Arc<Control>,
    blocks: Sender<Delivery>,
    block_bytes_max: usize,
    status: Status,
    pace: Pace,
    /// When the block that is being built got its first bytes.
    block_since: Instant,
    /// The server's clock when it sent last.
    server_micros: i64,
    /// When an idle source's position was moved last.
    idle_moved: Instant,
}

/// Whether anybody still takes blocks.
#[derive(PartialEq, Eq)]
enum Reader {
    There,
    Gone,
}

impl Stream {
    fn run(&mut self) -> Result<(), CaptureError> {
        loop {
            self.report(Instant::now())?;
            let behind = self.pace.is_behind();
            let mut filled =
                if behind { self.connection.fill_now() } else { self.connection.fill() }?;
            let mut reader = Reader::There;
            if behind && filled == Filled::Nothing {
                // What is whole need not wait for what the server says next.
                reader = self.hand_over_at_boundary()?;
                let asked = Instant::now();
                filled = self.connection.fill()?;
                let now = Instant::now();
                self.pace.waited(now - asked, now);
            }
            let now = Instant::now();
            if let Filled::Bytes(count) = filled {
                self.status.heard(now);
                let pause = self.pace.read(count, now);
                if reader == Reader::There {
                    reader = self.frames(now)?;
                }
                if let Some(pause) = pause {
                    std::thread::sleep(pause);
                }
            }
            let gone = |reader: Reader| reader == Reader::Gone;
            if gone(reader) || gone(self.idle(now)?) || gone(self.read_beside(now)?) {
                return Ok(());
            }
        }
    }

    /// Decodes what has arrived. A block is closed at a boundary when it is nearly full or old
    /// enough, and within a transaction only when it is full.
    fn frames(&mut self, now: Instant) -> Result<Reader, CaptureError> {
        while let Some(frame) = self.connection.frame()? {
            let empty = self.decoder.len() == 0;
            if self.frame(&frame, now)? == Reader::Gone {
                return Ok(Reader::Gone);
            }
            let (length, boundary) = (self.decoder.len(), self.decoder.at_boundary());
            if empty && length > 0 {
                self.block_since = now;
            }
            let full = length >= self.block_bytes_max
                || boundary && length >= self.block_bytes_max / 4 * 3
                || boundary && length > 0 && self.pace.is_due(self.block_since, now);
            if full && self.hand_over()? == Reader::Gone {
                return Ok(Reader::Gone);
            }
        }
        if self.pace.is_behind() { Ok(Reader::There) } else { self.hand_over_at_boundary() }
    }

    fn frame(
        &mut self,
        frame: &super::connection::Frame,
        now: Instant,
    ) -> Result<Reader, CaptureError> {
        let body = self.connection.body(frame);
        match (frame.0, body.split_first()) {
            (b'd', Some((b'w', rest))) => {
                // Start LSN, end LSN, server's clock, then the message.
                let Some((head, message)) = rest.split_first_chunk::<24>() else {
                    return Err(self.connection.odd(b'w'));
                };
                let (_, sent) = lsn_and_clock(head);
                self.server_micros = sent;
                if message.is_empty() {
                    // 13 sends it in place of an origin that it does not find any more.
                    return Ok(Reader::There);
                }
                let resolver = &mut self.resolver;
                match self.in_progress.take(message)? {
                    Taken::Not => {
                        let resolve =
                            &mut |relation: &RelationMessage<'_>| resolver.resolve(relation);
                        self.decoder.message(message, sent, resolve)?;
                        if let Some(committed) = self.decoder.commit_micros() {
                            self.pace.sent(Some(sent.saturating_sub(committed)), now);
                        }
                    }
                    Taken::Kept => self.pace.sent(None, now),
                    Taken::Committed(commit, changes) => return self.committed(&commit, changes),
                }
                Ok(Reader::There)
            }
            (b'd', Some((b'k', rest))) => {
                let Some((head, [reply])) = rest.split_first_chunk::<16>() else {
                    return Err(self.connection.odd(b'k'));
                };
                let (end, sent) = keepalive(head);
                self.server_micros = sent;
                self.status.server_is_at(end);
                if *reply == 1 {
                    self.status.reply_is_due();
                }
                Ok(Reader::There)
            }
            (b'E', _) => {
                let error = server_error(body);
                let options = &self.resolver.options;
                Err(match &*error.code {
                    "55000" | "58P01" => errors::gap(
                        options,
                        format!("slot {} ended: {}", options.slot, error.message),
                    ),
                    _ => errors::server(options, "streaming", &error),
                })
            }
            (b'c' | b'C' | b'Z', _) => Err(CaptureError::Transient {
                what: format!("source {}: the server ended the stream", self.resolver.options.name),
                source: None,
            }),
            (b'N' | b'S' | b'A', _) => Ok(Reader::There),
            (tag, _) => Err(self.connection.odd(tag)),
        }
    }

    /// A transaction that was in progress has committed: its changes go into blocks now.
    fn committed(&mut self, commit: &Commit, mut changes: Changes) -> Result<Reader, CaptureError> {
        self.decoder.begin_committed(commit)?;
        while let Some(message) = changes.next()? {
            let resolver = &mut self.resolver;
            self.decoder.committed_message(message, &mut |relation| resolver.resolve(relation))?;
            if self.decoder.len() >= self.block_bytes_max {
                if self.hand_over()? == Reader::Gone {
                    return Ok(Reader::Gone);
                }
                // The server waits to be read: it is not silent.
                let now = Instant::now();
                self.status.heard(now);
                self.report(now)?;
            }
        }
        self.decoder.commit(commit.end_lsn)?;
        Ok(Reader::There)
    }

    fn hand_over_at_boundary(&mut self) -> Result<Reader, CaptureError> {
        if self.decoder.at_boundary() { self.hand_over() } else { Ok(Reader::There) }
    }

    fn hand_over(&mut self) -> Result<Reader, CaptureError> {
        let Some(block) = self.decoder.take_block() else { return Ok(Reader::There) };
        let news = match &mut self.backfill {
            Some(backfill) => backfill.observe(&block, &self.decoder.take_ended())?,
            None => News::Nothing,
        };
        self.deliver(block, news)
    }

    /// Lets the reading of tables beside the stream go on, and hands over what has its place here.
    fn read_beside(&mut self, now: Instant) -> Result<Reader, CaptureError> {
        let Some(backfill) = &self.backfill else { return Ok(Reader::There) };
        let here = self.decoder.end().max(self.decoder.seen()).max(self.status.server_lsn());
        if backfill.waits_for().is_some_and(|high| high <= here)
            && self.hand_over_at_boundary()? == Reader::Gone
        {
            return Ok(Reader::Gone);
        }
        let clean = self.decoder.at_boundary() && self.decoder.len() == 0;
        let Some(backfill) = &mut self.backfill else { return Ok(Reader::There) };
        let parcels = backfill.step(clean.then_some(here), now)?;
        let over = backfill.is_over();
        for Parcel { block, news } in parcels {
            self.decoder.moved_to(here);
            if self.send(Parcel { block, news })? == Reader::Gone {
                return Ok(Reader::Gone);
            }
        }
        if over {
            self.backfill = None;
        }
        Ok(Reader::There)
    }

    /// Hands a block over. While nobody takes it, the server is told now and then that we live;
    /// its data waits in the socket.
    fn deliver(&mut self, mut block: Block, news: News) -> Result<Reader, CaptureError> {
        if let Some(backfill) = &self.backfill {
            block.snapshot = backfill.part();
        }
        self.send(Parcel { block, news })
    }

    fn send(&mut self, parcel: Parcel) -> Result<Reader, CaptureError> {
        let mut delivery = Ok(parcel);
        loop {
            match self.blocks.try_send(delivery) {
                Ok(()) => return Ok(Reader::There),
                Err(TrySendError::Closed(_)) => return Ok(Reader::Gone),
                Err(TrySendError::Full(back)) => delivery = back,
            }
            std::thread::sleep(HAND_OVER_PAUSE);
            let now = Instant::now();
            self.status.heard(now);
            self.report(now)?;
        }
    }

    /// The server's log may grow without captured changes. When everything handed over is durable with the caller,
    /// an empty block moves the position to where the server is: it must be as durable as any
    /// other before the server may drop its log up to there, or else a restart would ask for
    /// less than the slot still has.
    fn idle(&mut self, now: Instant) -> Result<Reader, CaptureError> {
        let end = self.decoder.end();
        let target = self.status.server_lsn().max(self.decoder.seen());
        let quiet = self.decoder.at_boundary() && self.decoder.len() == 0;
        let durable = self.control.acknowledged.load(Ordering::Acquire) >= end;
        if target > end && quiet && durable && now - self.idle_moved >= IDLE_INTERVAL {
            self.idle_moved = now;
            let block = self.decoder.empty_block(target, self.server_micros);
            return self.deliver(block, News::Nothing);
        }
        Ok(Reader::There)
    }

    /// Tells the server how far we are, when it is time to.
    fn report(&mut self, now: Instant) -> Result<(), CaptureError> {
        if self.status.is_dead(now) {
            return Err(CaptureError::Transient {
                what: format!(
                    "source {}: the server has been silent for too long",
                    self.resolver.options.name
                ),
                source: None,
            });
        }
        let acknowledged = self.control.acknowledged.load(Ordering::Acquire);
        let received = self.decoder.seen();
        match self.status.due(acknowledged, received, now) {
            Some(message) => self.connection.send(|out| {
                out.extend_from_slice(&message);
                Ok(())
            }),
            None => Ok(()),
        }
    }
}

/// End LSN and Unix time in microseconds of an XLogData header.
fn lsn_and_clock(head: &[u8; 24]) -> (u64, i64) {
    let [_, _, _, _, _, _, _, _, rest @ ..] = head;
    keepalive(rest)
}

/// LSN and Unix time in microseconds.
fn keepalive(head: &[u8; 16]) -> (u64, i64) {
    let [a, b, c, d, e, f, g, h, clock @ ..] = *head;
    let lsn = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    (lsn, i64::from_be_bytes(clock).saturating_add(EPOCH_MICROS))
}
