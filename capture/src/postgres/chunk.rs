//! One table read beside the stream, in the order of its key, a chunk in a short transaction of
//! its own. Statements only; what becomes of the rows is the business of `backfill`.

use std::sync::Arc;

use crossdock_model::{
    BlockBuilder, Position, RowImage, SnapshotPart, TableName, TableSchema, TxHeader, Value, block,
};
use tokio_postgres::Client;

use super::catalog::{self, Found};
use super::connection::Connection;
use super::copy::{self, RowWriter, copy};
use super::image::Table;
use super::key_order::{KeyColumn, KeyOrder};
use super::progress::{Cursor, OPEN_END, SnapshotCursor};
use super::ranges;
use super::visible::Visible;
use super::{errors, sql};
use crate::snapshot::Refusal;
use crate::{CaptureError, SourceOptions, TableCopy};

/// Rows of a chunk are held in memory until their place in the stream comes: not more than this,
/// or one row.
const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Chunks are made larger while they are smaller than this.
const CHUNK_BYTES_GOAL: usize = 1024 * 1024;
const ROWS_MIN: u64 = 100;
const ROWS_MAX: u64 = 20_000;
/// A chunk that is slower than this, or a table that is locked for longer, is tried again.
const LIMITS: &str = "SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = '5min'";

/// A table that is being read.
pub(super) struct Reading {
    found: Found,
    table: Table,
    key: KeyOrder,
    /// Places of the key's columns in a row.
    pub key_columns: Vec<usize>,
    /// What the columns looked like when `table` was made.
    fingerprint: String,
    filter: Option<String>,
    rows_max: u64,
    rows_estimated: u64,
    standby: bool,
}

/// All columns of a row.
type Row = Vec<Value<'static>>;

/// What was read.
pub(super) struct Piece {
    pub schema: Arc<TableSchema>,
    pub rows: Vec<Row>,
    /// What it has seen. A standby does not say it in full.
    pub visible: Visible,
    pub standby: bool,
    /// Everything that it has seen is before this place in the log.
    pub high: u64,
    /// Rows of the whole table, as the server estimates.
    pub rows_estimated: u64,
    /// How far it has come: the cursor to go on from, or `None` at the table's end.
    pub next: Option<Cursor>,
}

impl Reading {
    /// Looks the table up.
    pub(super) async fn prepare(
        client: &Client,
        options: &SourceOptions,
        copy: &TableCopy,
        standby: bool,
    ) -> Result<Self, Refusal> {
        let names = std::slice::from_ref(&copy.table);
        let mut found = catalog::find(client, options, names).await.map_err(Refusal::from)?;
        let Some(found) = found.pop() else {
            return Err(Refusal::Table("the table does not exist".to_string()));
        };
        let fingerprint = fingerprint(client, options, found.oid).await.map_err(Refusal::from)?;
        let name = copy.table.clone();
        let columns = catalog::columns(client, options, found.oid).await.map_err(Refusal::from)?;
        let table = catalog::table(client, options, found.oid, name, &columns)
            .await
            .map_err(Refusal::from)?;
        let key = key_order(client, options, found.oid).await.map_err(Refusal::from)?;
        let key_columns: Option<Vec<usize>> =
            key.0.iter().map(|column| table.schema.column(&column.name)).collect();
        let Some(key_columns) = key_columns.filter(|columns| !columns.is_empty()) else {
            return Err(Refusal::Table(format!(
                "it has no key to read it by beside the stream: give {} a primary key, or set \
                 REPLICA IDENTITY USING INDEX",
                copy.table
            )));
        };
        let reading = Self {
            found,
            table,
            key,
            key_columns,
            fingerprint,
            filter: copy.filter.clone(),
            rows_max: 0,
            rows_estimated: 0,
            standby,
        };
        reading.try_filter(client, options).await?;
        Ok(reading)
    }

