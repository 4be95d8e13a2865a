//! Metric names, labels and helps, all in one place. Labels are bounded: no keys, no row values.

use std::sync::atomic::Ordering;

use crossdock_model::canonical::Tally;
use crossdock_model::{Op, TableName};
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::board::{Board, SourceBoard, StageState, lock};
use crate::copies;

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    events: IntCounterVec,
    delivered: IntCounterVec,
    withheld: IntCounterVec,
    echo_dropped: IntCounterVec,
    genuine_in_ours: IntCounterVec,
    unchanged: IntCounterVec,
    unmapped: IntCounterVec,
    duplicates: IntCounterVec,
    unknown_codes: IntCounterVec,
    late_evidence: IntCounterVec,
    unsubscribed: IntCounterVec,
    loops: IntCounterVec,
    reverts_withheld: IntCounterVec,
    reverts_superseded: IntCounterVec,
    delivery_seconds: HistogramVec,
    deliveries_late: IntCounterVec,
    deliveries_pulled: IntCounterVec,
    source_info: IntGaugeVec,
    target_info: IntGaugeVec,
    deliveries_coalesced: IntCounterVec,
    source_lag: GaugeVec,
    source_behind: IntGaugeVec,
    source_retained: IntGaugeVec,
    source_keep_limit: IntGaugeVec,
    hours_until_loss: GaugeVec,
    snapshot_rows: IntGaugeVec,
    snapshot_rows_estimated: IntGaugeVec,
    snapshot_state: IntGaugeVec,
    gaps: IntGaugeVec,
    gap_open: IntGaugeVec,
    drifted: IntGaugeVec,
    journal_bytes: IntGaugeVec,
    journal_age: GaugeVec,
    integrate_behind: IntGaugeVec,
    target_lag: GaugeVec,
    target_pending: IntGaugeVec,
    stage_up: IntGaugeVec,
    exceptions_open: IntGauge,
    holds: IntGauge,
    echo_leaked: IntGauge,
    rules_info: IntGaugeVec,
    rules_reload_failures: IntGauge,
    rate_guards_stopped: IntGauge,
}

