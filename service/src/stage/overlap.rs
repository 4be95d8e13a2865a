//! The canonical store while it commits one batch and the next one is judged. Both take the same
//! time, about; one after the other they would leave a processor idle.

use crossdock_apply::store::Presence;
use crossdock_apply::{ApplyError, CanonicalStore, ConnectOptions, PostgresStore, Progress};
use crossdock_canonical::Memory;
use crossdock_model::canonical::{Loaded, Needs, Outcome};
use tokio::task::JoinHandle;

use super::StageError;
use crate::crash_points::pass;

/// Two connections to the store, and what is known of it.
pub struct OverlappedStore {
    /// Answers what judging asks. Does not see the batch that is being committed.
    pub reader: PostgresStore,
    /// `None` while it is committing, and after it has failed.
    writer: Option<PostgresStore>,
    committing: Option<JoinHandle<(PostgresStore, Result<Committed, ApplyError>)>>,
    /// What the batches so far have learned, the one that is being committed included.
    pub memory: Memory,
    /// Which keys are in the store, or on their way there.
    presence: Presence,
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
        Ok(Self { reader, writer: Some(writer), committing: None, memory, presence })
    }

    /// The connection that writes, while nothing is being committed.
    pub fn writer(&mut self) -> Result<&mut PostgresStore, StageError> {
        self.writer.as_mut().ok_or_else(gone)
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

    /// Begins to commit a batch. The one before must have been settled.
    pub fn begin(&mut self, batch: Committed, ruleset: &str) -> Result<(), StageError> {
        let mut writer = self.writer.take().ok_or_else(gone)?;
        let ruleset = ruleset.to_string();
        self.presence.put(&batch.outcome);
        self.committing = Some(tokio::spawn(async move {
            pass("integrate.before_commit");
            let done = writer.commit(&batch.outcome, &batch.progress, &ruleset).await;
            if done.is_ok() {
                pass("integrate.after_commit");
            }
            (writer, done.map(|()| batch))
        }));
        Ok(())
    }

    /// Waits for the batch that is being committed, if there is one.
    pub async fn settle(&mut self) -> Result<Option<Committed>, StageError> {
        let Some(committing) = &mut self.committing else { return Ok(None) };
        let ended = committing.await;
        self.committing = None;
        let (writer, done) = ended.map_err(|e| {
            StageError::Fatal(anyhow::anyhow!("committing a batch ended early: {e}"))
        })?;
        self.writer = Some(writer);
        Ok(Some(done?))
    }
}

fn gone() -> StageError {
    StageError::Fatal(anyhow::anyhow!("a batch was to be committed before the one before was"))
}