    /// The condition must be one, and nothing more: here it is parsed as a single statement.
    async fn try_filter(&self, client: &Client, options: &SourceOptions) -> Result<(), Refusal> {
        let Some(filter) = &self.filter else { return Ok(()) };
        let statement = format!("SELECT FROM {} WHERE ({filter}\n)", self.from());
        match client.prepare(&statement).await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_db_error() {
                Some(db) => Err(Refusal::Table(format!(
                    "the filter is not accepted: {} (SQLSTATE {})",
                    db.message(),
                    db.code().code()
                ))),
                None => Err(Refusal::from(errors::sql(options, "trying the filter", error))),
            },
        }
    }

    fn from(&self) -> String {
        let only = if self.found.partitioned { "" } else { "ONLY " };
        format!("{only}{}", sql::qualified(&self.found.name))
    }

    /// The table's name.
    pub(super) fn name(&self) -> &TableName {
        &self.found.name
    }

    /// The columns of the key by which it is read.
    pub(super) fn key_names(&self) -> Vec<String> {
        self.key.0.iter().map(|column| column.name.clone()).collect()
    }

    /// OID of the table.
    pub(super) fn oid(&self) -> u32 {
        self.found.oid
    }

    /// Reads the next chunk after `cursor`. After a refusal the connection is spent.
    pub(super) fn chunk(
        &mut self,
        connection: &mut Connection,
        client: &Client,
        runtime: &tokio::runtime::Handle,
        cursor: &Cursor,
    ) -> Result<Piece, Refusal> {
        let doing = format!("reading {} beside the stream", self.found.name);
        let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {LIMITS}");
        connection.query(&doing, &begin).map_err(Refusal::from)?;
        let piece = self.within(connection, client, runtime, cursor, &doing)?;
        connection.query(&doing, "COMMIT").map_err(Refusal::from)?;
        Ok(piece)
    }

    fn within(
        &mut self,
        connection: &mut Connection,
        client: &Client,
        runtime: &tokio::runtime::Handle,
        cursor: &Cursor,
        doing: &str,
    ) -> Result<Piece, Refusal> {
        // Keeps the table as it is until the end of the transaction.
        let lock = format!("SELECT FROM {} LIMIT 0", self.from());
        connection.query(doing, &lock).map_err(Refusal::from)?;
        let options = connection.options.clone();
        let now = runtime.block_on(fingerprint(client, &options, self.found.oid));
        if now.map_err(Refusal::from)? != self.fingerprint {
            return Err(Refusal::Again("its columns were changed".to_string()));
        }
        // Refuses a table that was rewritten between the snapshot and the lock.
        let heaps = ranges::heaps(connection, doing, &self.found).map_err(Refusal::from)?;
        if self.rows_max == 0 {
            self.estimate(&heaps);
        }
        let (visible, high) = self.watermark(connection, doing)?;
        let (mut cursor, mut conditions) = (cursor.clone(), Vec::new());
        if let Some(after) = &cursor.after {
            conditions.push(self.key.after(after));
        }
        let end = self.end_of_chunk(connection, doing, &conditions)?;
        if let Some(end) = &end {
            conditions.push(self.key.up_to(end));
        }
        if let Some(snapshot) = &mut cursor.snapshot {
            // Another file: the pages that were read are not these.
            snapshot.parts.retain(|part| {
                heaps.iter().any(|heap| (heap.oid, heap.filenode) == (part.oid, part.filenode))
            });
            conditions.extend(not_read(snapshot));
        }
        conditions.extend(self.filter.as_ref().map(|filter| format!("({filter}\n)")));
        let (rows, cut) = self.rows(connection, doing, &conditions)?;
        let next = cut.or(end).map(|after| Cursor { after: Some(after), ..cursor });
        let schema = self.table.schema.clone();
        let (standby, rows_estimated) = (self.standby, self.rows_estimated);
        Ok(Piece { schema, rows, visible, standby, high, rows_estimated, next })
    }

    fn estimate(&mut self, heaps: &[ranges::Heap]) {
        let rows: u64 = heaps.iter().map(|heap| heap.rows).sum();
        let bytes: u64 = heaps.iter().map(|heap| u64::from(heap.pages) * 8192).sum();
        let width = bytes.checked_div(rows).unwrap_or(1024).max(16);
        self.rows_estimated = rows;
        self.rows_max = (CHUNK_BYTES_GOAL as u64 / width).clamp(ROWS_MIN, ROWS_MAX);
    }

    /// What the transaction sees, and a place in the log that all of it is before.
    fn watermark(
        &self,
        connection: &mut Connection,
        doing: &str,
    ) -> Result<(Visible, u64), Refusal> {
        let place =
            if self.standby { "pg_last_wal_replay_lsn()" } else { "pg_current_wal_insert_lsn()" };
        let rows = connection
            .query(doing, &format!("SELECT pg_current_snapshot(), {place}"))
            .map_err(Refusal::from)?;
        let mut row = rows.into_iter().flatten().map(Option::unwrap_or_default);
        let visible = row.next().and_then(|text| Visible::parse(&text));
        match (visible, row.next().map(|text| text.parse())) {
            (Some(visible), Some(Ok(Position::Postgres { lsn }))) => Ok((visible, lsn)),
            _ => Err(Refusal::from(connection.odd(b'D'))),
        }
    }

    /// The key of the last row that is looked at, unless the table ends before.
    fn end_of_chunk(
        &self,
        connection: &mut Connection,
        doing: &str,
        conditions: &[String],
    ) -> Result<Option<Vec<String>>, Refusal> {
        let rows = connection
            .query(
                doing,
                &format!(
                    "SELECT {} FROM {}{} ORDER BY {} OFFSET {} LIMIT 1",
                    self.key.names(),
                    self.from(),
                    where_all(conditions),
                    self.key.order_by(),
                    self.rows_max - 1
                ),
            )
            .map_err(Refusal::from)?;
        Ok(rows.into_iter().next().map(|row| row.into_iter().flatten().collect()))
    }

    /// The rows; and the key of the last one, when there was no room for more.
    fn rows(
        &mut self,
        connection: &mut Connection,
        doing: &str,
        conditions: &[String],
    ) -> Result<(Vec<Row>, Option<Vec<String>>), Refusal> {
        let statement = format!(
            "COPY (SELECT {} FROM {}{} ORDER BY {}) TO STDOUT",
            ranges::column_list(&self.table),
            self.from(),
            where_all(conditions),
            self.key.order_by()
        );
        let mut builder = BlockBuilder::new();
        builder.begin(&nowhere(), true);
        let mut writer = RowWriter::new(&self.table);
        let (mut cut, mut full) = (None, false);
        copy(connection, doing, &statement, |line| {
            // The rest comes again with the next chunk.
            if !full {
                writer.row(&mut builder, line)?;
                if builder.len() >= CHUNK_BYTES_MAX {
                    full = true;
                    cut = copy::texts(line, &self.key_columns);
                }
            }
            Ok(())
        })
        .map_err(Refusal::from)?;
        drop(writer);
        builder.end();
        if full && cut.is_none() {
            return Err(Refusal::Table("a column of its key is NULL".to_string()));
        }
        self.rows_max = match builder.len() {
            CHUNK_BYTES_MAX.. => self.rows_max / 4,
            CHUNK_BYTES_GOAL.. => self.rows_max,
            _ => self.rows_max * 2,
        }
        .clamp(ROWS_MIN, ROWS_MAX);
        let block = builder.finish(nowhere().commit, SnapshotPart::Middle);
        let fragments = block::decode(&block.bytes).map_err(|error| {
            Refusal::Table(format!("its rows can't be kept in a block: {error}"))
        })?;
        let events = fragments.into_iter().flat_map(|fragment| fragment.events);
        let rows = events.filter_map(|event| match event.after {
            Some(RowImage::Full(row)) => Some(row),
            _ => None,
        });
        Ok((rows.collect(), cut))
    }
}

