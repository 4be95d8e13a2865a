//! The replication slot: the server's memory of how far we have read, and what can befall it.
//!
//! Source: PostgreSQL manual, `pg_replication_slots`, "Replication Slots", "Replication Slot
//! Synchronization".

use crossdock_model::Position;
use tokio_postgres::Client;

use super::connection::Connection;
use super::prepare::Prepared;
use super::{errors, sql};
use crate::{CaptureError, SourceOptions};

/// Slots can be kept on standbys from here on.
pub(super) const FAILOVER_VERSION: i32 = 170_000;

/// A replication slot as the server shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slot {
    pub plugin: Option<String>,
    pub database: Option<String>,
    pub active_pid: Option<i32>,
    pub restart_lsn: Option<u64>,
    pub confirmed_lsn: Option<u64>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Why it is lost, in the server's word (17 and newer).
    pub invalidation: Option<String>,
    /// It clashed with the replay of a standby (16 and newer), or, in 16, was lost however.
    pub conflicting: bool,
    /// It is to be kept on standbys (17 and newer).
    pub failover: bool,
    /// A standby's copy of the primary's slot (17 and newer).
    pub synced: bool,
}

/// A slot that was just made.
pub(super) struct NewSlot {
    /// Every transaction that commits at or after this place is in the stream.
    pub consistent_point: u64,
    /// Name of the exported snapshot, which has every transaction before that place. It lives as
    /// long as nothing more is asked on the connection that made the slot.
    pub snapshot: String,
}

/// The slot, if it exists.
pub(super) async fn slot(
    client: &Client,
    options: &SourceOptions,
) -> Result<Option<Slot>, CaptureError> {
    // Columns that only newer servers have are NULL on older ones when asked for like this.
    let row = client
        .query_opt(
            "SELECT plugin, database, active_pid, (restart_lsn - '0/0')::int8,
                    (confirmed_flush_lsn - '0/0')::int8, wal_status,
                    to_jsonb(s) ->> 'invalidation_reason',
                    coalesce((to_jsonb(s) ->> 'conflicting')::bool, false),
                    coalesce((to_jsonb(s) ->> 'failover')::bool, false),
                    coalesce((to_jsonb(s) ->> 'synced')::bool, false)
             FROM pg_replication_slots s WHERE slot_name = $1",
            &[&options.slot],
        )
        .await
        .map_err(|e| errors::sql(options, "looking up the replication slot", e))?;
    let lsn = |value: Option<i64>| value.and_then(|lsn| u64::try_from(lsn).ok());
    Ok(row.map(|row| Slot {
        plugin: row.get(0),
        database: row.get(1),
        active_pid: row.get(2),
        restart_lsn: lsn(row.get(3)),
        confirmed_lsn: lsn(row.get(4)),
        wal_status: row.get(5),
        invalidation: row.get(6),
        conflicting: row.get(7),
        failover: row.get(8),
        synced: row.get(9),
    }))
}

impl Slot {
    /// A slot of another kind is somebody else's: neither read nor dropped.
    pub(super) fn is_ours(&self, options: &SourceOptions) -> bool {
        self.plugin.as_deref() == Some("pgoutput")
            && self.database.as_deref() == Some(&*options.database)
    }

    /// Why the log that it needs is gone and what keeps that from happening again; `None` while
    /// it is there.
    pub(super) fn loss(&self) -> Option<(&'static str, &'static str)> {
        const KEEP: &str = "let max_slot_wal_keep_size last for the longest outage";
        const LEVEL: &str = "keep wal_level = logical on the primary";
        const FEEDBACK: &str = "set hot_standby_feedback = on on the standby, and let it follow \
                                the primary through a physical slot";
        Some(match self.invalidation.as_deref() {
            Some("wal_removed") => {
                ("the log that it needs was removed: it fell behind max_slot_wal_keep_size", KEEP)
            }
            Some("rows_removed") => {
                ("rows of the catalog that it needs were removed on the primary", FEEDBACK)
            }
            Some("wal_level_insufficient") => ("the primary's wal_level was lowered", LEVEL),
            Some("idle_timeout") => (
                "it was not read for longer than idle_replication_slot_timeout",
                "set idle_replication_slot_timeout = 0, or let it last for the longest outage",
            ),
            Some(_) => ("the server has invalidated it", "look into the server's log for why"),
            // 16 calls every lost slot conflicting; one whose log is gone has no place any more.
            None if self.conflicting && self.restart_lsn.is_some() => {
                ("it clashed with what the standby replays from its primary", FEEDBACK)
            }
            None if self.wal_status.as_deref() == Some("lost") || self.restart_lsn.is_none() => {
                ("it has lost the log that it needs", KEEP)
            }
            None => return None,
        })
    }
}

