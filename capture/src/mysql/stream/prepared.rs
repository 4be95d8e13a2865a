//! Reads prepared XA transactions from the log once more, through a connection of its own: large
//! ones, and those that were prepared before this reader began.

use std::pin::Pin;

use mysql_async::binlog::events::Event;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Row};

use super::{Blocks, NotAnEvent, Stop, Stream, header_of, packet};
use crate::mysql::connect::{self, Server, server_error};
use crate::mysql::decoder::Prepared;
use crate::mysql::event::{self, Header, kind};
use crate::mysql::payload::Payload;
use crate::mysql::request::prepare;
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
        let mut log = dump(self.options, &self.server, file, offset).await?;
        let mut begun = false;
        while let Some(event) = next_of(self.options, &mut log).await? {
            let header = header_of(&event);
            let data = self.verified(&header, &event)?;
            match header.kind {
                kind::XA_PREPARE => return Ok(()),
                kind::TRANSACTION_PAYLOAD => return self.unpacked_again(&header, data, to).await,
                kind::MARIADB_GTID | kind::GTID | kind::ANONYMOUS_GTID | kind::GTID_TAGGED
                    if begun =>
                {
                    return Err(cut_off.into());
                }
                kind::MARIADB_GTID | kind::GTID | kind::ANONYMOUS_GTID | kind::GTID_TAGGED => {
                    begun = true;
                }
                _ => self.once_more(&header, data, to).await?,
            }
        }
        Err(cut_off.into())
    }

    /// A compressed transaction holds all of it, up to XA PREPARE.
    async fn unpacked_again(
        &mut self,
        whole: &Header,
        data: &[u8],
        to: &Blocks,
    ) -> Result<(), Stop> {
        let bad = |this: &Self, what| Stop::Failed(this.decoder.malformed(whole, what));
        let mut payload = Payload::open(data).map_err(|what| bad(self, what))?;
        while let Some((header, data)) = payload.next().map_err(|what| bad(self, what))? {
            self.once_more(&header, &data, to).await?;
        }
        Ok(())
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
        let mut log = dump(self.options, &self.server, file, FILE_BEGIN).await?;
        let (mut found, mut start, mut at) = (None, FILE_BEGIN, FILE_BEGIN);
        while let Some(event) = next_of(self.options, &mut log).await? {
            let header = header_of(&event);
            let data = self.verified(&header, &event)?;
            let bad = |what| self.decoder.malformed(&header, what);
            match header.kind {
                kind::ROTATE if header.end != 0 => break,
                kind::ROTATE if event::rotate(data).map_err(bad)?.0 != file => break,
                kind::MARIADB_GTID | kind::GTID | kind::ANONYMOUS_GTID | kind::GTID_TAGGED => {
                    at = event::offset_after(at, header.end);
                    start = at.saturating_sub(u64::from(header.size));
                    if start >= end {
                        break;
                    }
                }
                _ => {}
            }
            match named(&header, data).map_err(bad)? {
                Some((name, prepares)) if name == xid => found = prepares.then_some(start),
                _ => {}
            }
        }
        Ok(found)
    }
}

/// The log from a place of one file on, up to where it ends now.
async fn dump(
    options: &SourceOptions,
    server: &Server,
    file: &str,
    offset: u64,
) -> Result<Pin<Box<BinlogStream>>, CaptureError> {
    let mut conn = connect::connect(options).await?;
    prepare(options, server, &mut conn, None).await?;
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
    let request = BinlogStreamRequest::new(NOBODY).with_non_blocking();
    let request = request.with_filename(file.as_bytes()).with_pos(offset);
    let log = conn.get_binlog_stream(request).await;
    let log = log.map_err(|error| server_error(options, "asking for the binlog again", error))?;
    Ok(Box::pin(log))
}

async fn next_of(
    options: &SourceOptions,
    log: &mut Pin<Box<BinlogStream>>,
) -> Result<Option<Event>, CaptureError> {
    let doing = "reading the binlog again";
    match packet(log).await {
        Ok(Some(Ok(event))) => Ok(Some(event)),
        Ok(Some(Err(error))) => Err(server_error(options, doing, error)),
        Ok(None) => Ok(None),
        Err(NotAnEvent) => {
            let what = format!("{}: {doing}: a packet that is not an event", options.name);
            Err(CaptureError::Transient { what, source: None })
        }
    }
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
        kind::TRANSACTION_PAYLOAD => match Payload::open(data)?.next()? {
            Some((inner, data)) if inner.kind == kind::QUERY => {
                match statement::sort(&event::query(&data, false)?.1) {
                    Statement::XaStart(xid) => Some((xid, true)),
                    _ => None,
                }
            }
            _ => None,
        },
        _ => None,
    })
}