/// A header for rows that get their place later.
fn nowhere() -> TxHeader {
    TxHeader {
        id: String::new(),
        commit: Position::Postgres { lsn: 0 },
        commit_micros: 0,
        origin: None,
        snapshot: true,
    }
}

fn where_all(conditions: &[String]) -> String {
    if conditions.is_empty() {
        return String::new();
    }
    format!(" WHERE {}", conditions.join(" AND "))
}

/// A condition that leaves out the rows that a snapshot has read and that were not written since.
/// Those written since may have moved to pages that were read already, while the log leaves out
/// their large columns.
fn not_read(snapshot: &SnapshotCursor) -> Option<String> {
    let mut ranges = Vec::new();
    for part in &snapshot.parts {
        for (from, to) in &part.done {
            let from = match from {
                0 => String::new(),
                from => format!(" AND ctid >= '({from},0)'"),
            };
            let to = match *to {
                OPEN_END => String::new(),
                to => format!(" AND ctid < '({to},0)'"),
            };
            ranges.push(format!("(tableoid = {}{from}{to})", part.oid));
        }
    }
    // The first three numbers are no transactions.
    let xmin = (snapshot.xmin as u32).max(3);
    (!ranges.is_empty())
        .then(|| format!("NOT (age(xmin) > age('{xmin}'::xid) AND ({}))", ranges.join(" OR ")))
}