fn check_ours(options: &SourceOptions, slot: &Slot) -> Result<(), CaptureError> {
    if slot.is_ours(options) {
        return Ok(());
    }
    Err(CaptureError::definite(
        format!(
            "source {}: slot {} is not a pgoutput slot of database {}",
            options.name, options.slot, options.database
        ),
        "give this source a slot name of its own",
    ))
}

/// Whether reading can go on at `from` with this slot.
pub(super) fn check(
    options: &SourceOptions,
    slot: Option<&Slot>,
    from: u64,
    standby: bool,
) -> Result<(), CaptureError> {
    let position = Position::Postgres { lsn: from };
    let name = &options.slot;
    let Some(slot) = slot else {
        return Err(errors::gap(
            options,
            format!(
                "slot {name} does not exist (dropped, or not carried over to this server); \
                 reading stood at {position}"
            ),
        ));
    };
    check_ours(options, slot)?;
    if let Some((why, prevention)) = slot.loss() {
        return Err(errors::gap_with(
            options,
            format!("slot {name} is lost: {why}; reading stood at {position}"),
            prevention,
        ));
    }
    if slot.synced && standby {
        return Err(CaptureError::definite(
            format!(
                "source {}: slot {name} on this standby is a copy of its primary's, which can be \
                 read only after a promotion",
                options.name
            ),
            "read the primary, or give this source a slot name of its own",
        ));
    }
    match slot.confirmed_lsn {
        Some(confirmed) if confirmed > from => Err(errors::gap(
            options,
            format!(
                "slot {name} begins at {}, after {position} where reading stood: it was made \
                 anew, advanced, or read by somebody else",
                Position::Postgres { lsn: confirmed }
            ),
        )),
        _ => Ok(()),
    }
}

/// Drops the slot that a snapshot which did not finish has left.
pub(super) async fn clear(
    client: &Client,
    options: &SourceOptions,
    slot: Option<&Slot>,
) -> Result<(), CaptureError> {
    let Some(slot) = slot else { return Ok(()) };
    check_ours(options, slot)?;
    if let Some(pid) = slot.active_pid {
        return Err(CaptureError::definite(
            format!(
                "source {}: slot {} is in use by process {pid} of the server",
                options.name, options.slot
            ),
            format!(
                "stop the other reader (SELECT pg_terminate_backend({pid});), or give this \
                 source a slot name of its own"
            ),
        ));
    }
    tracing::info!(source = options.name, slot = options.slot, "dropping an unfinished slot");
    client
        .execute("SELECT pg_drop_replication_slot($1)", &[&options.slot])
        .await
        .map_err(|e| errors::sql(options, "dropping an unfinished slot", e))?;
    Ok(())
}

/// Makes the slot and exports a snapshot as of its beginning. A temporary one goes with the
/// connection. Waits for the transactions that are running to end, and on a standby until the
/// primary has said which are.
pub(super) fn create(
    connection: &mut Connection,
    prepared: &Prepared,
    temporary: bool,
) -> Result<NewSlot, CaptureError> {
    const STANDBY: &str = "on a standby this waits until the primary has logged its running \
                           transactions; SELECT pg_log_standby_snapshot() there does it at once";
    let options = connection.options.clone();
    let statement = create_statement(&options, prepared, temporary);
    if prepared.standby {
        tracing::info!(source = options.name, slot = options.slot, "making the slot: {STANDBY}");
    }
    let made = connection.query("making the replication slot", &statement);
    let rows = made.map_err(|error| match error {
        CaptureError::Transient { what, source } if prepared.standby => {
            CaptureError::Transient { what: format!("{what} ({STANDBY})"), source }
        }
        other => other,
    })?;
    let mut row = rows.into_iter().flatten().skip(1);
    match (row.next().flatten().map(|lsn| lsn.parse()), row.next().flatten()) {
        (Some(Ok(Position::Postgres { lsn })), Some(snapshot)) => {
            Ok(NewSlot { consistent_point: lsn, snapshot })
        }
        _ => Err(connection.odd(b'D')),
    }
}

