//! XA transactions: prepared at one place of the log; committed or rolled back at another, maybe
//! days and restarts later.
//!
//! Nothing of a prepared transaction is handed over before it is committed, and no position waits
//! for it. Its row events are kept while they are few. Otherwise, and where a reader did not see
//! them being prepared, they are read from the log once more when the commit comes.

use std::collections::{HashMap, HashSet};

use crossdock_model::Position;

use super::{Decoder, Next};
use crate::CaptureError;
use crate::mysql::event::{Header, kind};
use crate::mysql::rows::RowsKind;
use crate::mysql::table_map;
use crate::mysql::wire::{Input, Malformed};

/// Bytes of events kept of one transaction. Larger ones are read again.
const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of events kept of all transactions that are prepared.
const KEPT_BYTES_TOTAL_MAX: usize = 16 * 1024 * 1024;
/// Prepared transactions remembered. All are forgotten when there are more; what is forgotten is
/// looked for in the log.
const PREPARED_MAX: usize = 10_000;

/// A row event or table map.
pub(in crate::mysql) type Kept = (Header, Vec<u8>);

/// Where the changes of a prepared transaction are.
#[derive(Debug)]
pub(in crate::mysql) enum Prepared {
    /// It changed no captured table.
    Nothing,
    /// Its events.
    Kept(Vec<Kept>),
    /// In the log: a file of this server, and where the transaction begins in it.
    InLog { file: String, offset: u64 },
}

/// Prepared transactions, and the one that is being read.
#[derive(Default)]
pub(super) struct Xa {
    open: Option<Open>,
    /// By name, as [`xid`](crate::mysql::statement::xid) writes it.
    prepared: HashMap<String, Prepared>,
    bytes: usize,
}

/// A transaction that is being prepared.
struct Open {
    xid: String,
    file: String,
    offset: u64,
    /// Numbers of captured tables.
    tables: HashSet<u64>,
    events: Vec<Kept>,
    bytes: usize,
    captured: bool,
    large: bool,
}

fn bytes(events: &[Kept]) -> usize {
    events.iter().map(|(_, data)| data.len()).sum()
}

impl Open {
    fn keep(&mut self, header: &Header, data: &[u8]) {
        self.bytes += data.len();
        self.large |= self.bytes > KEPT_BYTES_MAX;
        match self.large {
            true => self.events = Vec::new(),
            false => self.events.push((*header, data.to_vec())),
        }
    }
}

impl Xa {
    fn take(&mut self, xid: &str) -> Option<Prepared> {
        let prepared = self.prepared.remove(xid)?;
        if let Prepared::Kept(events) = &prepared {
            self.bytes = self.bytes.saturating_sub(bytes(events));
        }
        Some(prepared)
    }

    fn insert(&mut self, xid: String, prepared: Prepared) {
        self.take(&xid);
        if self.prepared.len() >= PREPARED_MAX {
            self.prepared.clear();
            self.bytes = 0;
        }
        if let Prepared::Kept(events) = &prepared {
            self.bytes += bytes(events);
        }
        self.prepared.insert(xid, prepared);
    }
}

impl Decoder {
    /// A transaction begins of which the log says that it is one of XA.
    pub(super) fn xa_start(&mut self, xid: String) {
        let Some(tx) = &mut self.tx else { return };
        tx.begun = true;
        let Position::Binlog { offset, .. } = tx.header.commit else { return };
        self.xa.open = Some(Open {
            xid,
            file: self.file.clone(),
            offset,
            tables: HashSet::new(),
            events: Vec::new(),
            bytes: 0,
            captured: false,
            large: false,
        });
    }

    /// Whatever was being prepared, another transaction begins.
    pub(super) fn xa_forget(&mut self) {
        self.xa.open = None;
    }

    /// Whether an event belongs to a transaction that is being prepared, and waits with it.
    pub(super) fn xa_keeps(&mut self, header: &Header, data: &[u8]) -> Result<bool, Malformed> {
        let is_map = header.kind == kind::TABLE_MAP;
        if self.xa.open.is_none() || !(is_map || RowsKind::of(header.kind).is_some()) {
            return Ok(false);
        }
        let mut input = Input::new(data);
        let id = table_map::table_id(&mut input)?;
        let mut is_captured = false;
        if is_map {
            input.u16()?;
            let (database, table) = table_map::names(&mut input)?;
            is_captured = self.is_captured(&database, &table);
        }
        let Some(open) = &mut self.xa.open else { return Ok(false) };
        if is_captured {
            open.tables.insert(id);
        } else if is_map {
            open.tables.remove(&id);
        }
        if open.tables.contains(&id) {
            open.captured |= !is_map;
            open.keep(header, data);
        }
        Ok(true)
    }

    /// The transaction that was being read is prepared; `one_phase`: and committed.
    pub(super) fn xa_prepared(&mut self, one_phase: bool) -> Next {
        let known = self.tx.as_ref().is_some_and(|tx| tx.known);
        let Some(open) = self.xa.open.take() else {
            self.commit();
            return Next::Go;
        };
        let total = self.xa.bytes + open.bytes;
        let prepared = match open {
            Open { captured: false, .. } => Prepared::Nothing,
            Open { large: false, events, .. } if one_phase || total <= KEPT_BYTES_TOTAL_MAX => {
                Prepared::Kept(events)
            }
            Open { file, offset, .. } => Prepared::InLog { file, offset },
        };
        if one_phase && !known {
            return self.replay(prepared);
        }
        if !one_phase {
            self.xa.insert(open.xid, prepared);
        }
        self.commit();
        Next::Go
    }

    fn replay(&mut self, prepared: Prepared) -> Next {
        if matches!(prepared, Prepared::Nothing) {
            self.commit();
            return Next::Go;
        }
        Next::Replay(prepared)
    }

    /// XA COMMIT. The log of MariaDB has the name in the GTID, too.
    pub(super) fn xa_commit(&mut self, xid: String) -> Next {
        let tx = self.tx.as_ref();
        let xid = tx.and_then(|tx| tx.xid.clone()).unwrap_or(xid);
        let known = tx.is_some_and(|tx| tx.known);
        match self.xa.take(&xid) {
            Some(prepared) if !known => self.replay(prepared),
            None if !known => Next::Search(xid),
            _ => {
                self.commit();
                Next::Go
            }
        }
    }

    /// XA ROLLBACK.
    pub(super) fn xa_rollback(&mut self, xid: &str) {
        let named = self.tx.as_ref().and_then(|tx| tx.xid.clone());
        self.xa.take(named.as_deref().unwrap_or(xid));
        self.commit();
    }

    /// Takes in an event of a prepared transaction that is committed now.
    pub(in crate::mysql) fn replayed(
        &mut self,
        header: &Header,
        data: &[u8],
    ) -> Result<Next, CaptureError> {
        if let Some(rows) = RowsKind::of(header.kind) {
            self.rows(header, rows, data)?;
        } else if header.kind == kind::TABLE_MAP {
            return self.table_map(data).map_err(|what| self.malformed(header, what));
        }
        Ok(Next::Go)
    }

    /// Ends the transaction whose events were [`replayed`](Self::replayed).
    pub(in crate::mysql) fn replay_ends(&mut self) {
        self.commit();
    }

    /// File and offset of this server where reading is.
    pub(in crate::mysql) fn here(&self) -> (&str, u64) {
        (&self.file, self.offset)
    }
}
