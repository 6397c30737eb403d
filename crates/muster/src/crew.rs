//! Tasks that live and die together.

use std::time::Duration;

use anyhow::Context as _;
use daemon::health::Health;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Tasks of one process. The first to end, or the signal, stops them all: stage by stage, so that what
/// feeds others stops before them.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    stages: Vec<Stage>,
}

/// Tasks that are stopped together.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Stage {
    /// Adds a task, made with the token that tells it to stop.
    pub(crate) fn add<F>(&mut self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stop = self.stop.clone();
        let task = task(stop.clone());
        self.tasks.spawn(async move {
            match task.await {
                Ok(()) if !stop.is_cancelled() => Err(anyhow::anyhow!("{name} ended by itself")),
                outcome => outcome.with_context(|| format!("{name} failed")),
            }
        });
    }

    /// Tells the tasks to stop and waits for them. Returns the first failure.
    async fn end(mut self, grace: Duration) -> Option<anyhow::Error> {
        self.stop.cancel();
        let deadline = Instant::now() + grace;
        let mut failure = None;
        loop {
            match tokio::time::timeout_at(deadline, self.tasks.join_next()).await {
                Ok(Some(ended)) => failure = failure.or(flatten(ended).err()),
                Ok(None) => return failure,
                Err(_) => {
                    tracing::warn!(tasks = self.tasks.len(), "not everything stopped in time");
                    self.tasks.shutdown().await;
                    return failure;
                }
            }
        }
    }
}

impl Crew {
    /// Adds a stage, stopped after those added before.
    pub(crate) fn stage(&mut self) -> &mut Stage {
        self.stages.push(Stage::default());
        let last = self.stages.len() - 1;
        &mut self.stages[last]
    }

    /// Runs until `shutdown` or the end of any task; then stops every stage, each within `grace`.
    ///
    /// # Errors
    /// The first failure of a task. Ending without being told to is one.
    pub(crate) async fn run(
        mut self,
        shutdown: CancellationToken,
        health: &Health,
        grace: Duration,
    ) -> anyhow::Result<()> {
        daemon::systemd::ready();
        let attending = tokio::spawn(daemon::systemd::attend(shutdown.clone()));
        let mut failure = tokio::select! {
            () = shutdown.cancelled() => None,
            ended = first_end(&mut self.stages) => ended.err(),
        };
        health.stop();
        for stage in self.stages {
            let late = stage.end(grace).await;
            failure = failure.or(late);
        }
        attending.abort();
        failure.map_or(Ok(()), Err)
    }
}

/// The end of whichever task ends first.
async fn first_end(stages: &mut [Stage]) -> anyhow::Result<()> {
    std::future::poll_fn(|context| {
        for stage in stages.iter_mut() {
            if let std::task::Poll::Ready(Some(ended)) = stage.tasks.poll_join_next(context) {
                return std::task::Poll::Ready(flatten(ended));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

fn flatten(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Result<()> {
    ended.unwrap_or_else(|panic| Err(panic.into()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const GRACE: Duration = Duration::from_secs(1);

    /// A crew of two stages whose tasks write down when they stop.
    fn crew(log: &Arc<Mutex<Vec<&'static str>>>) -> Crew {
        let mut crew = Crew::default();
        for name in ["source", "sink"] {
            let log = Arc::clone(log);
            crew.stage().add(name, |stop| async move {
                stop.cancelled().await;
                tokio::time::sleep(Duration::from_millis(5)).await;
                log.lock().expect("no panic").push(name);
                Ok(())
            });
        }
        crew
    }

    #[tokio::test]
    async fn a_signal_stops_the_stages_in_order() {
        let (log, shutdown) = (Arc::default(), CancellationToken::new());
        shutdown.cancel();
        crew(&log).run(shutdown, &Health::new("test"), GRACE).await.expect("ends well");
        assert_eq!(*log.lock().expect("no panic"), ["source", "sink"]);
    }

    #[tokio::test]
    async fn the_first_to_fail_stops_the_others_and_is_named() {
        let log = Arc::default();
        let mut crew = crew(&log);
        crew.stage().add("writer", async |_| Err(anyhow::anyhow!("disk full")));
        let ended = crew.run(CancellationToken::new(), &Health::new("test"), GRACE).await;
        assert_eq!(format!("{:#}", ended.expect_err("fails")), "writer failed: disk full");
        assert_eq!(*log.lock().expect("no panic"), ["source", "sink"]);
    }

    #[tokio::test]
    async fn ending_without_being_told_is_a_failure() {
        let mut crew = Crew::default();
        crew.stage().add("idler", async |_| Ok(()));
        let ended = crew.run(CancellationToken::new(), &Health::new("test"), GRACE).await;
        assert_eq!(ended.expect_err("fails").to_string(), "idler ended by itself");
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_left_behind_after_the_grace_period() {
        let mut crew = Crew::default();
        crew.stage().add("deaf", async |_| std::future::pending().await);
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let health = Health::new("test");
        let run = crew.run(shutdown, &health, Duration::from_millis(20));
        tokio::time::timeout(GRACE, run).await.expect("in time").expect("ends well");
    }
}