impl Metrics {
    /// Registers everything.
    pub fn new() -> Result<Self, prometheus::Error> {
        let r = Registry::new();
        Ok(Self {
            events: counter(
                &r,
                "events_total",
                "Row changes journaled.",
                &["source", "table", "op"],
            )?,
            delivered: counter(
                &r,
                "delivered_rows_total",
                "Rows written into targets.",
                &["target"],
            )?,
            withheld: counter(
                &r,
                "withheld_total",
                "Changes of fields by a source that does not own them, by what was done.",
                &["entity", "field", "source", "action"],
            )?,
            echo_dropped: counter(
                &r,
                "echo_dropped_total",
                "Rows written by Crossdock that came back through a log and were dropped.",
                &["source"],
            )?,
            genuine_in_ours: counter(
                &r,
                "genuine_in_own_transactions_total",
                "Rows that others (triggers) wrote inside Crossdock's own transactions: kept.",
                &["source"],
            )?,
            unchanged: counter(
                &r,
                "unchanged_total",
                "Row changes that altered no canonical record.",
                &["source"],
            )?,
            unmapped: counter(
                &r,
                "unmapped_rows_total",
                "Row changes of captured tables that no mapping names.",
                &["source", "table"],
            )?,
            duplicates: counter(
                &r,
                "duplicate_facts_total",
                "Second rows that state a business fact again under another row id.",
                &["entity", "source"],
            )?,
            unknown_codes: counter(
                &r,
                "unknown_codes_total",
                "Codes that no code table knows.",
                &["table", "source"],
            )?,
            unsubscribed: counter(
                &r,
                "unsubscribed_total",
                "Changes of records of which no subscription told anybody.",
                &["entity"],
            )?,
            late_evidence: counter(
                &r,
                "late_evidence_total",
                "Evidence that arrived after a later state had been reached.",
                &["entity"],
            )?,
            loops: counter(
                &r,
                "loops_stopped_total",
                "Deliveries that were not owed because Crossdock had caused them again and again.",
                &["source"],
            )?,
            reverts_withheld: counter(
                &r,
                "reverts_withheld_total",
                "Reverts that were not made, because the target insists on its value.",
                &["target"],
            )?,
            reverts_superseded: counter(
                &r,
                "reverts_superseded_total",
                "Reverts that were not made, because the record has no value there any more.",
                &["target"],
            )?,
            delivery_seconds: histogram(
                &r,
                "delivery_seconds",
                "From a delivery being owed to its target having it.",
                &["target", "lane"],
            )?,
            deliveries_late: counter(
                &r,
                "deliveries_late_total",
                "Deliveries that took longer than their lane promises.",
                &["target", "lane"],
            )?,
            deliveries_coalesced: counter(
                &r,
                "deliveries_coalesced_total",
                "Deliveries that were not made, because a later one of the record says it all.",
                &["target"],
            )?,
            deliveries_pulled: counter(
                &r,
                "deliveries_pulled_total",
                "Deliveries made out of turn, to keep the order of their records over lanes.",
                &["target"],
            )?,
            source_info: int_gauge(
                &r,
                "source_info",
                "1 for each source with its region, to group what is said of sources.",
                &["source", "region"],
            )?,
            target_info: int_gauge(
                &r,
                "target_info",
                "1 for each target with its region, to group what is said of targets.",
                &["target", "region"],
            )?,
            source_lag: gauge(
                &r,
                "source_lag_seconds",
                "How long ago the server's log ended where the journal ends now.",
                &["source"],
            )?,
            source_behind: int_gauge(
                &r,
                "source_behind_bytes",
                "Bytes between the journal's end and the head of the server's log.",
                &["source"],
            )?,
            source_retained: int_gauge(
                &r,
                "source_retained_log_bytes",
                "Bytes of log that the server keeps.",
                &["source"],
            )?,
            source_keep_limit: int_gauge(
                &r,
                "source_keep_limit_bytes",
                "Log that the server keeps at most; beyond it unread changes are lost.",
                &["source"],
            )?,
            hours_until_loss: gauge(
                &r,
                "source_hours_until_loss",
                "Hours until unread changes are lost, by size at the rate of the last minutes or by age.",
                &["source"],
            )?,
            snapshot_rows: int_gauge(
                &r,
                "snapshot_rows",
                "Rows of a table that were read outside the log.",
                &["source", "table"],
            )?,
            snapshot_rows_estimated: int_gauge(
                &r,
                "snapshot_rows_estimated",
                "Rows that the server estimates there are to read.",
                &["source", "table"],
            )?,
            snapshot_state: int_gauge(
                &r,
                "snapshot_state",
                "1 for the state in which the reading of a table's rows is, 0 for the others.",
                &["source", "table", "state"],
            )?,
            gaps: int_gauge(&r, "gaps", "Gaps in a source's log on record.", &["source"])?,
            drifted: int_gauge(
                &r,
                "source_drifted",
                "1 while changes wait because a table has changed under the files.",
                &["source"],
            )?,
            gap_open: int_gauge(
                &r,
                "gap_open",
                "1 while the last gap of a source is not closed by a resync.",
                &["source"],
            )?,
            journal_bytes: int_gauge(&r, "journal_bytes", "Size of the journal.", &["source"])?,
            journal_age: gauge(
                &r,
                "journal_oldest_age_seconds",
                "Age of the oldest block kept.",
                &["source"],
            )?,
            integrate_behind: int_gauge(
                &r,
                "integrate_behind_blocks",
                "Journal blocks not integrated yet.",
                &["source"],
            )?,
            target_lag: gauge(
                &r,
                "target_lag_seconds",
                "Age of the oldest delivery that a target has not been given.",
                &["target"],
            )?,
            target_pending: int_gauge(
                &r,
                "target_pending",
                "Deliveries that a target has not been given.",
                &["target"],
            )?,
            stage_up: int_gauge(
                &r,
                "stage_up",
                "1 while a stage is at work, 0 while it retries or needs a person.",
                &["stage", "name"],
            )?,
            exceptions_open: single(
                &r,
                "exceptions_open",
                "Exceptions that a person must look at.",
            )?,
            holds: single(&r, "holds", "Releases whose conditions do not hold yet.")?,
            echo_leaked: single(
                &r,
                "echo_leaked_total",
                "Own rows that came back and were taken for foreign ones; must stay 0.",
            )?,
            rules_info: int_gauge(
                &r,
                "rules_info",
                "1 for the content hash of the rules in force.",
                &["hash"],
            )?,
            rules_reload_failures: single(
                &r,
                "rules_reload_failures_total",
                "Attempts to reload the rules that were refused.",
            )?,
            rate_guards_stopped: single(
                &r,
                "rate_guards_stopped",
                "Rate guards that have stopped changes and were not released.",
            )?,
            registry: r,
        })
    }

