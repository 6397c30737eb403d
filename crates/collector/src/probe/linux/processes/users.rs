//! User names by number, from `/etc/passwd`.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

/// Read again when the file changes. Users from a directory service are shown by their number: asking
/// such a service can block.
pub(super) struct Users {
    path: PathBuf,
    read_at: Option<SystemTime>,
    names: HashMap<u32, String>,
}

impl Users {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), read_at: None, names: HashMap::new() }
    }

    pub(super) fn name(&mut self, id: u32) -> String {
        let changed_at = fs::metadata(&self.path).and_then(|meta| meta.modified()).ok();
        if changed_at != self.read_at {
            let text = fs::read(&self.path).unwrap_or_default();
            self.names = parse(&String::from_utf8_lossy(&text));
            self.read_at = changed_at;
        }
        self.names.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

fn parse(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(id))) = (fields.next(), fields.nth(1).map(str::parse)) {
            // The first name of a number counts, as for everyone else.
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names_and_unknown_ones_numbers() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("passwd");
        fs::write(&path, "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n#x\n+::::::\n")
            .expect("writable");
        let mut users = Users::new(&path);
        assert_eq!(users.name(0), "root");
        assert_eq!(users.name(1000), "1000");
    }

    #[test]
    fn a_machine_without_the_file_has_numbers() {
        assert_eq!(Users::new("/nowhere").name(7), "7");
    }
}
