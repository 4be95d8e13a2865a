//! The only retry loop. Runs a stage for ever: starts it, waits before starting it again after an
//! error, and lets operators stop it for a moment to move its progress.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::board::{StageState, StageStatus};
use crate::stage::StageError;

const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// A definite error is tried again this often, so that mending its cause is all that is needed.
const DEFINITE_RETRY: Duration = Duration::from_secs(20);
/// A stage that ran this long without an error starts again at `RETRY_MIN`.
const SETTLED: Duration = Duration::from_secs(30);

/// Work that is done while a stage stands still.
type Job = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Lets others stop a stage for a moment.
#[derive(Clone)]
pub struct Handle {
    jobs: mpsc::Sender<Job>,
}

impl Handle {
    /// Stops the stage, runs `work`, starts the stage again, and returns what `work` returned.
    /// `None` when the supervisor has ended.
    pub async fn while_stopped<T, F, W>(&self, work: W) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
        W: FnOnce() -> F + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move || {
            Box::pin(async move {
                // The asker may have gone away; the work is done all the same.
                let _ = answer.send(work().await);
            })
        });
        self.jobs.send(job).await.ok()?;
        result.await.ok()
    }
}

/// The receiving end of a [`Handle`].
pub struct Jobs(mpsc::Receiver<Job>);

/// Makes the pair.
pub fn handle() -> (Handle, Jobs) {
    let (jobs, receiver) = mpsc::channel(1);
    (Handle { jobs }, Jobs(receiver))
}

/// A pass over a stage: runs until it fails.
pub trait Stage: Send {
    /// Runs the stage's loop of `pipeline`.
    fn run(&mut self) -> impl Future<Output = Result<Infallible, StageError>> + Send;
}

/// Runs `stage` for ever; returns only with a fatal error.
pub async fn supervise(
    name: String,
    mut stage: impl Stage,
    status: &StageStatus,
    mut jobs: Jobs,
) -> StageError {
    let mut backoff = RETRY_MIN;
    loop {
        let started = Instant::now();
        status.set(StageState::Starting, None);
        let failed = tokio::select! {
            Err(failed) = stage.run() => failed,
            Some(job) = jobs.0.recv() => {
                // The stage's future is gone: whatever it was doing is committed or not, and it
                // asks for its progress when it starts again.
                job().await;
                continue;
            }
        };
        if started.elapsed() > SETTLED {
            backoff = RETRY_MIN;
        }
        let pause = match &failed {
            StageError::Transient(cause) => {
                let pause = jitter(backoff);
                warn!(
                    stage = name,
                    cause = format!("{cause:#}"),
                    ?pause,
                    "interrupted, will go on"
                );
                status.set(StageState::Retrying, Some(failed.to_string()));
                backoff = (backoff * 2).min(RETRY_MAX);
                pause
            }
            StageError::Definite(cause) | StageError::Gap(cause) => {
                if status.set(StageState::Blocked, Some(failed.to_string())) {
                    error!(stage = name, cause = format!("{cause:#}"), "stopped, needs a person");
                }
                DEFINITE_RETRY
            }
            StageError::Fatal(cause) => {
                error!(stage = name, cause = format!("{cause:#}"), "cannot go on");
                status.set(StageState::Blocked, Some(failed.to_string()));
                return failed;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Some(job) = jobs.0.recv() => {
                info!(stage = name, "moved by an operator");
                job().await;
            }
        }
    }
}

fn jitter(base: Duration) -> Duration {
    base.mul_f64(rand::rng().random_range(0.5..1.5))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    struct Flaky {
        runs: Arc<AtomicU32>,
        fail_until: u32,
    }

    impl Stage for Flaky {
        async fn run(&mut self) -> Result<Infallible, StageError> {
            let run = self.runs.fetch_add(1, Ordering::SeqCst);
            match run < self.fail_until {
                true => Err(StageError::Transient(anyhow::anyhow!("lost"))),
                false => Err(StageError::Fatal(anyhow::anyhow!("done"))),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn transient_errors_are_retried_and_fatal_ones_end_it() {
        let runs = Arc::new(AtomicU32::new(0));
        let stage = Flaky { runs: runs.clone(), fail_until: 5 };
        let (_handle, jobs) = handle();
        let status = StageStatus::default();
        let end = supervise("test".into(), stage, &status, jobs).await;
        assert!(matches!(end, StageError::Fatal(_)));
        assert_eq!(runs.load(Ordering::SeqCst), 6);
        assert_eq!(status.error().as_deref(), Some("done"));
    }

    struct Endless;

    impl Stage for Endless {
        async fn run(&mut self) -> Result<Infallible, StageError> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_running_stage_stands_still_for_an_operator() {
        let (handle, jobs) = handle();
        let status = StageStatus::default();
        let running =
            tokio::spawn(async move { supervise("test".into(), Endless, &status, jobs).await });
        assert_eq!(handle.while_stopped(|| async { 7 }).await, Some(7));
        running.abort();
    }
}
