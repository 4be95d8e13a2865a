//! Reads prepared XA transactions from the log once more, through a connection of its own: large
//! ones, and those that were prepared before this reader began.

use std::ops::ControlFlow;

use mysql_async::Row;
use mysql_async::prelude::Queryable;
use mysql_common::packets::BinlogDumpFlags;
use mysql_common::packets::binlog_request::BinlogRequest;

use super::{Blocks, Stop, Stream};
use crate::mysql::connect::{self, Server, server_error};
use crate::mysql::decoder::Prepared;
use crate::mysql::dump::{Log, Piece};
use crate::mysql::event::{self, Header, kind};
use crate::mysql::payload::Payload;
use crate::mysql::request::settings;
use crate::mysql::statement::{self, Statement};
use crate::mysql::wire::Malformed;
use crate::{CaptureError, SourceOptions};

/// Servers let dumps with this id be as many as there are; those end where the log does.
const NOBODY: u32 = 0;
/// Where the first event of a file is.
const FILE_BEGIN: u64 = 4;

impl Stream<'_> {
    /// Hands over the changes of a prepared transaction that is committed now.
    pub(super) async fn replay(&mut self, prepared: Prepared, to: &Blocks) -> Result<(), Stop> {
        match prepared {
            Prepared::Nothing => {}
            Prepared::Kept(events) => {
                for (header, data) in events {
                    self.once_more(&header, &data, to).await?;
                }
            }
            Prepared::InLog { file, offset } => self.read_again(&file, offset, to).await?,
        }
        self.decoder.replay_ends();
        Ok(())
    }

    async fn once_more(&mut self, header: &Header, data: &[u8], to: &Blocks) -> Result<(), Stop> {
        let next = self.decoder.replayed(header, data)?;
        self.follow(next).await?;
        self.flush_full(to).await
    }

    async fn read_again(&mut self, file: &str, offset: u64, to: &Blocks) -> Result<(), Stop> {
        let cut_off = CaptureError::definite(
            format!("{}: an XA transaction at {file}:{offset} has no end", self.options.name),
            "check the server's binlog with mysqlbinlog (mariadb-binlog)",
        );
        let mut log = dump(self.options, &self.server, file, offset)?;
        let (mut begun, mut whole) = (false, None);
        while let Some(piece) = log.next().await? {
            match (piece, &mut whole) {
                (Piece::Events(events), _) => {
                    for (header, data) in events.iter() {
                        match header.kind {
                            kind::XA_PREPARE => return Ok(()),
                            kind::TRANSACTION_PAYLOAD => {
                                let mut payload = Payload::default();
                                self.unpack_again((header, &mut payload), data, to).await?;
                                return self.unpacked_again(header, payload);
                            }
                            event if is_gtid(event) && begun => return Err(cut_off.into()),
                            event if is_gtid(event) => begun = true,
                            _ => self.once_more(header, data, to).await?,
                        }
                    }
                }
                (Piece::Large(header), _) => whole = Some((header, Payload::default())),
                (Piece::Part(part), Some((header, payload))) => {
                    self.unpack_again((header, payload), &part, to).await?;
                }
                (Piece::End, Some(_)) => match whole.take() {
                    Some((header, payload)) => return self.unpacked_again(&header, payload),
                    None => break,
                },
                (Piece::Part(_) | Piece::End, None) => {}
            }
        }
        Err(cut_off.into())
    }

    /// A compressed transaction holds all of it, up to XA PREPARE.
    async fn unpack_again(
        &mut self,
        (whole, payload): (&Header, &mut Payload),
        part: &[u8],
        to: &Blocks,
    ) -> Result<(), Stop> {
        payload.push(part);
        while let Some((header, data)) =
            payload.next().map_err(|what| self.decoder.malformed(whole, what))?
        {
            self.once_more(&header, &data, to).await?;
        }
        Ok(())
    }

    fn unpacked_again(&self, whole: &Header, payload: Payload) -> Result<(), Stop> {
        Ok(payload.finish().map_err(|what| self.decoder.malformed(whole, what))?)
    }

    /// Looks for a transaction that was prepared and not ended before the place where reading is:
    /// in this file, then in the one before, and so on.
    pub(super) async fn search(&mut self, xid: &str) -> Result<Prepared, CaptureError> {
        let (here, offset) = self.decoder.here();
        let (here, offset) = (here.to_string(), offset);
        tracing::info!(source = %self.options.name, xid, file = %here,
            "looking in the log for an XA transaction that was prepared earlier");
        let mut conn = connect::connect(self.options).await?;
        let rows: Vec<Row> = conn
            .query("SHOW BINARY LOGS")
            .await
            .map_err(|error| server_error(self.options, "asking for the binlog files", error))?;
        conn.disconnect().await.ok();
        let names = rows.iter().filter_map(|row| row.get_opt::<String, _>(0)?.ok());
        let mut files: Vec<String> = names.take_while(|name| *name != here).collect();
        let mut end = offset;
        files.push(here);
        for file in files.into_iter().rev() {
            if let Some(offset) = self.prepared_in(&file, end, xid).await? {
                return Ok(Prepared::InLog { file, offset });
            }
            end = u64::MAX;
        }
        Err(CaptureError::Gap {
            source_name: self.options.name.clone(),
            what: format!(
                "XA transaction {xid} is committed, and the server no longer has the part of its \
                 log where it was prepared"
            ),
            remedy: format!(
                "take the snapshot anew (`crossdock resync --source {}`); commit or roll back \
                 prepared transactions (XA RECOVER lists them) before binlog_expire_logs_seconds",
                self.options.name
            ),
        })
    }

    /// Where in a file the transaction begins that is prepared under a name at `end`.
    async fn prepared_in(
        &mut self,
        file: &str,
        end: u64,
        xid: &str,
    ) -> Result<Option<u64>, CaptureError> {
        let mut log = dump(self.options, &self.server, file, FILE_BEGIN)?;
        let mut search = Search { file, end, xid, found: None, start: FILE_BEGIN, at: FILE_BEGIN };
        let mut whole = None;
        while let Some(piece) = log.next().await? {
            match piece {
                Piece::Events(events) => {
                    for (header, data) in events.iter() {
                        let seen = search.event(header, data);
                        match seen.map_err(|what| self.decoder.malformed(header, what))? {
                            ControlFlow::Continue(()) => {}
                            ControlFlow::Break(()) => return Ok(search.found),
                        }
                    }
                }
                Piece::Large(header) => whole = Some(header),
                // All that is asked for is in the first part.
                Piece::Part(part) => {
                    if let Some(header) = whole.take() {
                        let named = named(&header, &part);
                        search.name(named.map_err(|what| self.decoder.malformed(&header, what))?);
                    }
                }
                Piece::End => {}
            }
        }
        Ok(search.found)
    }
}

