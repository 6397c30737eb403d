//! Whose output a file is, by where the engine put it.

use std::path::Path;

use serde::Deserialize;

#[derive(Debug, PartialEq, Eq)]
pub(in crate::logs) struct Container {
    pub(in crate::logs) id: String,
    /// The engine's name for it; the beginning of its id when that is not known.
    pub(in crate::logs) name: String,
}

/// What Docker keeps beside the log.
#[derive(Deserialize)]
struct Docker {
    #[serde(rename = "Name")]
    name: String,
}

/// The container that writes `path`: its directory has the id as its name, with Podman one level up.
pub(in crate::logs) fn of(path: &Path) -> Container {
    let names = path.ancestors().skip(1).filter_map(|dir| dir.file_name()?.to_str());
    let is_id = |name: &&str| name.len() >= 12 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let id = names.take(2).find(is_id).unwrap_or_default().to_owned();
    let config = path.with_file_name("config.v2.json");
    let docker: Option<Docker> =
        std::fs::read(config).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let name = docker.map(|docker| docker.name.trim_start_matches('/').to_owned());
    let name = name.filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| id[..id.len().min(12)].to_owned());
    Container { id, name }
}
