//! What is wrong with a form, at the field that it is wrong with.

use std::collections::BTreeMap;

/// Names of fields as the alert service says them, and as the form does.
pub(super) type Paths = [(&'static str, &'static str)];

/// By the name of the field; what is wrong with the whole is under the empty name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Problems(BTreeMap<&'static str, String>);

impl Problems {
    /// What the alert service refused: `rule.threshold.critical: expected above warning (0.8), found 0.7`.
    pub(super) fn refused(message: &str, within: &str, paths: &Paths) -> Self {
        let (path, problem) = message.split_once(": ").unwrap_or(("", message));
        let name = path.strip_prefix(within).unwrap_or(path);
        let name = name.split('[').next().unwrap_or(name);
        match paths.iter().find(|(path, _)| *path == name) {
            Some((_, field)) => Self([(*field, problem.to_owned())].into()),
            None => Self::whole(message),
        }
    }

    pub(super) fn whole(message: &str) -> Self {
        Self([("", message.to_owned())].into())
    }

    /// Empty when the field is well.
    pub(super) fn of(&self, field: &str) -> &str {
        self.0.get(field).map_or("", String::as_str)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that belong to a field, in the order of their names.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&&'static str, &String)> {
        self.0.iter().filter(|(field, _)| !field.is_empty())
    }

    pub(super) fn note(&mut self, field: &'static str, problem: String) {
        self.0.insert(field, problem);
    }

    /// What was read, or nothing and a note.
    pub(super) fn or_note<T: Default>(
        &mut self,
        field: &'static str,
        read: Result<T, String>,
    ) -> T {
        read.unwrap_or_else(|problem| {
            self.note(field, problem);
            T::default()
        })
    }
}
