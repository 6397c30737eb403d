//! Rules from a file, read again whenever it changes.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::book::{Book, SaveError};
use crate::rule::{File, Spec};
use crate::watch::Command;

/// How often it is looked at. A look costs one read of a small file; no watcher can miss an editor that
/// replaces files, or a mounted directory that tells nothing.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What is wrong with a rules file. Reads `rules.toml:12: rules[2].for: expected …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesError {
    place: String,
    problem: String,
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl std::error::Error for RulesError {}

/// Reads and checks a rules file.
///
/// # Errors
/// The first thing that is wrong, with its line, field, value and what was expected.
pub fn read_rules_file(path: &Path) -> Result<Vec<Spec>, RulesError> {
    let place = path.display().to_string();
    let unreadable = |problem: String| RulesError { place: place.clone(), problem };
    let length = std::fs::metadata(path).map_err(|e| unreadable(format!("cannot be read: {e}")))?;
    if length.len() > FILE_BYTES_MAX {
        return Err(unreadable(format!("is larger than {FILE_BYTES_MAX} bytes")));
    }
    let text =
        std::fs::read_to_string(path).map_err(|e| unreadable(format!("cannot be read: {e}")))?;
    parse(&place, &text)
}

fn parse(path: &str, text: &str) -> Result<Vec<Spec>, RulesError> {
    let at = |offset: usize| {
        let line = text[..text.floor_char_boundary(offset)].matches('\n').count() + 1;
        format!("{path}:{line}")
    };
    let file: File = toml::from_str(text).map_err(|e| RulesError {
        place: at(e.span().map_or(0, |span| span.start)),
        problem: e.message().trim().to_owned(),
    })?;
    let mut specs = Vec::with_capacity(file.rules.len());
    let mut lines: HashMap<&str, String> = HashMap::new();
    for (i, rule) in file.rules.iter().enumerate() {
        let place = at(rule.span().start);
        let document = rule.get_ref();
        let spec = document.to_spec().map_err(|e| RulesError {
            place: place.clone(),
            problem: e.within(&format!("rules[{i}]")).to_string(),
        })?;
        if let Some(first) = lines.insert(&document.name, place.clone()) {
            let name = &document.name;
            let problem =
                format!("rules[{i}].name: {name:?} is the name of the rule at {first} too");
            return Err(RulesError { place, problem });
        }
        specs.push(spec);
    }
    Ok(specs)
}

/// Keeps the rules in force in line with the file.
#[derive(Debug)]
pub(crate) struct RulesFile {
    pub(crate) path: PathBuf,
    pub(crate) book: Book,
    pub(crate) watcher: mpsc::Sender<Command>,
}

impl RulesFile {
    /// A file that is missing or wrong changes nothing: the rules that it held before stay in force, also
    /// across a restart.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut before = None;
        loop {
            let path = self.path.clone();
            let read = tokio::task::spawn_blocking(move || read_rules_file(&path)).await;
            if let Ok(read) = read
                && before.as_ref() != Some(&read)
            {
                match &read {
                    Err(error) => {
                        tracing::error!(%error, "the rules file is not used, what it held before stays in force");
                        before = Some(read);
                    }
                    Ok(specs) => match self.sync(specs).await {
                        Ok(changed) => {
                            tracing::info!(rules = specs.len(), changed, "read the rules file");
                            before = Some(read);
                        }
                        // Looked at again in a moment.
                        Err(error) => tracing::warn!(%error, "failed to take over the rules file"),
                    },
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Returns how many rules were made, changed or deleted.
    async fn sync(&self, specs: &[Spec]) -> Result<usize, SaveError> {
        let actor = format!("file {}", self.path.display());
        let entries = self.book.rules().await?;
        let mut changed = 0;
        for entry in entries.iter().filter(|entry| entry.setting.origin == "file") {
            if specs.iter().all(|spec| spec.name != entry.rule.spec.name) {
                self.book.delete_rule(&entry.rule.id.0, 0, &actor, true).await?;
                changed += 1;
            }
        }
        for spec in specs {
            match entries.iter().find(|entry| entry.rule.spec.name == spec.name) {
                None => _ = self.book.create_rule(spec, "file", &actor).await?,
                // A rule with this name from elsewhere is taken over.
                Some(entry) if entry.rule.spec != *spec || entry.setting.origin != "file" => {
                    self.book.update_rule(&entry.rule.id.0, 0, spec, &actor, true).await?;
                }
                Some(_) => continue,
            }
            changed += 1;
        }
        if changed > 0 {
            let (reply, done) = oneshot::channel();
            if self.watcher.send(Command::Reload(reply)).await.is_ok()
                && let Ok(outcome) = done.await
            {
                outcome?;
            }
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_field() {
        fn check(text: &str, expected: &str) {
            let error = parse("rules.toml", text).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let good = "[[rules]]\nname = 'a'\nmetric = 'm'\nabove = { warning = 1 }\n";
        assert_eq!(parse("rules.toml", good).expect("valid").len(), 1);
        assert!(parse("rules.toml", "").expect("empty is valid").is_empty());
        check("[[rules]\n", "rules.toml:1: ");
        check(&format!("{good}\n[[rules]]\nname = 'b'\nfor = 'five'\n"), "rules.toml:8: ");
        check(
            &format!("{good}\n[[rules]]\nname = 'b'\nmetric = 'm'\n"),
            "rules.toml:6: rules[1].above: ",
        );
        check(
            &format!("{good}\n{good}"),
            "rules.toml:6: rules[1].name: \"a\" is the name of the rule at rules.toml:1",
        );
        check(&format!("{good}colour = 'red'\n"), "rules.toml:5: unknown field");
    }

    #[test]
    fn the_examples_in_the_documentation_are_rules_files() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/alerts.md");
        let page = std::fs::read_to_string(page).expect("the page");
        let examples = page.split("```toml\n").skip(1);
        let examples = examples.map(|example| example.split_once("```").expect("its end").0);
        let rules = examples.map(|example| parse("alerts.md", example).expect("valid").len());
        assert_eq!(rules.collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn a_missing_file_is_told_by_its_name() {
        let error = read_rules_file(Path::new("/nonexistent/rules.toml")).expect_err("missing");
        assert!(error.to_string().starts_with("/nonexistent/rules.toml: cannot be read: "));
    }
}
