//! `crossdock rules diff`: which records come out otherwise under files that are not in force yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use crossdock_apply::{ApplyError, CanonicalStore, PostgresStore};
use crossdock_canonical::{Comparison, Counts, RecordDifference, ReplayTx};
use crossdock_config::{Config, Folders};
use crossdock_model::block;
use crossdock_model::canonical::{Loaded, Name, Needs};
use crossdock_model::time::instant_text;
use crossdock_state::{Entry, JournalFollower};
use serde_json::json;
use tokio::runtime::Handle;

use crate::clock::now_micros;
use crate::operator::span_micros;
use crate::wiring;

/// Transactions that are judged at once.
const BATCH: usize = 200;
/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_secs(2);

/// Command-line arguments.
#[derive(Args)]
pub struct DiffArguments {
    /// Folder of the other rule files; without it the present ones.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["mappings", "entities"])]
    rules: Option<PathBuf>,
    /// Folder of the other mapping files; without it the present ones.
    #[arg(long, value_name = "DIR")]
    mappings: Option<PathBuf>,
    /// Folder of the other entity files; without it the present ones.
    #[arg(long, value_name = "DIR")]
    entities: Option<PathBuf>,
    /// How far back the journals are replayed, by the commit times of the sources.
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    replay: String,
    /// Stop after so many records: memory grows with their number (some kilobytes each).
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    max_records: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was replayed.
#[derive(Default)]
struct Replayed {
    transactions: u64,
    changes: u64,
    /// Commit time of the last transaction, microseconds since the Unix epoch.
    at_micros: i64,
    /// There were more records than allowed: the rest was not looked at.
    partial: bool,
}

/// Compares, and says what differs.
pub async fn diff(path: &Path, arguments: &DiffArguments) -> ExitCode {
    let old = match super::super::load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let folders = Folders {
        entities: arguments.entities.clone(),
        mappings: arguments.mappings.clone(),
        rules: arguments.rules.clone(),
    };
    let environment = |name: &str| std::env::var(name).ok();
    let new = match crossdock_config::load_with(path, &environment, &folders) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(2);
        }
    };
    match compare(&old, &new, arguments).await {
        Ok(same) => ExitCode::from(if same { 0 } else { 1 }),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// True when nothing differs.
async fn compare(old: &Config, new: &Config, arguments: &DiffArguments) -> anyhow::Result<bool> {
    let now = now_micros();
    let since = now.saturating_sub(span_micros(&arguments.replay)?);
    let mut store = PostgresStore::open_reader(&wiring::connect_options(&old.store)).await?;
    let mut comparison = Comparison::new(&old.rules, &new.rules, &old.name, now);
    let runtime = Handle::current();
    let replayed = tokio::task::block_in_place(|| {
        let mut load = |needs: &Needs| runtime.block_on(store.load(needs));
        replay(old, since, arguments.max_records, &mut comparison, &mut load)
    })?;
    let records = comparison.differences();
    let (exceptions, deliveries) = (comparison.exceptions(), comparison.deliveries());
    let same = records.is_empty() && exceptions.is_empty() && deliveries.is_empty();
    let hashes = [old.rules.hash(), new.rules.hash()];
    match arguments.json {
        true => print_json(hashes, &replayed, &records, &exceptions, &deliveries),
        false => print(hashes, &replayed, &comparison, &records, &exceptions, &deliveries),
    }
    Ok(same && !replayed.partial)
}

/// A source's journal, block by block.
struct Tape {
    source: Name,
    journal: JournalFollower,
    next: Option<Entry>,
    /// A transaction whose end has not come yet.
    open: Option<ReplayTx>,
}

impl Tape {
    fn advance(&mut self, since: i64) -> anyhow::Result<()> {
        loop {
            self.next = self.journal.next_block()?;
            // The commit time of a block is that of its last transaction; in the middle of one,
            // blocks are not left out.
            let old = self.next.as_ref().is_some_and(|entry| entry.meta.commit_micros < since);
            if !old || self.open.is_some() {
                return Ok(());
            }
        }
    }

    /// Whole transactions of the next block.
    fn take(&mut self, since: i64) -> anyhow::Result<Vec<ReplayTx>> {
        let Some(entry) = self.next.take() else { return Ok(Vec::new()) };
        let mut whole = Vec::new();
        for fragment in block::decode(&entry.bytes)? {
            if fragment.first {
                let (source, header) = (self.source.clone(), fragment.header);
                self.open = Some(ReplayTx { source, header, events: Vec::new() });
            }
            if let Some(open) = &mut self.open {
                open.events.extend(fragment.events);
            }
            if fragment.last {
                whole.extend(self.open.take());
            }
        }
        // What began before the window is left to the store.
        whole.retain(|tx| tx.header.snapshot || tx.header.commit_micros >= since);
        self.advance(since)?;
        Ok(whole)
    }
}

/// Replays the journals side by side, in the order of their commit times.
fn replay(
    config: &Config,
    since: i64,
    records_max: usize,
    comparison: &mut Comparison<'_>,
    load: &mut dyn FnMut(&Needs) -> Result<Loaded, ApplyError>,
) -> anyhow::Result<Replayed> {
    let mut tapes = Vec::new();
    for source in &config.sources {
        let dir = wiring::journal_dir(config, &source.name);
        let journal = JournalFollower::open(dir, 0)
            .with_context(|| format!("open the journal of {}", source.name))?;
        let source = source.name.as_str().into();
        let mut tape = Tape { source, journal, next: None, open: None };
        tape.advance(since)?;
        tapes.push(tape);
    }
    let mut replayed = Replayed::default();
    let mut shown = Instant::now();
    let commit = |tape: &Tape| tape.next.as_ref().map(|entry| entry.meta.commit_micros);
    while let Some(tape) =
        tapes.iter_mut().filter(|t| t.next.is_some()).min_by_key(|tape| commit(tape))
    {
        let transactions = tape.take(since)?;
        for batch in transactions.chunks(BATCH) {
            comparison.judge(batch, load)?;
            for tx in batch {
                replayed.transactions += 1;
                replayed.changes += tx.events.len() as u64;
                replayed.at_micros = replayed.at_micros.max(tx.header.commit_micros);
            }
            if comparison.records() > records_max {
                replayed.partial = true;
                return Ok(replayed);
            }
        }
        if shown.elapsed() > SHOW_EVERY {
            shown = Instant::now();
            eprintln!(
                "{} changes replayed, up to {}; {} records",
                replayed.changes,
                instant_text(replayed.at_micros),
                comparison.records()
            );
        }
    }
    Ok(replayed)
}

fn print(
    hashes: [&str; 2],
    replayed: &Replayed,
    comparison: &Comparison<'_>,
    records: &[RecordDifference],
    exceptions: &Counts,
    deliveries: &Counts,
) {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_string());
    for record in records {
        let what = match (record.was, record.is) {
            (true, false) => " would not be there",
            (false, true) => " would be there",
            _ => "",
        };
        say!("{}{what}", record.record);
        for field in &record.fields {
            let (old, new) = (shown(&field.old), shown(&field.new));
            say!("    {:<24} {old} -> {new}   ({})", field.field, field.rule);
        }
    }
    for (what, counts) in [("exceptions", exceptions), ("deliveries", deliveries)] {
        for (name, (old, new)) in counts {
            say!("{what} of {name}: {old} -> {new}");
        }
    }
    let [old, new] = hashes;
    say!(
        "{} of {} records differ between rules {old} and {new}, after {} changes in {} transactions",
        records.len(),
        comparison.records(),
        replayed.changes,
        replayed.transactions
    );
    if replayed.partial {
        say!(
            "stopped at {}: more records than --max-records; the rest was not compared",
            instant_text(replayed.at_micros)
        );
    }
}

fn print_json(
    hashes: [&str; 2],
    replayed: &Replayed,
    records: &[RecordDifference],
    exceptions: &Counts,
    deliveries: &Counts,
) {
    let counts = |counts: &Counts| -> BTreeMap<String, [usize; 2]> {
        counts.iter().map(|(name, (old, new))| (name.to_string(), [*old, *new])).collect()
    };
    let record = |difference: &RecordDifference| {
        let fields = difference
            .fields
            .iter()
            .map(|f| json!({ "field": &*f.field, "old": f.old, "new": f.new, "rule": &*f.rule }));
        json!({
            "entity": &*difference.record.entity,
            "key": &*difference.record.key,
            "was": difference.was,
            "is": difference.is,
            "fields": fields.collect::<Vec<_>>(),
        })
    };
    let [old, new] = hashes;
    let all = json!({
        "old": old,
        "new": new,
        "transactions": replayed.transactions,
        "changes": replayed.changes,
        "partial": replayed.partial,
        "records": records.iter().map(record).collect::<Vec<_>>(),
        "exceptions": counts(exceptions),
        "deliveries": counts(deliveries),
    });
    say!("{all:#}");
}
