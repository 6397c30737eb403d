//! Layouts, which explain frames. Their names are hashes of their content, so one that was read once is
//! right for ever.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fred::interfaces::KeysInterface as _;
use fred::types::Expiration;
use model::{Kind, Labels, Layout, LayoutId, Series};
use serde::{Deserialize, Serialize};

use super::keys::LAYOUT_TTL_S;
use super::{Redis, corrupt};
use crate::StorageError;

/// Layouts that were read or written, at most [`KNOWN_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Layouts {
    known: Mutex<HashMap<LayoutId, Layout>>,
}

/// When it is full, everything is forgotten and read again.
const KNOWN_MAX: usize = 20_000;

/// One series as it stands in Redis, readable by a person.
#[derive(Serialize, Deserialize)]
struct Written {
    metric: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    kind: WrittenKind,
    unit: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenKind {
    Gauge,
    Counter,
}

impl Layouts {
    pub(crate) fn remember(&self, layout: &Layout) {
        let mut known = self.lock();
        if known.contains_key(&layout.id()) {
            return;
        }
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(layout.id(), layout.clone());
    }

    fn find(&self, id: LayoutId) -> Option<Layout> {
        self.lock().get(&id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LayoutId, Layout>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Redis {
    pub(crate) async fn put_layout(&self, layout: &Layout) -> Result<(), StorageError> {
        let key = self.keys.layout(layout.id());
        let ttl = Some(Expiration::EX(LAYOUT_TTL_S));
        self.call(self.any().set(key, to_json(layout), ttl, None, false)).await
    }

    /// Those of the layouts that are known here or in Redis.
    pub(crate) async fn layouts(
        &self,
        ids: &HashSet<LayoutId>,
    ) -> Result<HashMap<LayoutId, Layout>, StorageError> {
        let mut found = HashMap::with_capacity(ids.len());
        let mut missing = Vec::new();
        for &id in ids {
            match self.layouts.find(id) {
                Some(layout) => _ = found.insert(id, layout),
                None => missing.push(id),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let keys: Vec<String> = missing.iter().map(|id| self.keys.layout(*id)).collect();
        let texts: Vec<Option<String>> = self.call(self.any().mget(keys)).await?;
        for (id, text) in missing.into_iter().zip(texts) {
            let Some(text) = text else { continue };
            let layout = from_json(&text).map_err(|e| corrupt(&format!("layout {id}"), &e))?;
            if layout.id() == id {
                self.layouts.remember(&layout);
                found.insert(id, layout);
            }
        }
        Ok(found)
    }
}

pub(crate) fn to_json(layout: &Layout) -> String {
    let written = layout.series().iter().map(|series| Written {
        metric: series.metric.to_string(),
        labels: series.labels.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        kind: match series.kind {
            Kind::Gauge => WrittenKind::Gauge,
            Kind::Counter => WrittenKind::Counter,
        },
        unit: series.unit.to_string(),
    });
    let written: Vec<Written> = written.collect();
    serde_json::to_string(&written).expect("texts are always JSON")
}

fn from_json(text: &str) -> Result<Layout, String> {
    let written: Vec<Written> = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let series = written.into_iter().map(|one| {
        Ok(Series {
            metric: one.metric.into(),
            labels: Labels::new(one.labels).map_err(|e| e.to_string())?,
            kind: match one.kind {
                WrittenKind::Gauge => Kind::Gauge,
                WrittenKind::Counter => Kind::Counter,
            },
            unit: one.unit.into(),
        })
    });
    Layout::new(series.collect::<Result<_, String>>()?).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_comes_back() {
        let layout = Layout::new(vec![
            Series::gauge("system.cpu.utilization", "1", Labels::of([("cpu.mode", "\"é\"")])),
            Series::counter("system.uptime", "s", Labels::empty()),
        ]);
        let layout = layout.expect("valid");
        let back = from_json(&to_json(&layout)).expect("own text");
        assert_eq!((back.id(), back.series()), (layout.id(), layout.series()));
        assert!(from_json("[]").is_err());
    }
}
