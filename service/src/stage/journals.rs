//! Reading the journals of all sources as whole transactions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossdock_apply::Progress;
use crossdock_capture::{CopyMessage, MESSAGE_PREFIX, Purpose};
use crossdock_model::block::Fragment;
use crossdock_model::canonical::Name;
use crossdock_model::{ChangeEvent, Position, TableName, TxHeader, block};
use crossdock_state::{Journal, LocalJournal};
use futures_util::future::{FutureExt, select_all};

use super::StageError;

/// How long progress over blocks without content may wait for company. Where the transaction that
/// commits it is in the log of a server that is captured, it makes the next such block: committed
/// at once, each would be followed by another, for ever.
const PROGRESS_ALONE_AFTER: Duration = Duration::from_mins(5);

/// How far a consumer has come with one source's journal.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// Source.
    pub source: Name,
    /// Last block consumed; 0 for none.
    pub seq: u64,
    /// How much is read at once.
    pub step: Step,
}

impl Cursor {
    /// After a block.
    pub fn new(source: &Name, seq: u64) -> Self {
        Self { source: source.clone(), seq, step: Step::Batch }
    }
}

/// How much of a journal is read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// As much as makes a good batch.
    Batch,
    /// Single blocks, each to the end of its transactions.
    Block,
    /// Nothing: its changes wait.
    Halted,
}

/// One whole transaction.
pub type Transaction = (TxHeader, Vec<ChangeEvent>);

/// Whole transactions of one source and the progress that consuming them makes.
pub struct Run {
    /// Source.
    pub source: Name,
    /// Transactions in the order of the log.
    pub transactions: Vec<Transaction>,
    /// Where the consumer is after them.
    pub progress: Progress,
    /// Tables that were read again after a gap: what was not seen since is gone. Such a run is
    /// one block, and everything before it has been handed over.
    pub resynced: Vec<Resynced>,
    /// The last transaction goes on after these blocks: it is too large to be read at once.
    pub open: bool,
}

/// Progress that nothing else is to be committed with, since when it waits.
#[derive(Default)]
pub struct Lone(Option<Instant>);

impl Lone {
    /// Whether what was read is to be committed, or may wait for what is read next.
    pub fn may_wait(&mut self, has_content: bool, now: Instant) -> bool {
        let since = *self.0.get_or_insert(now);
        !has_content && now.saturating_duration_since(since) < PROGRESS_ALONE_AFTER
    }
}

/// A table of which all rows have been read again.
#[derive(Clone, Debug)]
pub struct Resynced {
    /// Table.
    pub table: TableName,
    /// Where the stream was when reading began.
    pub since: Position,
    /// The place at which rows that were not seen since are deleted.
    pub header: TxHeader,
}

/// The journal of every source.
#[derive(Clone)]
pub struct Journals(BTreeMap<Name, Arc<LocalJournal>>);

impl Journals {
    /// Journals by source.
    pub fn new(journals: BTreeMap<Name, Arc<LocalJournal>>) -> Self {
        Self(journals)
    }

    /// The journal of a source.
    pub fn get(&self, source: &str) -> Option<&Arc<LocalJournal>> {
        self.0.get(source)
    }

