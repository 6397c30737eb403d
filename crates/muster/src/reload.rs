//! What the settings file says to collectors takes effect while the server runs: it is looked at again
//! and again, and what changed in `[aggregator.collectors]` goes to every collector over its open stream.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ::aggregator::{Settings, SettingsBoard};
use tokio_util::sync::CancellationToken;

use crate::config;

/// How often the file is looked at, which costs one read of a small file. No watcher can miss an editor
/// that replaces files, or a mounted directory that tells nothing.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Keeps what collectors are asked for in line with `file` until `stop`; `asked` is what the server started
/// with. A file that is missing or wrong changes nothing: what it said before stays in force.
pub(crate) async fn follow(
    file: Option<PathBuf>,
    mut asked: Settings,
    board: SettingsBoard,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(file) = file else {
        stop.cancelled().await;
        return Ok(());
    };
    let mut before = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let path = file.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || std::fs::read(path).ok()).await else {
            continue;
        };
        if before.as_ref() == Some(&now) {
            continue;
        }
        let is_first_look = before.replace(now).is_none();
        let told = collectors(&file).and_then(|settings| {
            let changed = settings != asked;
            if changed {
                board.set_default(settings.clone()).map_err(|problem| {
                    anyhow::anyhow!("{}: aggregator.collectors.{problem}", file.display())
                })?;
                asked = settings;
            }
            Ok(changed)
        });
        match told {
            Ok(true) => {
                tracing::info!(settings = ?asked, "collectors are told the changed settings")
            }
            Ok(false) if is_first_look => {}
            Ok(false) => tracing::info!(
                "the settings file changed; outside of [aggregator.collectors] that takes effect at the next start"
            ),
            Err(error) => tracing::error!(
                %error, "the settings file is not used, what it said to collectors stays in force"
            ),
        }
    }
}

fn collectors(file: &Path) -> anyhow::Result<Settings> {
    Ok(config::read(Some(file))?.aggregator.collectors)
}
