//! How fast the journal takes blocks: 1 M events of 300 bytes in blocks of 1,000, a sync each.
//!
//! `cargo run --release -p crossdock-state --example journal_speed [EVENTS]`

use std::time::Instant;

use crossdock_state::{BlockMeta, Journal, JournalOptions, LocalJournal, SnapshotFlag};

const EVENT_BYTES: usize = 300;
const BLOCK_EVENTS: u32 = 1_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let events: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let dir = tempfile::tempdir_in(".")?;
    let journal = LocalJournal::open(JournalOptions::new(dir.path()))?;
    let block: Vec<u8> =
        (0..EVENT_BYTES * BLOCK_EVENTS as usize).map(|i| (i * 31 % 251) as u8).collect();
    let blocks = events / u64::from(BLOCK_EVENTS);
    let mut times = Vec::with_capacity(usize::try_from(blocks)?);
    let begun = Instant::now();
    for n in 0..blocks {
        let at = Instant::now();
        let meta = BlockMeta {
            position: format!("0/{n:X}"),
            boundary: true,
            snapshot: SnapshotFlag::Stream,
            commit_micros: 0,
            appended_micros: 0,
            events: BLOCK_EVENTS,
        };
        journal.append(meta, &block)?;
        journal.sync()?;
        times.push(at.elapsed());
    }
    let seconds = begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let percentile = |p: usize| times.get(times.len() * p / 100).copied().unwrap_or_default();
    println!("append  {:>10.0} events/s  {:.2} s", events as f64 / seconds, seconds);
    println!("        p50 {:?}  p99 {:?} a block", percentile(50), percentile(99));

    let begun = Instant::now();
    let (mut from, mut read) = (1, 0);
    while from < journal.next_seq() {
        for entry in journal.read(from, 4 << 20)? {
            read += u64::from(entry.meta.events);
            from = entry.seq + 1;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("read    {:>10.0} events/s  {:.2} s", read as f64 / seconds, seconds);

    drop(journal);
    let begun = Instant::now();
    LocalJournal::open(JournalOptions::new(dir.path()))?;
    println!("open    {:?}", begun.elapsed());
    Ok(())
}