fn create_statement(options: &SourceOptions, prepared: &Prepared, temporary: bool) -> String {
    let slot = sql::identifier(&options.slot);
    let kind = if temporary { " TEMPORARY" } else { "" };
    let begin = format!("CREATE_REPLICATION_SLOT {slot}{kind} LOGICAL pgoutput");
    if prepared.keeps_failover_slots(options) && !temporary {
        format!("{begin} (SNAPSHOT 'export', FAILOVER true)")
    } else {
        format!("{begin} EXPORT_SNAPSHOT")
    }
}

/// Marks an existing slot to be kept on standbys, where it is not yet: it may be older than the
/// server's version, or than the option. Reading goes on when that can't be done.
pub(super) fn keep_on_standbys(
    connection: &mut Connection,
    prepared: &Prepared,
) -> Result<(), CaptureError> {
    let options = connection.options.clone();
    if !prepared.slot_lacks_failover || !prepared.keeps_failover_slots(&options) {
        return Ok(());
    }
    let statement =
        format!("ALTER_REPLICATION_SLOT {} (FAILOVER true)", sql::identifier(&options.slot));
    match connection.query("marking the slot for standbys", &statement) {
        Ok(_) => {
            tracing::info!(source = options.name, slot = options.slot, "slot has FAILOVER now");
            Ok(())
        }
        Err(CaptureError::Definite { what, .. }) => {
            tracing::warn!(source = options.name, "{what}; after a failover there will be a gap");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{DatabaseKind, Tls};
    use crossdock_model::TableName;

    /// A source for tests that reach no server.
    pub(in super::super) fn options() -> SourceOptions {
        SourceOptions {
            name: "erp".into(),
            kind: DatabaseKind::Postgres,
            host: "localhost".into(),
            port: 5432,
            user: "crossdock".into(),
            password: "".into(),
            database: "erp".into(),
            tls: Tls::Disable,
            tables: vec![TableName::new("s", "a"), TableName::new("s", "b")],
            slot: "crossdock".into(),
            slot_failover: true,
            publication: "crossdock".into(),
            server_id: 0,
            zero_dates: Default::default(),
            block_bytes_max: 65_536,
            spill_dir: None,
            snapshot: Default::default(),
            poll: None,
        }
    }

    fn slot() -> Slot {
        Slot {
            plugin: Some("pgoutput".into()),
            database: Some("erp".into()),
            restart_lsn: Some(10),
            confirmed_lsn: Some(20),
            wal_status: Some("reserved".into()),
            ..Slot::default()
        }
    }

    #[test]
    fn a_slot_that_can_not_go_on_is_a_gap() {
        let check = |slot: Option<&Slot>, from| check(&options(), slot, from, true);
        assert!(check(Some(&slot()), 20).is_ok());
        assert!(matches!(check(Some(&slot()), 19), Err(CaptureError::Gap { .. })));
        assert!(matches!(check(None, 20), Err(CaptureError::Gap { .. })));
        let other = Slot { plugin: Some("wal2json".into()), ..slot() };
        assert!(matches!(check(Some(&other), 20), Err(CaptureError::Definite { .. })));
        let copy = Slot { synced: true, ..slot() };
        assert!(matches!(check(Some(&copy), 20), Err(CaptureError::Definite { .. })));
        assert!(super::check(&options(), Some(&copy), 20, false).is_ok());
    }

    #[test]
    fn every_reason_of_a_loss_has_its_remedy() {
        let lost = |invalidation: Option<&str>, conflicting| Slot {
            wal_status: Some("lost".into()),
            restart_lsn: None,
            invalidation: invalidation.map(str::to_string),
            conflicting,
            ..slot()
        };
        let expected = [
            (lost(Some("wal_removed"), false), "max_slot_wal_keep_size"),
            (lost(Some("rows_removed"), true), "hot_standby_feedback"),
            (lost(Some("wal_level_insufficient"), true), "wal_level"),
            (lost(Some("idle_timeout"), false), "idle_replication_slot_timeout"),
            (lost(Some("of_a_newer_version"), false), "server's log"),
            (Slot { restart_lsn: Some(0x10), ..lost(None, true) }, "hot_standby_feedback"),
            (lost(None, true), "max_slot_wal_keep_size"),
            (lost(None, false), "max_slot_wal_keep_size"),
        ];
        for (slot, word) in expected {
            let error = check(&options(), Some(&slot), 20, false).unwrap_err();
            let CaptureError::Gap { what, remedy, .. } = error else { panic!("{error}") };
            assert!(remedy.contains(word), "{what}; {remedy}");
            assert!(what.contains("0/14"), "{what}");
        }
        assert_eq!(slot().loss(), None);
    }
}
