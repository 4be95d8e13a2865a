//! The canonical store while it commits one batch, the next is put into its form, and the one after
//! it is judged. Judging and committing take the same time, about; one after the other they would
//! leave a processor idle.

use std::collections::VecDeque;

use crossdock_apply::store::{PreparedCommit, Presence};
use crossdock_apply::{ApplyError, ConnectOptions, PostgresStore, Progress};
use crossdock_canonical::Memory;
use crossdock_model::canonical::{Loaded, Needs, Outcome};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::StageError;
use crate::crash_points::pass;

/// So many batches may be on their way: one that is being committed, and one that waits for it. What
/// judging remembers is made for as many.
const ON_THEIR_WAY_MAX: usize = 2;

/// Two connections to the store, and what is known of it.
pub struct OverlappedStore {
    /// Answers what judging asks. Does not see batches that are on their way.
    pub reader: PostgresStore,
    writer: Writer,
    /// Batches in the order in which they are committed.
    on_their_way: VecDeque<JoinHandle<Result<Committed, StageError>>>,
    /// What the batches so far have learned, those on their way included.
    pub memory: Memory,
    /// Which keys are in the store, or on their way there.
    presence: Presence,
}

/// The connection that writes.
enum Writer {
    Here(Box<PostgresStore>),
    /// The last batch gives it when it is committed. When it has failed, nobody does.
    Coming(oneshot::Receiver<Box<PostgresStore>>),
}

/// A batch that is in the store.
pub struct Committed {
    /// What it came to.
    pub outcome: Outcome,
    /// How far it has brought the sources.
    pub progress: Vec<Progress>,
}

impl OverlappedStore {
    /// Takes the place of the only writer, and a second connection beside it.
    pub async fn open(options: &ConnectOptions, installation: &str) -> Result<Self, ApplyError> {
        let writer = PostgresStore::open(options, installation).await?;
        let mut reader = PostgresStore::open_reader(options).await?;
        let presence = Presence::read(&mut reader).await?;
        let memory = Memory::default();
        let (writer, on_their_way) = (Writer::Here(Box::new(writer)), VecDeque::new());
        Ok(Self { reader, writer, on_their_way, memory, presence })
    }

    /// The connection that writes, while nothing is on its way.
    pub fn writer(&mut self) -> Result<&mut PostgresStore, StageError> {
        if let Writer::Coming(coming) = &mut self.writer {
            self.writer = Writer::Here(coming.try_recv().map_err(|_| gone())?);
        }
        match &mut self.writer {
            Writer::Here(writer) => Ok(writer),
            Writer::Coming(_) => Err(gone()),
        }
    }

    /// What the store has of what judging asks for.
    pub async fn load(&mut self, needs: &Needs) -> Result<Loaded, ApplyError> {
        let asked = self.presence.asked(needs);
        match asked.is_empty() {
            true => Ok(Loaded::default()),
            false => self.reader.load_asked(&asked).await,
        }
    }

    /// Forgets what is known of the store, because something else than a batch will be written.
    pub fn forget(&mut self) {
        self.memory = Memory::default();
        self.presence = Presence::default();
    }

    /// Finds out again which keys are in the store.
    pub async fn look_again(&mut self) -> Result<(), ApplyError> {
        self.presence = Presence::read(&mut self.reader).await?;
        Ok(())
    }

    /// Whether one of the batches on their way must be settled before the next one can begin.
    pub fn is_full(&self) -> bool {
        self.on_their_way.len() >= ON_THEIR_WAY_MAX
    }

    /// Commits a batch once those before it are in the store; when one of them fails, it is not.
    pub fn begin(&mut self, batch: Committed, ruleset: &str) {
        let ruleset = ruleset.to_string();
        self.presence.put(&batch.outcome);
        let (done, next) = oneshot::channel();
        let writer = std::mem::replace(&mut self.writer, Writer::Coming(next));
        self.on_their_way.push_back(tokio::spawn(async move {
            let writer = commit(writer, &batch, &ruleset).await?;
            // Nobody waits for it when the stage has ended.
            let _ = done.send(writer);
            Ok(batch)
        }));
    }

    /// Waits for the first of the batches on their way, if there is one.
    pub async fn settle(&mut self) -> Result<Option<Committed>, StageError> {
        let Some(first) = self.on_their_way.front_mut() else { return Ok(None) };
        let ended = first.await;
        self.on_their_way.pop_front();
        let done = ended.map_err(|e| {
            StageError::Fatal(anyhow::anyhow!("committing a batch ended early: {e}"))
        })?;
        done.map(Some)
    }
}

async fn commit(
    writer: Writer,
    batch: &Committed,
    ruleset: &str,
) -> Result<Box<PostgresStore>, StageError> {
    let prepared = PreparedCommit::of(&batch.outcome, &batch.progress, ruleset);
    let mut writer = match writer {
        Writer::Here(writer) => writer,
        Writer::Coming(coming) => coming.await.map_err(|_| gone())?,
    };
    pass("integrate.before_commit");
    writer.commit_prepared(&prepared).await?;
    pass("integrate.after_commit");
    Ok(writer)
}

fn gone() -> StageError {
    StageError::Fatal(anyhow::anyhow!("a batch was to be committed before the one before was"))
}
