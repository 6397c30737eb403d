//! What is read as time goes by: what the machine's owner wants, and what the aggregator asks for within that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use model::{Labels, LogEvent, Severity, UnixMillis};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::LogBatch;
use super::asked::{Asked, Heard};
use super::config::{LogsConfig, Plan};
use crate::CollectorStats;
use crate::settings::Settings;
use crate::spool::Bookmark;

/// Name of the bookmark that says what was heard last.
const SOURCE: &str = "asked";
/// Who speaks of what was refused.
const SERVICE: &str = "muster-collector";

#[derive(Debug)]
pub(super) struct Planner {
    config: LogsConfig,
    heard: Heard,
    plans: watch::Sender<Plan>,
    stats: Arc<CollectorStats>,
}

impl Planner {
    /// Plans with what was heard in an earlier life: the aggregator may be away.
    pub(super) fn new(
        config: LogsConfig,
        places: &BTreeMap<String, String>,
        stats: Arc<CollectorStats>,
    ) -> Self {
        let heard = places.get(SOURCE).and_then(|heard| serde_json::from_str(heard).ok());
        let heard: Heard = heard.unwrap_or_default();
        // The owner may have changed his mind since.
        let asked = Asked::new(&heard.sources, &config.allow);
        stats.set_log_sources_refused(asked.refused.len() as u64);
        let plans = watch::Sender::new(config.plan(&asked));
        Self { config, heard, plans, stats }
    }

    pub(super) fn plans(&self) -> watch::Receiver<Plan> {
        self.plans.subscribe()
    }

    /// Plans anew whenever the aggregator asks for something else, until `stop` is cancelled.
    pub(super) async fn run(
        mut self,
        mut settings: watch::Receiver<Settings>,
        sender: mpsc::Sender<LogBatch>,
        stop: CancellationToken,
    ) {
        let planning = async {
            loop {
                let sources = settings.borrow_and_update().log_sources.clone();
                if let Some(sources) = sources {
                    let asked = Asked::new(&sources, &self.config.allow);
                    let heard = Heard { sources, refused: asked.refused.clone() };
                    // Kept before it is followed: after a kill, whatever was begun goes on.
                    if heard != self.heard && sender.send(self.note(heard)).await.is_err() {
                        return;
                    }
                    self.plans.send_if_modified(|plan| {
                        let new = self.config.plan(&asked);
                        let is_new = *plan != new;
                        *plan = new;
                        is_new
                    });
                }
                if settings.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = planning => {}
        }
    }

    /// Remembers what was heard, and tells what of it is refused, where people look for what was logged.
    fn note(&mut self, heard: Heard) -> LogBatch {
        self.stats.set_log_sources_refused(heard.refused.len() as u64);
        let now = UnixMillis::from(SystemTime::now());
        let is_news = |refused: &&String| !self.heard.refused.contains(refused);
        let events = heard.refused.iter().filter(is_news).map(|refused| {
            tracing::warn!(%refused, "a log source that the aggregator asks for is not read");
            notice(refused, now)
        });
        let events = events.collect();
        let place = serde_json::to_string(&heard).ok();
        self.heard = heard;
        let bookmarks = vec![Bookmark { source: SOURCE.to_owned(), place }];
        LogBatch { events, bookmarks, kept: None }
    }
}

fn notice(refused: &str, now: UnixMillis) -> LogEvent {
    LogEvent {
        time: now,
        severity: Severity::new(13).unwrap_or_default(),
        service: SERVICE.to_owned(),
        body: format!("a log source that the server asks for is not read here: {refused}"),
        body_truncated: false,
        attributes: Labels::empty(),
        source: "collector".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::config::AllowConfig;
    use super::*;
    use crate::settings::LogSource;

    #[tokio::test]
    async fn what_is_asked_for_is_kept_told_and_planned_again_in_the_next_life() {
        let allow = AllowConfig { files: vec!["/var/log/*".to_owned()], ..AllowConfig::default() };
        let config = LogsConfig { allow, ..LogsConfig::default() };
        let stats = Arc::new(CollectorStats::default());
        let planner = Planner::new(config.clone(), &BTreeMap::new(), Arc::clone(&stats));
        let mut plans = planner.plans();
        assert_eq!(plans.borrow_and_update().sections.len(), 0);
        let (asked, settings) = watch::channel(Settings::own(Duration::from_secs(1)));
        let (sender, mut batches) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let running = tokio::spawn(planner.run(settings, sender, stop.clone()));
        let source =
            |selector: &str| LogSource { kind: "file".to_owned(), selector: selector.to_owned() };
        let sources = vec![source("/var/log/app.log"), source("/etc/shadow")];
        asked.send_modify(|settings| settings.log_sources = Some(sources));
        plans.changed().await.expect("it runs");
        let batch = batches.recv().await.expect("it runs");
        let [event] = batch.events.as_slice() else { panic!("{batch:?}") };
        assert!(
            event.body.contains(r#"file "/etc/shadow": this machine's collector.logs.allow.files"#)
        );
        assert_eq!(stats.log_sources_refused(), 1);
        let sections = plans.borrow_and_update().sections.clone();
        assert_eq!(sections.len(), 1);
        assert_eq!(sections[0].files.include, ["/var/log/app.log"]);

        // Heard again, word for word, after a reconnect: nothing to tell.
        asked.send_modify(|settings| settings.interval = Some(Duration::from_secs(2)));
        let place = batch.bookmarks[0].place.clone().expect("kept");
        let places = BTreeMap::from([(batch.bookmarks[0].source.clone(), place)]);
        let again = Planner::new(config.clone(), &places, Arc::clone(&stats));
        assert_eq!(again.plans().borrow().sections, sections);
        let settings = asked.subscribe();
        let (sender, mut quiet) = mpsc::channel(4);
        asked.send_modify(|settings| settings.log_sources = Some(Vec::new()));
        let mut plans = again.plans();
        let other = tokio::spawn(again.run(settings, sender, stop.clone()));
        plans.changed().await.expect("it runs");
        assert_eq!(plans.borrow().sections, []);
        assert_eq!(quiet.recv().await.expect("it runs").events, []);
        assert_eq!(stats.log_sources_refused(), 0);

        // What the owner no longer allows is not read from the first moment on.
        let strict = Planner::new(LogsConfig::default(), &places, stats);
        assert_eq!(strict.plans().borrow().sections, []);
        stop.cancel();
        running.await.expect("no panic");
        other.await.expect("no panic");
    }
}