/// Looks through one file for a transaction.
struct Search<'s> {
    file: &'s str,
    end: u64,
    xid: &'s str,
    /// Where the transaction begins that is prepared, as far as is known.
    found: Option<u64>,
    /// Where the present one begins.
    start: u64,
    at: u64,
}

impl Search<'_> {
    fn event(&mut self, header: &Header, data: &[u8]) -> Result<ControlFlow<()>, Malformed> {
        match header.kind {
            kind::ROTATE if header.end != 0 => return Ok(ControlFlow::Break(())),
            kind::ROTATE if event::rotate(data)?.0 != self.file => {
                return Ok(ControlFlow::Break(()));
            }
            event if is_gtid(event) => {
                self.at = event::offset_after(self.at, header.end);
                self.start = self.at.saturating_sub(u64::from(header.size));
                if self.start >= self.end {
                    return Ok(ControlFlow::Break(()));
                }
            }
            _ => {}
        }
        self.name(named(header, data)?);
        Ok(ControlFlow::Continue(()))
    }

    fn name(&mut self, named: Option<(String, bool)>) {
        match named {
            Some((name, prepares)) if name == self.xid => {
                self.found = prepares.then_some(self.start);
            }
            _ => {}
        }
    }
}

fn is_gtid(event: u8) -> bool {
    matches!(event, kind::MARIADB_GTID | kind::GTID | kind::ANONYMOUS_GTID | kind::GTID_TAGGED)
}

/// The log from a place of one file on, up to where it ends now.
fn dump(
    options: &SourceOptions,
    server: &Server,
    file: &str,
    offset: u64,
) -> Result<Log, CaptureError> {
    if offset > u64::from(u32::MAX) {
        return Err(CaptureError::definite(
            format!(
                "{}: an XA transaction lies behind 4 GiB of {file}, where the log can't be read \
                 from",
                options.name
            ),
            "make max_binlog_size smaller than 4 GiB, and take the snapshot anew",
        ));
    }
    let request = BinlogRequest::new(NOBODY)
        .with_flags(BinlogDumpFlags::BINLOG_DUMP_NON_BLOCK)
        .with_filename(file.as_bytes().to_vec())
        .with_pos(offset);
    Log::open(options, settings(server, None), request)
}

/// The name of an XA transaction that an event prepares (true) or ends.
fn named(header: &Header, data: &[u8]) -> Result<Option<(String, bool)>, Malformed> {
    Ok(match header.kind {
        kind::MARIADB_GTID => {
            let gtid = event::mariadb_gtid(header, data)?;
            gtid.xid.map(|xid| (xid, gtid.prepares))
        }
        kind::QUERY => match statement::sort(&event::query(data, false)?.1) {
            Statement::XaStart(xid) => Some((xid, true)),
            Statement::XaCommit(xid) | Statement::XaRollback(xid) => Some((xid, false)),
            _ => None,
        },
        kind::TRANSACTION_PAYLOAD => {
            let mut payload = Payload::default();
            payload.push(data);
            match payload.next()? {
                Some((inner, data)) if inner.kind == kind::QUERY => {
                    match statement::sort(&event::query(&data, false)?.1) {
                        Statement::XaStart(xid) => Some((xid, true)),
                        _ => None,
                    }
                }
                _ => None,
            }
        }
        _ => None,
    })
}