    /// Which region a source belongs to.
    pub fn source_region(&self, source: &str, region: &str) {
        self.source_info.with_label_values(&[source, region]).set(1);
    }

    /// Which region a target belongs to.
    pub fn target_region(&self, target: &str, region: &str) {
        self.target_info.with_label_values(&[target, region]).set(1);
    }

    /// Row changes journaled.
    pub fn events(&self, source: &str, table: &TableName, op: Op, count: u64) {
        self.events.with_label_values(&[source, &table.to_string(), op.letter()]).inc_by(count);
    }

    /// Rows written into a target.
    pub fn delivered(&self, target: &str, rows: u64) {
        self.delivered.with_label_values(&[target]).inc_by(rows);
    }

    /// A count that judging has made.
    pub fn tally(&self, tally: &Tally, count: u64) {
        match tally {
            Tally::Withheld { entity, field, source, action } => {
                self.withheld.with_label_values(&[entity, field, source, action])
            }
            Tally::Echo { source } => self.echo_dropped.with_label_values(&[source]),
            Tally::GenuineInOurs { source } => self.genuine_in_ours.with_label_values(&[source]),
            Tally::Unchanged { source } => self.unchanged.with_label_values(&[source]),
            Tally::Unmapped { source, table } => self.unmapped.with_label_values(&[source, table]),
            Tally::Duplicate { entity, source } => {
                self.duplicates.with_label_values(&[entity, source])
            }
            Tally::UnknownCode { table, source } => {
                self.unknown_codes.with_label_values(&[table, source])
            }
            Tally::Loop { source } => self.loops.with_label_values(&[&**source]),
            Tally::Unsubscribed { entity } => self.unsubscribed.with_label_values(&[entity]),
            Tally::LateEvidence { entity } => self.late_evidence.with_label_values(&[entity]),
        }
        .inc_by(count);
    }

    /// Deliveries of a lane were made: how long each had waited (seconds), how many too long.
    pub fn waited(&self, target: &str, lane: &str, waited: impl Iterator<Item = f64>, late: usize) {
        let seconds = self.delivery_seconds.with_label_values(&[target, lane]);
        waited.for_each(|waited| seconds.observe(waited.max(0.0)));
        self.deliveries_late.with_label_values(&[target, lane]).inc_by(late as u64);
    }

    /// Deliveries were taken out of their lanes.
    pub fn pulled(&self, target: &str, many: usize) {
        self.deliveries_pulled.with_label_values(&[target]).inc_by(many as u64);
    }

    /// A revert was not made.
    pub fn revert_withheld(&self, target: &str) {
        self.reverts_withheld.with_label_values(&[target]).inc();
    }

    /// Deliveries were gathered into later ones.
    pub fn coalesced(&self, target: &str, many: usize) {
        self.deliveries_coalesced.with_label_values(&[target]).inc_by(many as u64);
    }

    /// A revert had nothing left to write.
    pub fn revert_superseded(&self, target: &str) {
        self.reverts_superseded.with_label_values(&[target]).inc();
    }

    /// Size and age of a journal.
    pub fn journal(&self, source: &str, bytes: u64, oldest_age_seconds: f64) {
        self.journal_bytes.with_label_values(&[source]).set(signed(bytes));
        self.journal_age.with_label_values(&[source]).set(oldest_age_seconds);
    }