/// Changes when the columns, their order or types, or the key do.
async fn fingerprint(
    client: &Client,
    options: &SourceOptions,
    oid: u32,
) -> Result<String, CaptureError> {
    let row = client
        .query_one(
            "SELECT (SELECT coalesce(string_agg(format('%s %s %s %s %s %s', attnum, attname,
                         atttypid, atttypmod, attnotnull, attgenerated), ',' ORDER BY attnum), '')
                     FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped)
                 || (SELECT coalesce(string_agg(format('%s %s', indexrelid, indisreplident), ','
                         ORDER BY indexrelid), '')
                     FROM pg_index WHERE indrelid = $1 AND (indisprimary OR indisreplident))",
            &[&oid],
        )
        .await
        .map_err(|e| errors::sql(options, "looking at the columns of a table", e))?;
    Ok(row.get(0))
}

/// The key by which the log tells rows apart: the replica identity's index, or the primary key.
async fn key_order(
    client: &Client,
    options: &SourceOptions,
    oid: u32,
) -> Result<KeyOrder, CaptureError> {
    let rows = client
        .query(
            "SELECT a.attname, o.opcdefault AND n.nspname = 'pg_catalog', n.nspname,
                    less.oprname, equal.oprname, greater.oprname
             FROM pg_class c
             JOIN pg_index i ON i.indrelid = c.oid
                  AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
             CROSS JOIN unnest(i.indkey::int2[], i.indclass::oid[])
                  WITH ORDINALITY AS k(attnum, opclass, n_th)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
             JOIN pg_opclass o ON o.oid = k.opclass
             JOIN pg_amop l ON l.amopfamily = o.opcfamily AND l.amopstrategy = 1
                  AND l.amoplefttype = o.opcintype AND l.amoprighttype = o.opcintype
             JOIN pg_operator less ON less.oid = l.amopopr
             JOIN pg_namespace n ON n.oid = less.oprnamespace
             JOIN pg_amop e ON e.amopfamily = o.opcfamily AND e.amopstrategy = 3
                  AND e.amoplefttype = o.opcintype AND e.amoprighttype = o.opcintype
             JOIN pg_operator equal ON equal.oid = e.amopopr
             JOIN pg_amop g ON g.amopfamily = o.opcfamily AND g.amopstrategy = 5
                  AND g.amoplefttype = o.opcintype AND g.amoprighttype = o.opcintype
             JOIN pg_operator greater ON greater.oid = g.amopopr
             WHERE c.oid = $1 AND k.n_th <= i.indnkeyatts
             ORDER BY k.n_th",
            &[&oid],
        )
        .await
        .map_err(|e| errors::sql(options, "looking at the key of a table", e))?;
    let column = |row: &tokio_postgres::Row| KeyColumn {
        name: row.get(0),
        standard: row.get(1),
        schema: row.get(2),
        less: row.get(3),
        equal: row.get(4),
        greater: row.get(5),
    };
    Ok(KeyOrder(rows.iter().map(column).collect()))
}
