//! What can't be captured, and what to do about it.

use super::Decoder;
use crate::CaptureError;
use crate::mysql::catalog::Table;
use crate::mysql::event::{self, Header, kind};
use crate::mysql::rows::JSON_DIFFERENCE;
use crate::mysql::wire::Malformed;

impl Decoder {
    /// Events without influence, and those that can't be captured.
    pub(super) fn rare(&self, header: &Header) -> Result<(), CaptureError> {
        let at = format!("{} at {}:{}", self.options.name, self.file, self.offset);
        match header.kind {
            kind::FORMAT_DESCRIPTION
            | kind::STOP
            | kind::HEARTBEAT
            | kind::HEARTBEAT_V2
            | kind::MARIADB_GTID_LIST
            | kind::MARIADB_BINLOG_CHECKPOINT
            | kind::MARIADB_ANNOTATE_ROWS
            | kind::MARIADB_START_ENCRYPTION
            | kind::ROWS_QUERY
            | kind::IGNORABLE
            | kind::TRANSACTION_CONTEXT
            | kind::VIEW_CHANGE
            | kind::INTVAR
            | kind::RAND
            | kind::USER_VAR
            | kind::BEGIN_LOAD_QUERY => Ok(()),
            kind::EXECUTE_LOAD_QUERY => Err(self.statement_logged("LOAD DATA")),
            kind::INCIDENT => Err(CaptureError::Gap {
                source_name: self.options.name.clone(),
                what: format!("the server lost changes before {}:{}", self.file, self.offset),
                remedy: "take the snapshot anew".into(),
            }),
            // Since 12.3. How the parts are numbered is not settled: its documentation and its
            // source differ, and no server of that version is at hand.
            kind::MARIADB_PARTIAL_ROW_DATA => Err(CaptureError::definite(
                format!("{at}: rows that were logged in parts, which can't be read yet"),
                "SET GLOBAL binlog_row_event_fragment_threshold = 1073741824, so that they are \
                 logged whole, and take the snapshot anew",
            )),
            _ if header.flags & event::FLAG_IGNORABLE != 0 => Ok(()),
            unknown => Err(CaptureError::definite(
                format!("{at}: event of type {unknown}, which this version does not know"),
                "upgrade Crossdock, or turn off the server's feature that writes such events",
            )),
        }
    }

    pub(in crate::mysql) fn malformed(&self, header: &Header, what: Malformed) -> CaptureError {
        CaptureError::definite(
            format!(
                "{}: event of type {} before {}:{}: {what}",
                self.options.name, header.kind, self.file, self.offset
            ),
            "look at the event with mysqlbinlog (mariadb-binlog) --stop-position, and report it",
        )
    }

    pub(super) fn bad_row(
        &self,
        header: &Header,
        table: &Table,
        column: Option<usize>,
        what: Malformed,
    ) -> CaptureError {
        let Some(column) = column.and_then(|at| table.schema.columns.get(at)) else {
            return self.malformed(header, what);
        };
        if what == JSON_DIFFERENCE {
            return self.difference_logged(&format!("{}.{}", table.schema.name, column.name));
        }
        CaptureError::definite(
            format!(
                "{}: {}.{} ({}) at {}:{}: {what}",
                self.options.name,
                table.schema.name,
                column.name,
                column.type_name,
                self.file,
                self.offset
            ),
            "give the column a type and character set that Crossdock reads (docs/capture-mysql.md)",
        )
    }

    fn difference_logged(&self, column: &str) -> CaptureError {
        CaptureError::definite(
            format!(
                "{}: an update of {column} was logged as a JSON difference at {}:{}, without the \
                 document before it",
                self.options.name, self.file, self.offset
            ),
            "run `SET GLOBAL binlog_row_image = 'FULL'` or `SET GLOBAL binlog_row_value_options = \
             ''`, reconnect the writers, and take the snapshot anew",
        )
    }

    pub(super) fn rolled_back(&self) -> CaptureError {
        CaptureError::definite(
            format!(
                "{}: a rollback at {}:{} takes back rows that were logged already",
                self.options.name, self.file, self.offset
            ),
            "do not mix transactional and other engines in one transaction; keep captured tables \
             in InnoDB",
        )
    }

    pub(super) fn statement_logged(&self, what: &str) -> CaptureError {
        CaptureError::definite(
            format!(
                "{}: {what} was logged as a statement at {}:{}",
                self.options.name, self.file, self.offset
            ),
            "run `SET GLOBAL binlog_format = 'ROW'`, reconnect the writers, and take the snapshot \
             anew",
        )
    }
}