    /// The text that Prometheus scrapes, with the gauges as the board has them now.
    pub fn render(&self, board: &Board) -> Result<String, prometheus::Error> {
        self.read(board);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn read_copies(&self, source: &SourceBoard) {
        for copy in &lock(&source.copies).tables {
            let table = copy.table.to_string();
            let label = [&*source.name, &*table];
            self.snapshot_rows.with_label_values(&label).set(signed(copy.rows));
            let estimated = signed(copy.rows_estimated);
            self.snapshot_rows_estimated.with_label_values(&label).set(estimated);
            let state = copies::state(copy);
            for word in copies::STATES {
                let label = [&*source.name, &*table, word];
                self.snapshot_state.with_label_values(&label).set(i64::from(word == state));
            }
        }
    }

    fn read(&self, board: &Board) {
        let up = |state: StageState| i64::from(state.is_well() || state == StageState::Snapshot);
        // Tables come and go.
        self.hours_until_loss.reset();
        self.source_keep_limit.reset();
        for gauge in [&self.snapshot_rows, &self.snapshot_rows_estimated, &self.snapshot_state] {
            gauge.reset();
        }
        for s in &board.sources {
            let label = [s.name.as_str()];
            let lag = s.lag_millis.load(Ordering::Relaxed) as f64 / 1000.0;
            self.source_lag.with_label_values(&label).set(lag);
            let behind = s.behind_bytes.load(Ordering::Relaxed);
            self.source_behind.with_label_values(&label).set(signed(behind));
            let retained = s.retained_bytes.load(Ordering::Relaxed);
            self.source_retained.with_label_values(&label).set(signed(retained));
            self.integrate_behind.with_label_values(&label).set(signed(s.blocks_behind()));
            self.stage_up.with_label_values(&["ingest", &s.name]).set(up(s.stage.state()));
            self.gaps.with_label_values(&label).set(signed(s.gaps.load(Ordering::Relaxed)));
            let open = i64::from(s.gap_open.load(Ordering::Relaxed));
            self.gap_open.with_label_values(&label).set(open);
            self.drifted.with_label_values(&label).set(i64::from(s.has_drifted()));
            if let Some(hours) = s.hours_until_loss() {
                self.hours_until_loss.with_label_values(&label).set(hours);
            }
            let limit = s.keep_limit_bytes.load(Ordering::Relaxed);
            if limit > 0 {
                self.source_keep_limit.with_label_values(&label).set(signed(limit));
            }
            self.read_copies(s);
        }
        for t in &board.targets {
            let label = [t.name.as_str()];
            let lag = t.lag_millis.load(Ordering::Relaxed) as f64 / 1000.0;
            self.target_lag.with_label_values(&label).set(lag);
            let pending = t.pending.load(Ordering::Relaxed);
            self.target_pending.with_label_values(&label).set(signed(pending));
            self.stage_up.with_label_values(&["deliver", &t.name]).set(up(t.stage.state()));
        }
        self.stage_up.with_label_values(&["integrate", "store"]).set(up(board.integrate.state()));
        self.exceptions_open.set(signed(board.exceptions_open.load(Ordering::Relaxed)));
        self.holds.set(signed(board.holds.load(Ordering::Relaxed)));
        self.echo_leaked.set(signed(board.echo_leaked.load(Ordering::Relaxed)));
        self.rules_info.reset();
        self.rules_info.with_label_values(&[&*lock(&board.rules_hash)]).set(1);
        let stopped = lock(&board.stopped).len() as u64;
        self.rate_guards_stopped.set(signed(stopped));
        let failures = board.reload_failures.load(Ordering::Relaxed);
        self.rules_reload_failures.set(signed(failures));
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Buckets for seconds from a millisecond to an hour.
const SECONDS: [f64; 12] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0, 3_600.0];

fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<HistogramVec, prometheus::Error> {
    let options = HistogramOpts::new(format!("crossdock_{name}"), help).buckets(SECONDS.to_vec());
    let metric = HistogramVec::new(options, labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let metric = IntCounterVec::new(Opts::new(format!("crossdock_{name}"), help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<GaugeVec, prometheus::Error> {
    let metric = GaugeVec::new(Opts::new(format!("crossdock_{name}"), help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn int_gauge(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    let metric = IntGaugeVec::new(Opts::new(format!("crossdock_{name}"), help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn single(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let metric = IntGauge::with_opts(Opts::new(format!("crossdock_{name}"), help))?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

#[cfg(test)]
mod tests;
