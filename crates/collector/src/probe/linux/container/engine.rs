//! What a Docker-compatible engine says about its containers: names, images, restarts, health.
//!
//! A few `GET` requests on its Unix socket, nothing else: who may use that socket is root on the
//! machine, so this only ever reads.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

const ANSWER_WITHIN: Duration = Duration::from_secs(3);
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Containers that are asked for one by one in one reading; further ones the next time.
const INSPECTIONS_MAX: usize = 20;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) image: String,
    /// Absent without a health check.
    pub(super) health: Option<Health>,
    /// Absent until asked for.
    pub(super) restarts: Option<u64>,
}

impl Facts {
    /// What stays true while the container lives.
    pub(super) fn without_state(&self) -> Self {
        Self { name: self.name.clone(), image: self.image.clone(), health: None, restarts: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Starting,
    Healthy,
    Unhealthy,
}

impl Health {
    pub(super) fn value(self) -> f64 {
        match self {
            Self::Starting => f64::NAN,
            Self::Healthy => 1.0,
            Self::Unhealthy => 0.0,
        }
    }
}

pub(super) struct Engine {
    sockets: Vec<PathBuf>,
    /// Made when there is a socket to talk to.
    runtime: Option<Runtime>,
    /// Restarts by container, and the first process at the time they were asked for.
    restarts: HashMap<String, (Option<u32>, u64)>,
    /// Why the engine gave no answer the last time, to log it once.
    trouble: Option<String>,
}

impl Engine {
    pub(super) fn new(sockets: Vec<PathBuf>) -> Self {
        Self { sockets, runtime: None, restarts: HashMap::new(), trouble: None }
    }

    /// Facts about running containers by full id. Empty without an engine, or when it does not answer:
    /// the containers are measured all the same. `known` are those that were found, with their first
    /// process, which changes when the engine restarts one.
    pub(super) fn facts(&mut self, known: Vec<(&str, Option<u32>)>) -> HashMap<String, Facts> {
        let Some(socket) = self.sockets.iter().find(|path| path.exists()).cloned() else {
            return HashMap::new();
        };
        if known.is_empty() {
            return HashMap::new();
        }
        match self.ask(&socket, &known) {
            Ok(facts) => {
                if self.trouble.take().is_some() {
                    tracing::info!(socket = %socket.display(), "container engine answers again");
                }
                facts
            }
            Err(error) => {
                let error = format!("{error:#}");
                if self.trouble.as_ref() != Some(&error) {
                    tracing::warn!(socket = %socket.display(), %error, "container engine gives no names");
                    self.trouble = Some(error);
                }
                HashMap::new()
            }
        }
    }

    fn ask(
        &mut self,
        socket: &Path,
        known: &[(&str, Option<u32>)],
    ) -> anyhow::Result<HashMap<String, Facts>> {
        let listed: Vec<Listed> = self.get(socket, "/containers/json")?;
        let mut facts: HashMap<_, _> = listed.into_iter().map(Listed::into_facts).collect();
        self.restarts.retain(|id, _| known.iter().any(|(known, _)| known == id));
        let mut inspections = 0;
        for &(id, pid) in known {
            let Some(facts) = facts.get_mut(id) else {
                continue;
            };
            let current = self.restarts.get(id).is_some_and(|(asked_for, _)| *asked_for == pid);
            if !current && inspections < INSPECTIONS_MAX {
                inspections += 1;
                // It may be gone since it was listed.
                if let Ok(one) = self.get::<Inspected>(socket, &format!("/containers/{id}/json")) {
                    self.restarts.insert(id.to_owned(), (pid, one.restart_count));
                }
            }
            facts.restarts = self.restarts.get(id).map(|(_, count)| *count);
        }
        Ok(facts)
    }

    fn get<T: DeserializeOwned>(&mut self, socket: &Path, path: &str) -> anyhow::Result<T> {
        let runtime = match &self.runtime {
            Some(runtime) => runtime,
            None => self.runtime.insert(
                tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?,
            ),
        };
        let body = runtime
            .block_on(async { tokio::time::timeout(ANSWER_WITHIN, get(socket, path)).await })
            .with_context(|| format!("no answer within {} s", ANSWER_WITHIN.as_secs()))??;
        serde_json::from_slice(&body).with_context(|| format!("cannot read the answer to {path}"))
    }
}

async fn get(socket: &Path, path: &str) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(socket).await.context("cannot connect")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::get(path)
        .header(hyper::header::HOST, "localhost")
        .header(hyper::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        anyhow::ensure!(status.is_success(), "{path} answers {status}");
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok(body.map_err(|error| anyhow::anyhow!(error))?.to_bytes())
    };
    // The connection moves only while it is polled; it may end before the answer is taken apart.
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended?;
            answer.await
        }
    }
}

/// One element of `GET /containers/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default, deserialize_with = "null_is_default")]
    names: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    image: String,
    /// For people: "Up 2 hours (healthy)".
    #[serde(default, deserialize_with = "null_is_default")]
    status: String,
}

/// `GET /containers/<id>/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(default)]
    restart_count: u64,
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Listed {
    fn into_facts(self) -> (String, Facts) {
        let name = self.names.iter().map(|name| name.trim_start_matches('/'));
        // Links add names with a further slash; the container's own has none.
        let own = name.clone().find(|name| !name.contains('/')).or_else(|| name.clone().next());
        let health = match &self.status {
            status if status.contains("(healthy)") => Some(Health::Healthy),
            status if status.contains("(unhealthy)") => Some(Health::Unhealthy),
            status if status.contains("(health: starting)") || status.contains("(starting)") => {
                Some(Health::Starting)
            }
            _ => None,
        };
        let facts = Facts {
            name: own.unwrap_or_default().to_owned(),
            image: self.image,
            health,
            restarts: None,
        };
        (self.id, facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = include_str!("../../../../fixtures/docker/containers.json");
    const PODMAN: &str = include_str!("../../../../fixtures/podman/containers.json");

    fn facts(json: &str) -> Vec<Facts> {
        let listed: Vec<Listed> = serde_json::from_str(json).expect("parses");
        listed.into_iter().map(|one| one.into_facts().1).collect()
    }

    fn fact(name: &str, image: &str, health: Option<Health>) -> Facts {
        Facts { name: name.into(), image: image.into(), health, restarts: None }
    }

    #[test]
    fn docker_gives_names_images_and_health() {
        let expected = [
            fact("web", "nginx:1.27", Some(Health::Healthy)),
            fact("db", "postgres:17", Some(Health::Unhealthy)),
            fact("job", "sha256:9f1c", None),
            fact("new", "redis:8", Some(Health::Starting)),
        ];
        assert_eq!(facts(DOCKER), expected);
    }

    #[test]
    fn podman_answers_the_same_question_with_nulls() {
        assert_eq!(facts(PODMAN), [fact("quay", "quay.io/podman/hello:latest", None)]);
    }

    #[test]
    fn restarts_come_from_the_answer_about_one() {
        let one = include_str!("../../../../fixtures/docker/inspect.json");
        assert_eq!(serde_json::from_str::<Inspected>(one).expect("parses").restart_count, 3);
    }
}
