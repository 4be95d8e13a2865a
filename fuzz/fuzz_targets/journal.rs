//! A journal whose files were damaged: opening it ends in an error, or in blocks that were
//! appended, from the first on and in order.
//!
//! Input: how many blocks, which of them end a transaction, after which there is a sync; then
//! damages, each a kind, a place and a byte.
#![no_main]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crossdock_state::{BlockMeta, Journal, JournalOptions, LocalJournal, SnapshotFlag};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(([count, ends, syncs], damages)) = data.split_first_chunk::<3>() else { return };
    let folder = tempfile::tempdir().expect("a folder can be made");
    let options = || JournalOptions {
        segment_bytes: 512,
        ..JournalOptions::new(folder.path().join("journal"))
    };
    let mut blocks = Vec::new();
    {
        let journal = LocalJournal::open(options()).expect("a new journal opens");
        for i in 0..u32::from(count % 8) {
            let block = vec![i as u8; 40 + 37 * i as usize];
            let meta = BlockMeta {
                position: format!("0/{i}"),
                boundary: ends >> i & 1 == 1,
                snapshot: SnapshotFlag::Stream,
                commit_micros: 1,
                appended_micros: 2,
                events: 1,
            };
            journal.append(meta, &block).expect("appends");
            if syncs >> i & 1 == 1 {
                journal.sync().expect("syncs");
            }
            blocks.push(block);
        }
    }
    damage(&folder.path().join("journal"), damages);
    // Refused, or true.
    let Ok(journal) = LocalJournal::open(options()) else { return };
    let oldest = journal.oldest_seq();
    let Ok(entries) = journal.read(oldest, usize::MAX) else { return };
    for (i, entry) in entries.iter().enumerate() {
        assert_eq!(entry.seq, oldest + i as u64);
        assert_eq!(Some(&entry.bytes), blocks.get(entry.seq as usize - 1));
    }
});

fn damage(folder: &Path, damages: &[u8]) {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("is there")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some())
        .collect();
    files.sort();
    for chunk in damages.chunks_exact(4).take(16) {
        let [kind, high, low, byte] = *chunk else { return };
        let Some(path) = files.get(usize::from(kind >> 4) % files.len().max(1)) else { return };
        let Ok(file) = OpenOptions::new().write(true).open(path) else { continue };
        let length = file.metadata().map_or(0, |meta| meta.len());
        let at = u64::from(u16::from_be_bytes([high, low])) % length.max(1);
        match kind & 3 {
            0 => file.set_len(at).expect("is cut"),
            1 => drop(fs::remove_file(path)),
            _ => file.write_all_at(&[byte], at).expect("is changed"),
        }
    }
}
