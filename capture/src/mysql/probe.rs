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
        let mut position = place::head(&self.options, &mut self.conn).await?;
        let executed = self.executed(&position).await?;
        if let Some(at) = at.filter(|at| has_all(at, &executed)) {
            // A server that was started again writes into a new file, and has nothing new in it.
            position = at.clone();
        }
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

    /// What the server has committed, as GTIDs; empty where it has none.
    async fn executed(&mut self, head: &Position) -> Result<String, CaptureError> {
        if let Position::Binlog { gtid, .. } = head
            && !gtid.is_empty()
        {
            return Ok(gtid.clone());
        }
        let asked = self.conn.query_first("SELECT @@GLOBAL.gtid_binlog_pos").await;
        match asked {
            Ok(executed) => Ok(executed.unwrap_or_default()),
            // MySQL has no such variable.
            Err(mysql_async::Error::Server(e)) if e.code == 1193 => Ok(String::new()),
            Err(error) => {
                Err(connect::server_error(&self.options, "asking for the last GTIDs", error))
            }
        }
    }
}

/// Whether a position has everything that a server has committed: the same GTIDs, in any order.
fn has_all(at: &Position, executed: &str) -> bool {
    let Position::Binlog { gtid, .. } = at else { return false };
    let parts = |gtids: &str| {
        let mut parts: Vec<String> = gtids.split(',').map(|g| g.trim().to_lowercase()).collect();
        parts.sort_unstable();
        parts
    };
    !gtid.is_empty() && parts(gtid) == parts(executed)
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
    fn a_position_with_the_same_gtids_has_all() {
        let at =
            |gtid: &str| Position::Binlog { file: "b.000001".into(), offset: 4, gtid: gtid.into() };
        assert!(has_all(&at("0-1-5,7-2-9"), "7-2-9,0-1-5"));
        assert!(has_all(&at("ab:1-5,cd:7"), "AB:1-5, cd:7"));
        assert!(!has_all(&at("0-1-5"), "0-1-6"));
        assert!(!has_all(&at(""), ""), "without GTIDs nobody knows");
    }

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
