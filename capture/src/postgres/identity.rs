//! Which server it is, and whether a place in the log that was read means the same on it.
//!
//! Positions are comparable within one *system* (all servers that descend from one `initdb`) and
//! along its *timelines*: a promoted standby begins a new one, and what the old primary wrote
//! after that point exists on the old one only.
//! Source: PostgreSQL manual, "Streaming Replication Protocol", IDENTIFY_SYSTEM and
//! TIMELINE_HISTORY; "Timelines" for the history file.

use crossdock_model::Position;
use tokio_postgres::Client;

use super::connection::Connection;
use super::errors;
use crate::error::OTHER_SERVER;
use crate::{CaptureError, ServerIdentity, SourceOptions};

/// A history file has a line for each promotion; a longer one is not looked at.
const HISTORY_LINES_MAX: usize = 10_000;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq)]
struct Identified {
    server: ServerIdentity,
    /// Where its log ends.
    end: u64,
    /// It follows another server.
    standby: bool,
}

/// Asks the server on the very connection that will stream, so that no failover fits between the
/// question and the stream. `from` is where reading goes on, `known` the server it was read from.
pub(super) fn verify(
    connection: &mut Connection,
    known: Option<&ServerIdentity>,
    from: u64,
    standby: bool,
) -> Result<ServerIdentity, CaptureError> {
    let rows = connection.query("asking which server it is", "IDENTIFY_SYSTEM")?;
    let mut row = rows.into_iter().flatten();
    let (id, timeline, end) = (row.next().flatten(), row.next().flatten(), row.next().flatten());
    let timeline = timeline.and_then(|text| text.parse().ok());
    let end = end.and_then(|text| text.parse().ok());
    let (Some(id), Some(timeline), Some(Position::Postgres { lsn: end })) = (id, timeline, end)
    else {
        return Err(connection.odd(b'D'));
    };
    let found = Identified { server: ServerIdentity { id, timeline }, end, standby };
    let promoted = known
        .is_some_and(|known| known.id == found.server.id && known.timeline < found.server.timeline);
    let history = if promoted { Some(history(connection, timeline)?) } else { None };
    let options = connection.options.clone();
    judge(&options, known, &found, history.as_deref(), from)?;
    if promoted {
        tracing::info!(
            source = options.name,
            timeline,
            "the server was promoted since it was read last; nothing that was read is lost on it"
        );
    }
    Ok(found.server)
}

/// The history file of a timeline.
fn history(connection: &mut Connection, timeline: u32) -> Result<String, CaptureError> {
    let rows = connection
        .query("reading the timeline's history", &format!("TIMELINE_HISTORY {timeline}"))
        .map_err(|error| match error {
            // A promoted server has the file unless somebody took it away.
            CaptureError::Definite { what, .. } => errors::gap(&connection.options, what),
            other => other,
        })?;
    let content = rows.into_iter().flatten().nth(1).flatten();
    content.ok_or_else(|| connection.odd(b'D'))
}

/// Whether reading can go on at `from`.
fn judge(
    options: &SourceOptions,
    known: Option<&ServerIdentity>,
    found: &Identified,
    history: Option<&str>,
    from: u64,
) -> Result<(), CaptureError> {
    let at = Position::Postgres { lsn: from };
    let end = Position::Postgres { lsn: found.end };
    let timeline = found.server.timeline;
    if let Some(known) = known {
        same_system(options, known, &found.server.id)?;
        if known.timeline > timeline {
            return Err(older(options, known.timeline, timeline, found.standby));
        }
        if known.timeline < timeline {
            let left = history.and_then(|history| left_at(history, known.timeline));
            let switch = |lsn| Position::Postgres { lsn };
            match left {
                None => {
                    return Err(errors::gap(
                        options,
                        format!(
                            "the server is on timeline {timeline}, which does not descend from \
                             timeline {} that was read up to {at}",
                            known.timeline
                        ),
                    ));
                }
                Some(lsn) if lsn < from => {
                    return Err(errors::gap(
                        options,
                        format!(
                            "the server was promoted: its timeline {timeline} left timeline {} at \
                             {}, and reading stood at {at}; what was committed between does not \
                             exist on this server",
                            known.timeline,
                            switch(lsn)
                        ),
                    ));
                }
                Some(_) => {}
            }
        }
    }
    if from > found.end && !found.standby {
        return Err(errors::gap(
            options,
            format!(
                "the server's log ends at {end}, and reading stood at {at}: the server was \
                 restored from a copy, or has lost the end of its log"
            ),
        ));
    }
    Ok(())
}