    /// Sources and their journals.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Arc<LocalJournal>)> {
        self.0.iter()
    }

    /// Waits until a source has blocks after its cursor, then reads from every source that has,
    /// about `bytes_max` from each. A transaction that spans blocks is read to its end, as long as
    /// that takes about `whole_max` bytes at most.
    pub async fn next_runs(
        &self,
        cursors: &[Cursor],
        bytes_max: usize,
        whole_max: usize,
    ) -> Result<Vec<Run>, StageError> {
        self.wait(cursors).await?;
        let mut runs = Vec::new();
        for cursor in cursors {
            let bytes_max = match cursor.step {
                Step::Batch => bytes_max,
                Step::Block => 1,
                Step::Halted => continue,
            };
            if let Some(journal) = self.0.get(&cursor.source) {
                runs.extend(read_run(journal, cursor, (bytes_max, whole_max))?);
            }
        }
        Ok(runs)
    }

    /// Whether a source has blocks after its cursor.
    pub fn have_more(&self, cursors: &[Cursor]) -> bool {
        self.wait(cursors).now_or_never().is_some()
    }

    /// Waits until a source has blocks after its cursor.
    pub async fn wait(&self, cursors: &[Cursor]) -> Result<(), StageError> {
        let waits: Vec<_> = cursors
            .iter()
            .filter(|cursor| cursor.step != Step::Halted)
            .filter_map(|cursor| {
                let mut visible = self.0.get(&cursor.source)?.visible();
                let seq = cursor.seq;
                Some(Box::pin(async move { visible.wait_for(|v| *v > seq).await.is_ok() }))
            })
            .collect();
        if waits.is_empty() {
            return std::future::pending().await;
        }
        let (alive, ..) = select_all(waits).await;
        match alive {
            true => Ok(()),
            false => Err(StageError::Fatal(anyhow::anyhow!("a journal was closed"))),
        }
    }
}

/// Reads transactions after the cursor: whole ones, but for a last one that is too large for that.
/// One that was begun by an earlier run goes on.
fn read_run(
    journal: &LocalJournal,
    cursor: &Cursor,
    (bytes_max, whole_max): (usize, usize),
) -> Result<Option<Run>, StageError> {
    let mut transactions: Vec<Transaction> = Vec::new();
    let mut resynced = Vec::new();
    let mut open = false;
    let mut seq = cursor.seq;
    let mut last = None;
    let mut bytes = 0;
    'run: while last.is_none() || (open && bytes < whole_max) {
        let entries = journal.read(seq + 1, bytes_max)?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            let fragments = block::decode(&entry.bytes)?;
            let ended: Vec<Resynced> = fragments.iter().flat_map(resyncs).collect();
            if !ended.is_empty() && last.is_some() {
                break 'run;
            }
            resynced.extend(ended);
            for fragment in fragments {
                match transactions.last_mut() {
                    Some((_, events)) if open && !fragment.first => events.extend(fragment.events),
                    _ => transactions.push((fragment.header, fragment.events)),
                }
                open = !fragment.last;
            }
            seq = entry.seq;
            bytes += entry.bytes.len();
            last = Some((entry.seq, entry.meta));
            if !resynced.is_empty() && !open {
                break 'run;
            }
        }
    }
    let Some((seq, meta)) = last else { return Ok(None) };
    let progress = Progress {
        source: cursor.source.clone(),
        seq,
        position: meta.position,
        commit_micros: meta.commit_micros,
    };
    Ok(Some(Run { source: cursor.source.clone(), transactions, progress, resynced, open }))
}

/// Tables that were read again whole, as the reader's own messages say.
fn resyncs(fragment: &Fragment) -> Vec<Resynced> {
    let messages = fragment.events.iter().filter_map(|event| event.message.as_ref());
    let ours = messages.filter(|(prefix, _)| prefix == MESSAGE_PREFIX);
    let read = ours.filter_map(|(_, content)| serde_json::from_slice(content).ok());
    read.filter_map(|message| match message {
        CopyMessage::Copied { table, purpose: Purpose::Resync, filter: None, since } => {
            Some(Resynced { table, since, header: fragment.header.clone() })
        }
        CopyMessage::Copied { .. } => None,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_alone_waits_for_content_but_not_for_ever() {
        let start = Instant::now();
        let almost = PROGRESS_ALONE_AFTER - Duration::from_millis(1);
        let mut lone = Lone::default();
        assert!(lone.may_wait(false, start));
        assert!(lone.may_wait(false, start + almost));
        assert!(!lone.may_wait(true, start + almost));
        assert!(!lone.may_wait(false, start + PROGRESS_ALONE_AFTER));
        assert!(!Lone::default().may_wait(true, start));
    }
}
