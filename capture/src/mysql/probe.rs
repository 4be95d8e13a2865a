//! Asks the server how long its log is.

use crossdock_model::Position;
use crossdock_model::position::split_epoch;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::retention::Retention;
use super::{connect, place};
use crate::{CaptureError, Head, SourceOptions};

/// A connection that asks about the log.
pub struct BinlogProbe {
    options: Box<SourceOptions>,
    conn: Conn,
}

/// Connects a probe.
pub async fn probe(options: &SourceOptions) -> Result<BinlogProbe, CaptureError> {
    let conn = connect::connect(options).await?;
    Ok(BinlogProbe { options: Box::new(options.clone()), conn })
}

impl BinlogProbe {
    /// Where the log ends, how far behind it `at` is (0 without a position), and how much log the
    /// server keeps.
    pub async fn head(&mut self, at: Option<&Position>) -> Result<Head, CaptureError> {
        let position = place::head(&self.options, &mut self.conn).await?;
        let rows: Vec<Row> = self.conn.query("SHOW BINARY LOGS").await.map_err(|error| {
            connect::server_error(&self.options, "asking for the binlog files", error)
        })?;
        let files: Vec<(String, u64)> = rows.iter().filter_map(file).collect();
        let kept = Retention::read(&mut self.conn).await.map_err(|error| {
            connect::server_error(&self.options, "asking how long binlogs are kept", error)
        })?;
        let whole = at.and_then(|at| beginning(at, &position));
        Ok(Head {
            behind_bytes: at.map_or(0, |at| behind(at, &position, &files)),
            retained_bytes: files.iter().map(|(_, size)| size).sum(),
            unread_bytes: whole.as_ref().map_or(0, |at| behind(at, &position, &files)),
            keep_limit_bytes: kept.bytes,
            // The file that is being written does not expire.
            keep_limit_age: whole.and(kept.age),
            position,
        })
    }
}

fn file(row: &Row) -> Option<(String, u64)> {
    let text = |at: usize| row.get_opt::<String, _>(at).and_then(Result::ok);
    Some((text(0)?, text(1)?.parse().ok()?))
}

/// Where the file begins that `at` is in, unless it is the one that is being written: files are
/// purged whole.
fn beginning(at: &Position, head: &Position) -> Option<Position> {
    let (Position::Binlog { file, .. }, Position::Binlog { file: last, .. }) = (at, head) else {
        return None;
    };
    let behind = split_epoch(file).1 != last;
    behind.then(|| Position::Binlog { file: file.clone(), offset: 0, gtid: String::new() })
}

/// Bytes from `at` to `head` over the files between. When `at` was purged, everything kept.
fn behind(at: &Position, head: &Position, files: &[(String, u64)]) -> u64 {
    let (Position::Binlog { file, offset, .. }, Position::Binlog { file: last, offset: end, .. }) =
        (at, head)
    else {
        return 0;
    };
    let (_, file) = split_epoch(file);
    if file == last {
        return end.saturating_sub(*offset);
    }
    let from = files.iter().position(|(name, _)| name == file);
    let between: u64 = files
        .iter()
        .skip(from.unwrap_or(0))
        .take_while(|(name, _)| name != last)
        .map(|(_, size)| size)
        .sum();
    between.saturating_sub(from.map_or(0, |_| *offset)) + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_behind_over_files() {
        let files = [("b.000001".to_string(), 100), ("b.000002".to_string(), 50)];
        let at = |text: &str| text.parse::<Position>().unwrap();
        let head = at("b.000003:30");
        assert_eq!(behind(&at("b.000001:40"), &head, &files), 60 + 50 + 30);
        assert_eq!(behind(&at("b.000003:10"), &head, &files), 20);
        assert_eq!(behind(&at("b.000000:10"), &head, &files), 180);
        let first = beginning(&at("1@b.000001:40"), &head).unwrap();
        assert_eq!(behind(&first, &head, &files), 180);
        assert_eq!(beginning(&at("b.000003:10"), &head), None);
    }
}
