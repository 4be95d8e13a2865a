//! `COPY … TO STDOUT`: lines of its text format become rows in a block.

use crossdock_model::{BlockBuilder, ImageKind, Op, Value};

use super::connection::{Connection, server_error};
use super::errors;
use super::image::Table;
use crate::CaptureError;

/// Runs a COPY and gives its lines to `row`. The connection can be used further after an error of
/// the server, but not after one of `row`.
pub(super) fn copy(
    connection: &mut Connection,
    doing: &str,
    sql: &str,
    mut row: impl FnMut(&[u8]) -> Result<(), CaptureError>,
) -> Result<(), CaptureError> {
    connection.send_query(sql)?;
    let mut failure = None;
    loop {
        let frame = match connection.frame()? {
            Some(frame) => frame,
            None => connection.reply()?,
        };
        match frame.0 {
            b'd' => row(connection.body(&frame))?,
            b'E' => failure = Some(server_error(connection.body(&frame))),
            b'H' | b'c' | b'C' | b'N' | b'S' | b'A' => {}
            b'Z' => break,
            tag => return Err(connection.odd(tag)),
        }
    }
    match failure {
        Some(error) => Err(errors::server(&connection.options, doing, &error)),
        None => Ok(()),
    }
}

/// Writes rows of one table.
pub(super) struct RowWriter<'t> {
    table: &'t Table,
    /// A field without its escapes.
    scratch: Vec<u8>,
}

impl<'t> RowWriter<'t> {
    /// For rows of `table`, with all its columns in their order.
    pub(super) fn new(table: &'t Table) -> Self {
        Self { table, scratch: Vec::new() }
    }

    /// One line of COPY's text format: fields between tabs, `\N` for NULL, backslash escapes.
    /// Source: PostgreSQL manual, COPY, "Text Format".
    pub(super) fn row(
        &mut self,
        builder: &mut BlockBuilder,
        line: &[u8],
    ) -> Result<(), CaptureError> {
        let table = self.table;
        let columns = table.schema.columns.len();
        // Snapshot rows precede the stream whatever their order: all have ordinal 0.
        builder.event(Op::Read, &table.schema, 0);
        builder.no_image();
        builder.image(ImageKind::Full, columns);
        let escapes = line.contains(&b'\\');
        let mut count = 0;
        for (column, field) in fields(line, columns).enumerate() {
            count += 1;
            if !escapes || !field.contains(&b'\\') {
                builder.value(&table.decode(column, field)?);
            } else if field == b"\\N" {
                builder.value(&Value::Null);
            } else {
                unescape(field, &mut self.scratch);
                builder.value(&table.decode(column, &self.scratch)?);
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
}

/// The fields of a line. A table without columns has rows all the same.
fn fields(line: &[u8], columns: usize) -> impl Iterator<Item = &[u8]> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.split(|byte| *byte == b'\t').take(if columns == 0 { 0 } else { usize::MAX })
}

/// The texts of some fields of a line; `None` for NULL or where there is no such field.
pub(super) fn texts(line: &[u8], columns: &[usize]) -> Option<Vec<String>> {
    let text = |column: &usize| {
        let field = fields(line, usize::MAX).nth(*column)?;
        if field == b"\\N" {
            return None;
        }
        let mut plain = Vec::new();
        unescape(field, &mut plain);
        String::from_utf8(plain).ok()
    };
    columns.iter().map(text).collect()
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

    #[test]
    fn fields_are_picked() {
        let line = b"1\ta\\tb\t\\N\n";
        assert_eq!(texts(line, &[1, 0]), Some(vec!["a\tb".to_string(), "1".to_string()]));
        assert_eq!(texts(line, &[2]), None);
        assert_eq!(texts(line, &[3]), None);
    }
}
