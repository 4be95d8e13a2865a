//! The rows that are there when the slot is made, read under the very snapshot that the slot
//! begins with: what a transaction wrote is either in the snapshot or in the stream.

use crossdock_model::{
    Block, BlockBuilder, ImageKind, Op, Position, SnapshotPart, TxHeader, Value,
};

use super::catalog::Found;
use super::connection::{Connection, server_error};
use super::image::Table;
use super::worker::Worker;
use super::{errors, slot, sql};
use crate::CaptureError;

/// Makes the slot, reads all tables and hands them over. Returns where the stream begins, or
/// `None` when nobody takes the blocks any more.
pub(super) fn take(worker: &Worker) -> Result<Option<u64>, CaptureError> {
    let options = &worker.options;
    let mut replication = Connection::open(options, &worker.control, true)?;
    let made = slot::create(&mut replication, &worker.prepared, false)?;
    let (point, name) = (made.consistent_point, made.snapshot);
    let mut connection = Connection::open(options, &worker.control, false)?;
    connection
        .query("beginning the snapshot", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    let import = format!("SET TRANSACTION SNAPSHOT {}", sql::literal(&name));
    connection.query("beginning the snapshot", &import)?;
    // The exported snapshot lives as long as the connection that exported it is left alone; from
    // here on ours does not need it. The stream gets a fresh connection: a long snapshot would
    // leave this one silent for longer than many networks allow.
    drop(replication);
    let now = server_micros(&mut connection)?;
    let header = TxHeader {
        id: "snapshot".to_string(),
        commit: Position::Postgres { lsn: point },
        commit_micros: now,
        origin: None,
        snapshot: true,
    };
    let mut copy = Copy {
        worker,
        header,
        builder: BlockBuilder::new(),
        block_bytes_max: options.block_bytes_max.max(1),
        scratch: Vec::new(),
    };
    tracing::info!(source = options.name, at = %copy.header.commit, "snapshot begins");
    if !copy.send(SnapshotPart::First) {
        return Ok(None);
    }
    for (found, table) in &worker.prepared.tables {
        match copy.table(&mut connection, found, table)? {
            Some(rows) => {
                tracing::info!(source = options.name, table = %found.name, rows, "table read");
            }
            None => return Ok(None),
        }
    }
    connection.query("ending the snapshot", "COMMIT")?;
    Ok(copy.send(SnapshotPart::Last).then_some(point))
}

fn server_micros(connection: &mut Connection) -> Result<i64, CaptureError> {
    let rows = connection.query(
        "asking for the time",
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8",
    )?;
    let text = rows.into_iter().flatten().flatten().next();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| connection.odd(b'D'))
}

struct Copy<'w> {
    worker: &'w Worker,
    header: TxHeader,
    builder: BlockBuilder,
    block_bytes_max: usize,
    /// A field without its escapes.
    scratch: Vec<u8>,
}

impl Copy<'_> {
    /// Reads one table; returns its number of rows, or `None` when nobody takes them.
    fn table(
        &mut self,
        connection: &mut Connection,
        found: &Found,
        table: &Table,
    ) -> Result<Option<u64>, CaptureError> {
        let columns: Vec<String> =
            table.schema.columns.iter().map(|column| sql::identifier(&column.name)).collect();
        let only = if found.partitioned { "" } else { "ONLY " };
        let doing = format!("reading {}", found.name);
        connection.send_query(&format!(
            "COPY (SELECT {} FROM {only}{}) TO STDOUT",
            columns.join(", "),
            sql::qualified(&found.name)
        ))?;
        let mut rows = 0;
        loop {
            let frame = connection.reply()?;
            match frame.0 {
                b'd' => {
                    self.row(connection.body(&frame), table)?;
                    rows += 1;
                    if self.builder.len() >= self.block_bytes_max
                        && !self.send(SnapshotPart::Middle)
                    {
                        return Ok(None);
                    }
                }
                b'E' => {
                    let error = server_error(connection.body(&frame));
                    return Err(errors::server(&connection.options, &doing, &error));
                }
                b'H' | b'c' | b'C' => {}
                b'Z' => break,
                tag => return Err(connection.odd(tag)),
            }
        }
        let sent = self.builder.is_empty() || self.send(SnapshotPart::Middle);
        Ok(sent.then_some(rows))
    }

    /// One line of COPY's text format: fields between tabs, `\N` for NULL, backslash escapes.
    /// Source: PostgreSQL manual, COPY, "Text Format".
    fn row(&mut self, line: &[u8], table: &Table) -> Result<(), CaptureError> {
        if !self.builder.in_transaction() {
            self.builder.begin(&self.header, true);
        }
        let columns = table.schema.columns.len();
        // Snapshot rows precede the stream whatever their order: all have ordinal 0.
        self.builder.event(Op::Read, &table.schema, 0);
        self.builder.no_image();
        self.builder.image(ImageKind::Full, columns);
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        // A table without columns has rows all the same.
        let fields =
            line.split(|byte| *byte == b'\t').take(if columns == 0 { 0 } else { usize::MAX });
        let mut count = 0;
        for (column, field) in fields.enumerate() {
            count += 1;
            if field == b"\\N" {
                self.builder.value(&Value::Null);
            } else if field.contains(&b'\\') {
                unescape(field, &mut self.scratch);
                self.builder.value(&table.decode(column, &self.scratch)?);
            } else {
                self.builder.value(&table.decode(column, field)?);
            }
        }
        if count == columns {
            return Ok(());
        }
        Err(CaptureError::definite(
            format!("a row of {} was read with {count} of {columns} columns", table.schema.name),
            "report this with the server's version",
        ))
    }

    /// Hands over what has been read; false when nobody takes it.
    fn send(&mut self, part: SnapshotPart) -> bool {
        if self.builder.in_transaction() {
            self.builder.end();
        }
        let mut block: Block = self.builder.finish(self.header.commit.clone(), part);
        block.commit_micros = self.header.commit_micros;
        self.worker.blocks.blocking_send(Ok(block)).is_ok()
    }
}

fn unescape(field: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        // The server writes these escapes only; any other byte stands for itself.
        out.extend(bytes.next().map(|escaped| match escaped {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            other => *other,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        let mut out = Vec::new();
        unescape(br"a\tb\\x00\n\b\f\r\v", &mut out);
        assert_eq!(out, b"a\tb\\x00\n\x08\x0c\r\x0b");
    }
}