/// A server of another system is never read on, whatever its positions look like.
fn same_system(
    options: &SourceOptions,
    known: &ServerIdentity,
    id: &str,
) -> Result<(), CaptureError> {
    if known.id == id {
        return Ok(());
    }
    Err(CaptureError::Gap {
        source_name: options.name.clone(),
        what: format!(
            "{OTHER_SERVER} at {}:{} (system identifier {id}, was {}); positions of one mean \
             nothing on the other",
            options.host, options.port, known.id
        ),
        remedy: format!(
            "give the address of the server that was read; if this one holds the same rows, read \
             them again with `crossdock resync --source {}`",
            options.name
        ),
    })
}

fn older(options: &SourceOptions, known: u32, found: u32, standby: bool) -> CaptureError {
    if standby {
        return CaptureError::Transient {
            what: format!(
                "source {}: the standby is on timeline {found} still, and timeline {known} was \
                 read already",
                options.name
            ),
            source: None,
        };
    }
    errors::gap(
        options,
        format!(
            "the server is on timeline {found}, and timeline {known} was read already: it is a \
             former primary, or was restored from a copy"
        ),
    )
}

/// Where the history's timeline, or an ancestor of it, left `timeline`. Lines are
/// `timeline TAB LSN TAB reason`; `#` begins a comment.
pub(super) fn left_at(history: &str, timeline: u32) -> Option<u64> {
    history.lines().take(HISTORY_LINES_MAX).find_map(|line| {
        let mut words = line.split_whitespace();
        let parent: u32 = words.next()?.parse().ok()?;
        match (parent == timeline, words.next()?.parse()) {
            (true, Ok(Position::Postgres { lsn })) => Some(lsn),
            _ => None,
        }
    })
}

/// The same question over SQL, before slot and publication are touched, where the server tells:
/// that another server has no slot of ours is then not what is reported.
pub(super) async fn verify_system(
    client: &Client,
    options: &SourceOptions,
    known: Option<&ServerIdentity>,
) -> Result<(), CaptureError> {
    let Some(known) = known else { return Ok(()) };
    let sql = "SELECT system_identifier::text FROM pg_control_system()";
    match client.query_one(sql, &[]).await {
        Ok(row) => same_system(options, known, row.get(0)),
        // Not every hosted server tells; the replication connection asks again.
        Err(error) if error.as_db_error().is_some() => Ok(()),
        Err(error) => Err(errors::sql(options, "asking which server it is", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::slot::tests::options;
    use super::*;
    use proptest::prelude::*;

    const HISTORY: &str = "1\t0/5000\tno recovery target specified\n\n\
                           # by hand\n2\t0/9000\tno recovery target specified\n";

    fn server(id: &str, timeline: u32) -> ServerIdentity {
        ServerIdentity { id: id.to_string(), timeline }
    }

    fn judged(known: &ServerIdentity, timeline: u32, standby: bool, from: u64) -> &'static str {
        let found = Identified { server: server("7", timeline), end: 0x10_000, standby };
        match judge(&options(), Some(known), &found, Some(HISTORY), from) {
            Ok(()) => "goes on",
            Err(CaptureError::Gap { .. }) => "gap",
            Err(CaptureError::Transient { .. }) => "later",
            Err(CaptureError::Definite { .. }) => "definite",
        }
    }

    #[test]
    fn positions_hold_along_the_timelines_of_one_system() {
        assert_eq!(judged(&server("7", 3), 3, false, 0x10_000), "goes on");
        assert_eq!(judged(&server("8", 3), 3, false, 0x10), "gap");
        // Promoted: at the switch nothing is missing, after it something is.
        assert_eq!(judged(&server("7", 2), 3, false, 0x9000), "goes on");
        assert_eq!(judged(&server("7", 2), 3, false, 0x9001), "gap");
        assert_eq!(judged(&server("7", 1), 3, false, 0x5000), "goes on");
        assert_eq!(judged(&server("7", 1), 3, false, 0x9000), "gap");
        // A former primary, a standby that has not followed yet, a line of descent that is not ours.
        assert_eq!(judged(&server("7", 3), 2, false, 0x10), "gap");
        assert_eq!(judged(&server("7", 3), 2, true, 0x10), "later");
        assert_eq!(judged(&server("7", 9), 12, false, 0x10), "gap");
    }

    #[test]
    fn a_log_that_ends_before_our_place_is_a_gap() {
        assert_eq!(judged(&server("7", 3), 3, false, 0x10_001), "gap");
        // A standby that is behind comes there.
        assert_eq!(judged(&server("7", 3), 3, true, 0x10_001), "goes on");
    }

    proptest! {
        #[test]
        fn no_history_panics(history in "[0-9A-F/\t #\n]{0,80}", timeline in 0u32..5) {
            let _ = left_at(&history, timeline);
        }
    }
}
