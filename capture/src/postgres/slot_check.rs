//! What `crossdock check` says of the slot, and of what becomes of it when the primary fails.

use tokio_postgres::Client;

use super::check::Findings;
use super::{errors, prepare, slot, sql};
use crate::{CaptureError, Severity, SourceOptions};

/// The slot itself.
pub(super) async fn slot(
    client: &Client,
    options: &SourceOptions,
    findings: &mut Findings,
) -> Result<(), CaptureError> {
    let name = &options.slot;
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(legal) {
        findings.add(
            Severity::Error,
            format!("`{name}` is no name for a replication slot"),
            "use lower-case letters, digits and underscores, at most 63".to_string(),
        );
        return Ok(());
    }
    let Some(slot) = slot::slot(client, options).await? else {
        findings.ok(format!("slot {name} will be created"));
        return Ok(());
    };
    let status = slot.wal_status.as_deref().unwrap_or("unknown");
    match (slot.is_ours(options), slot.loss(), status) {
        (false, ..) => findings.add(
            Severity::Error,
            format!("slot {name} is not a pgoutput slot of database {}", options.database),
            "give this source a slot name of its own".to_string(),
        ),
        // No reason not to start: the reader meets the gap, and what is to be done about it is
        // decided there.
        (_, Some((why, prevention)), _) => findings.add(
            Severity::Warning,
            format!("slot {name} is lost, and with it changes that were not read: {why}"),
            format!(
                "start Crossdock: it records the gap, and halts or reads all tables again as \
                 `on_gap` says (crossdock resync --source {}); then {prevention}",
                options.name
            ),
        ),
        (_, _, "unreserved") => findings.add(
            Severity::Warning,
            format!("slot {name} will lose the log it needs at the next checkpoint"),
            "start Crossdock now, or raise max_slot_wal_keep_size".to_string(),
        ),
        _ => findings.ok(match slot.active_pid {
            Some(pid) => format!("slot {name} is in use by process {pid} of the server"),
            None => format!("slot {name} exists and can be read"),
        }),
    }
    Ok(())
}

/// Whether the slot is there after a failover, or on this standby.
pub(super) async fn standbys(
    client: &Client,
    options: &SourceOptions,
    version: i32,
    findings: &mut Findings,
) -> Result<(), CaptureError> {
    let row = client
        .query_one(
            "SELECT pg_is_in_recovery(),
                    (SELECT string_agg(slot_name::text, ',' ORDER BY slot_name)
                     FROM pg_replication_slots WHERE slot_type = 'physical')",
            &[],
        )
        .await
        .map_err(|e| errors::sql(options, "looking for standbys", e))?;
    let (standby, physical): (bool, Option<String>) = (row.get(0), row.get(1));
    match (standby, physical) {
        (true, _) => on_standby(client, options, findings).await,
        (false, None) => Ok(()),
        (false, Some(physical)) => on_primary(client, options, version, &physical, findings).await,
    }
}

async fn on_standby(
    client: &Client,
    options: &SourceOptions,
    findings: &mut Findings,
) -> Result<(), CaptureError> {
    findings.ok(
        "the server is a standby: the publication is made on its primary, and making the slot \
         waits until the primary has logged its running transactions (SELECT \
         pg_log_standby_snapshot();)"
            .to_string(),
    );
    let feedback = prepare::setting(client, options, "hot_standby_feedback").await?;
    if feedback.as_deref() == Some("on") {
        findings.ok("hot_standby_feedback is on".to_string());
    } else {
        findings.add(
            Severity::Warning,
            "hot_standby_feedback is off: the primary may remove rows of its catalog that the \
             slot needs, and the slot is lost then"
                .to_string(),
            "ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf(); on the standby, \
             which should follow its primary through a physical slot"
                .to_string(),
        );
    }
    if slot::slot(client, options).await?.is_some_and(|slot| slot.synced) {
        findings.add(
            Severity::Error,
            format!(
                "slot {} on this standby is a copy of its primary's (synced), which can be read \
                 only after a promotion",
                options.slot
            ),
            "read the primary, or give this source a slot name of its own".to_string(),
        );
    }
    Ok(())
}

/// `physical` names the slots through which standbys follow, with commas between.
async fn on_primary(
    client: &Client,
    options: &SourceOptions,
    version: i32,
    physical: &str,
    findings: &mut Findings,
) -> Result<(), CaptureError> {
    if version < slot::FAILOVER_VERSION {
        findings.add(
            Severity::Warning,
            "standbys of this version keep no copy of the slot: after a failover the source has \
             a gap"
                .to_string(),
            "upgrade to PostgreSQL 17, or plan a new snapshot after each failover".to_string(),
        );
        return Ok(());
    }
    if !options.slot_failover {
        findings.add(
            Severity::Warning,
            format!("slot {} is not to be kept on standbys", options.slot),
            "remove `slot_failover = \"off\"`, or plan a new snapshot after each failover"
                .to_string(),
        );
        return Ok(());
    }
    let waits = prepare::setting(client, options, "synchronized_standby_slots").await?;
    let waits = waits.unwrap_or_default();
    if waits.is_empty() {
        findings.add(
            Severity::Warning,
            "synchronized_standby_slots is empty: Crossdock may read what no standby has yet, and \
             after a failover that is a gap"
                .to_string(),
            format!(
                "ALTER SYSTEM SET synchronized_standby_slots = {}; SELECT pg_reload_conf(); with \
                 the slots of the standbys that may be promoted, on which \
                 sync_replication_slots = on",
                sql::literal(physical)
            ),
        );
    } else {
        findings.ok(format!("synchronized_standby_slots is {waits}"));
    }
    match slot::slot(client, options).await? {
        Some(slot) if !slot.failover => {
            findings.ok(format!("slot {} will be marked FAILOVER", options.slot));
        }
        Some(_) => findings.ok(format!("slot {} is kept on standbys", options.slot)),
        None => {}
    }
    Ok(())
}
