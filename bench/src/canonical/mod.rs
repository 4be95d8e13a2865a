//! `bench-canonical`: fold, map and judge on one core, with the demo's mapping and rule files, and
//! a store in memory that is not counted.

mod order;
mod store;
mod workload;

use std::fs;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use crossdock_canonical::{Known, Memory, Rules, Workspace};
use crossdock_model::SourceText;
use crossdock_model::canonical::Name;
use crossdock_schema_registry::Entities;
use store::Store;
use workload::{Systems, Transaction};

/// Orders that are there before.
pub const HISTORY: u32 = 2_200;
/// The store is asked a few times for a batch; more often than this never.
const ROUNDS_MAX: u32 = 100;
/// A condition in CEL that holds for every row and cannot be guessed.
const CONDITION: &str = "!(present(row.kind_of_row) && row.kind_of_row in [\"test\", \"dummy\"])";

/// Which rules.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Conditions {
    /// The demo's files as they are: conditions in evidence, computed fields and releases.
    Demo,
    /// And a condition in CEL for every row of every mapping.
    EveryRow,
}

/// What a run took, in the unit of its meter.
#[derive(Default)]
pub struct Took {
    /// Row changes as the logs had them.
    pub changes: u64,
    /// Reading them in and folding.
    pub fold: u64,
    /// Finding out what is needed: mapping and judging.
    pub needs: u64,
    /// Taking in what was loaded.
    pub provide: u64,
    /// The end.
    pub finish: u64,
    /// Times that the store was asked.
    pub rounds: u64,
    /// Batches.
    pub batches: u64,
    /// Records, versions and deliveries at the end.
    pub result: (usize, u64, u64),
}

impl Took {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.fold + self.needs + self.provide + self.finish
    }
}

/// What is measured: CPU nanoseconds or allocations of this thread so far.
pub type Meter<'m> = &'m dyn Fn() -> u64;

/// The demo's rules.
pub fn rules(conditions: Conditions) -> Result<Rules> {
    let mut mappings = folder("mappings")?;
    if conditions == Conditions::EveryRow {
        for file in &mut mappings {
            file.text = with_conditions(&file.text);
        }
    }
    let sources: Vec<Name> = ["erp", "wms_eu", "wms_us", "tms"].map(Name::from).into();
    let known = Known { sources: &sources, targets: &sources };
    Rules::load(Entities::shipped(), &mappings, &folder("rules")?, &known).map_err(|problems| {
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", texts.join("\n"))
    })
}

fn folder(name: &str) -> Result<Vec<SourceText>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demo").join(name);
    let mut files = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    files.sort_by_key(fs::DirEntry::path);
    let read = |file: &fs::DirEntry| {
        let name = file.file_name().to_string_lossy().into_owned();
        Ok(SourceText { file: name, text: fs::read_to_string(file.path())? })
    };
    files.iter().map(read).collect()
}

/// A mapping file with a condition in every block that has none.
fn with_conditions(text: &str) -> String {
    let blocks: Vec<String> = text
        .split("[[table]]")
        .map(|block| match block.contains("entity = ") && !block.contains("\nwhen = ") {
            true => block.replacen("\nentity = ", &format!("\nwhen = '{CONDITION}'\nentity = "), 1),
            false => block.to_string(),
        })
        .collect();
    blocks.join("[[table]]")
}

/// History and then life of so many orders, judged in batches of about so many row changes. The
/// history is not counted.
pub fn judge(
    rules: &Rules,
    (history, orders): (u32, u32),
    batch: usize,
    meter: Meter<'_>,
) -> Result<Took> {
    let mut systems = Systems::new();
    let (store, memory, took) = (Store::default(), Memory::default(), Took::default());
    let mut bench = Bench { rules, meter, store, memory, took };
    let mut before = systems.master_data();
    before.extend(systems.history(history));
    bench.run(before, batch)?;
    let life = systems.life(history..history + orders);
    bench.took = Took::default();
    bench.run(life, batch)?;
    let exceptions = &bench.store.exceptions;
    ensure!(exceptions.is_empty(), "{:?}", exceptions.values().next());
    let store = &bench.store;
    bench.took.result = (store.records(), store.history, store.deliveries);
    Ok(bench.took)
}

struct Bench<'b> {
    rules: &'b Rules,
    meter: Meter<'b>,
    store: Store,
    memory: Memory,
    took: Took,
}

impl Bench<'_> {
    fn run(&mut self, transactions: Vec<Transaction>, batch: usize) -> Result<()> {
        let mut waiting: Vec<Transaction> = Vec::new();
        let mut changes = 0;
        for transaction in transactions {
            changes += transaction.events.len();
            waiting.push(transaction);
            if changes >= batch {
                self.batch(std::mem::take(&mut waiting))?;
                changes = 0;
            }
        }
        self.batch(waiting)
    }

    fn batch(&mut self, mut transactions: Vec<Transaction>) -> Result<()> {
        // As `integrate` does: the transactions of one source after those of another.
        transactions.sort_by(|a, b| a.source.cmp(&b.source));
        let memory = std::mem::take(&mut self.memory);
        let mut work = Workspace::with(self.rules, "bench", 1_800_000_000_000_000, memory);
        self.took.batches += 1;
        self.took.changes += transactions.iter().map(|t| t.events.len() as u64).sum::<u64>();
        let started = (self.meter)();
        for transaction in transactions {
            work.take_in(&transaction.source, &transaction.header, transaction.events);
        }
        self.took.fold += (self.meter)() - started;
        for _ in 0..ROUNDS_MAX {
            let started = (self.meter)();
            let needs = work.needs();
            self.took.needs += (self.meter)() - started;
            if needs.is_empty() {
                let started = (self.meter)();
                let outcome;
                (outcome, self.memory) = work.end();
                self.took.finish += (self.meter)() - started;
                self.store.commit(outcome);
                return Ok(());
            }
            self.took.rounds += 1;
            let loaded = self.store.load(&needs);
            let started = (self.meter)();
            work.provide(loaded);
            self.took.provide += (self.meter)() - started;
        }
        bail!("the needs never end")
    }
}
