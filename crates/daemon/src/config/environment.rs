//! The environment laid over the file.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::error::ConfigError;

/// One variable that is meant for the configuration.
pub(super) struct Setting {
    name: String,
    path: Vec<String>,
    value: String,
}

/// Picks the variables that are configuration, in the order of their names so that the outcome does not
/// depend on the environment's order.
pub(super) fn settings(variables: impl IntoIterator<Item = (String, String)>) -> Vec<Setting> {
    let mut settings: Vec<Setting> = variables
        .into_iter()
        .filter_map(|(name, value)| {
            let path = name.strip_prefix("MUSTER_")?;
            let path: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
            let whole = path.len() > 1 && path.iter().all(|part| !part.is_empty());
            whole.then_some(Setting { name, path, value })
        })
        .collect();
    settings.sort_by(|a, b| a.name.cmp(&b.name));
    settings
}

/// Lays the settings over the table one after the other, each read in the way that the target accepts.
pub(super) fn overlay<T: DeserializeOwned>(
    mut table: Table,
    settings: &[Setting],
) -> Result<T, ConfigError> {
    let mut blamed = None;
    for setting in settings {
        let mut first_refusal = None;
        let readings = setting.readings()?;
        let accepted = readings.iter().find_map(|reading| {
            let mut tried = table.clone();
            put(&mut tried, &reading.path, reading.value.clone());
            match T::deserialize(Value::Table(tried.clone())) {
                Ok(_) => Some(tried),
                Err(error) => {
                    first_refusal.get_or_insert_with(|| setting.refused(reading, &error));
                    None
                }
            }
        });
        match accepted {
            Some(tried) => table = tried,
            // Perhaps it only needs another variable beside it: the end decides.
            None => {
                let plain = &readings[0];
                put(&mut table, &plain.path, plain.value.clone());
                blamed = blamed.or(first_refusal);
            }
        }
    }
    T::deserialize(Value::Table(table))
        .map_err(|error| blamed.unwrap_or_else(|| ConfigError::in_environment(&error)))
}

/// One way to understand a variable.
struct Reading {
    path: Vec<String>,
    value: Value,
    secret: bool,
}

impl Setting {
    fn readings(&self) -> Result<Vec<Reading>, ConfigError> {
        let mut readings = Vec::new();
        if let Some(value) = as_toml(&self.value) {
            readings.push(Reading { path: self.path.clone(), value, secret: false });
        }
        let text = Value::String(self.value.clone());
        readings.push(Reading { path: self.path.clone(), value: text, secret: false });
        if let Some((key, parents)) = self.path.split_last()
            && let Some(key) = key.strip_suffix("_file")
        {
            let content = std::fs::read_to_string(&self.value)
                .map_err(|error| ConfigError::secret_unreadable(&self.name, &self.value, &error))?;
            let path = parents.iter().cloned().chain([key.to_owned()]).collect();
            let value = Value::String(content.trim_end_matches(['\r', '\n']).to_owned());
            readings.push(Reading { path, value, secret: true });
            // The content is what is meant, so its refusal is the one to tell.
            readings.rotate_right(1);
        }
        Ok(readings)
    }

    fn refused(&self, reading: &Reading, error: &toml::de::Error) -> ConfigError {
        ConfigError::in_variable(&self.name, &reading.path.join("."), error, reading.secret)
    }
}

/// The value that `text` is in TOML, unless it is none.
fn as_toml(text: &str) -> Option<Value> {
    let mut table: Table = toml::from_str(&format!("v = {text}")).ok()?;
    // More than one key means that the text itself held a line break and another assignment.
    if table.len() == 1 { table.remove("v") } else { None }
}

fn put(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            table.insert(key.clone(), value);
        }
        [section, rest @ ..] => {
            let entry = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            if let Value::Table(inner) = entry {
                put(inner, rest, value);
            }
        }
    }
}
