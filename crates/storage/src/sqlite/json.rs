//! JSON in the database: label sets, so that a person can read and query them, and lists of parameters.

use std::collections::BTreeMap;

use model::Labels;
use serde::Serialize;

use super::STORE;
use crate::StorageError;

/// For `json_each`: one parameter instead of one for each entry.
pub(crate) fn list_to_json(list: &[impl Serialize]) -> String {
    serde_json::to_string(list).expect("a list of numbers and texts is always JSON")
}

/// Keys sorted: equal sets have equal texts.
pub(crate) fn labels_to_json(labels: &Labels) -> String {
    let map: BTreeMap<&str, &str> = labels.iter().collect();
    serde_json::to_string(&map).expect("a map of texts is always JSON")
}

pub(crate) fn labels_from_json(json: &str) -> Result<Labels, StorageError> {
    let corrupt = |reason: String| StorageError::Corrupt { store: STORE, reason };
    let map: BTreeMap<String, String> =
        serde_json::from_str(json).map_err(|e| corrupt(format!("labels {json:?}: {e}")))?;
    Labels::new(map).map_err(|e| corrupt(format!("labels {json:?}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_back() {
        let labels = Labels::of([("b", "\"quoted\" \u{1F600}"), ("a", "1")]);
        let json = labels_to_json(&labels);
        assert_eq!(json, "{\"a\":\"1\",\"b\":\"\\\"quoted\\\" \u{1F600}\"}");
        assert_eq!(labels_from_json(&json).expect("own text"), labels);
        assert!(labels_from_json("[]").is_err());
        assert!(labels_from_json("{\"a b\":\"1\"}").is_err());
    }
}
