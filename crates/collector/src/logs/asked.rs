//! Log sources that the aggregator asks for, as far as the machine's owner allows it. Pure, but for one look at
//! where an open file truly lies.
//!
//! What is asked must be covered by what is allowed, as a text; and every single file is held against it once
//! more when it is found, by its name and by where it truly is, so that no link leads out of what is allowed.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::config::{AllowConfig, check_glob};
use crate::settings::LogSource;

/// Further ones are refused: each is looked for every second.
const SOURCES_MAX: usize = 64;
const SELECTOR_BYTES_MAX: usize = 1024;

/// What may be read of what was asked for, and why the rest may not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Globs over absolute paths.
    pub(super) files: Vec<String>,
    /// Units of the journal, or globs over them.
    pub(super) units: Vec<String>,
    /// Containers by name, or globs over names.
    pub(super) containers: Vec<String>,
    pub(super) refused: Vec<String>,
}

/// As it was heard last, kept where reading goes on: what was asked for is read on from the first moment of the
/// next life, and what was refused is told once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Heard {
    pub(super) sources: Vec<LogSource>,
    pub(super) refused: Vec<String>,
}

/// Which files of a section may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Whatever its globs lead to: the owner wrote them.
    Open,
    /// What lies where one of these globs leads.
    Paths(Vec<String>),
    /// Of containers whose name matches what was asked and one of what is allowed.
    Containers { asked: String, allowed: Vec<String> },
}

impl Asked {
    pub(super) fn new(sources: &[LogSource], allow: &AllowConfig) -> Self {
        let mut asked = Self::default();
        for (at, source) in sources.iter().enumerate() {
            let problem = match source.kind.as_str() {
                _ if at >= SOURCES_MAX => Some(format!("expected at most {SOURCES_MAX}")),
                "file" => {
                    admit(source, &mut asked.files, "files", &allow.files, |allowed, glob| {
                        covers_path(allowed, glob)
                    })
                }
                "journald" => admit(source, &mut asked.units, "units", &allow.units, covers_name),
                "container" => {
                    let (known, allowed) = (&mut asked.containers, &allow.containers);
                    admit(source, known, "containers", allowed, covers_name)
                }
                _ => Some("expected one of the kinds file, journald, container".to_owned()),
            };
            if let Some(problem) = problem
                && asked.refused.len() <= SOURCES_MAX
            {
                let shown: String = source.selector.chars().take(200).collect();
                let kind: String = source.kind.chars().take(40).collect();
                asked.refused.push(format!("{kind} {shown:?}: {problem}"));
            }
        }
        asked
    }
}

/// Takes a source over, or says why not.
fn admit(
    source: &LogSource,
    known: &mut Vec<String>,
    key: &str,
    allowed: &[String],
    covers: impl Fn(&str, &str) -> bool,
) -> Option<String> {
    let selector = &source.selector;
    if selector.is_empty() || selector.len() > SELECTOR_BYTES_MAX {
        return Some(format!("expected a selector of 1 to {SELECTOR_BYTES_MAX} bytes"));
    }
    if key == "files" {
        if let Err(error) = check_glob("selector", selector) {
            return Some(error.to_string());
        }
        // Each more multiplies the directories that are looked through.
        if selector.matches("**").count() > 1 {
            return Some("expected at most one \"**\"".to_owned());
        }
    }
    if !allowed.iter().any(|allowed| covers(allowed, selector)) {
        return Some(format!("this machine's collector.logs.allow.{key} does not have it"));
    }
    if !known.contains(selector) {
        known.push(selector.clone());
    }
    None
}

/// Whether whatever `asked` matches, `allowed` matches too.
fn covers_name(allowed: &str, asked: &str) -> bool {
    // `?` stands for one character, and must not stand for a star or a set of characters.
    let is_wider = asked.contains(['*', '[', '\\']) && allowed.contains('?');
    let is_other = asked.contains('[');
    allowed == asked || (!is_wider && !is_other && model::glob::matches(allowed, asked))
}

/// As [`covers_name`], name by name; `**` is any directories.
fn covers_path(allowed: &str, asked: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    covers_parts(&parts(allowed), &parts(asked))
}

fn covers_parts(allowed: &[String], asked: &[String]) -> bool {
    match (allowed.split_first(), asked.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            covers_parts(rest, asked)
                || asked.split_first().is_some_and(|(_, asked)| covers_parts(allowed, asked))
        }
        (Some((first, rest)), Some((name, names))) => {
            let is_hidden = name.starts_with('.') && !first.starts_with('.');
            name != "**" && !is_hidden && covers_name(first, name) && covers_parts(rest, names)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

impl Gate {
    pub(super) fn admits(&self, path: &Path, file: &File) -> bool {
        match self {
            Self::Open => true,
            Self::Paths(allowed) => {
                let is_allowed = |path: &Path| {
                    let text = path.to_str();
                    text.is_some_and(|text| allowed.iter().any(|glob| covers_path(glob, text)))
                };
                is_allowed(path) && place_of(path, file).is_some_and(|place| is_allowed(&place))
            }
            Self::Containers { asked, allowed } => {
                let name = super::file::container::of(path).name;
                let matches = |pattern: &String| model::glob::matches(pattern, &name);
                !name.is_empty() && matches(asked) && allowed.iter().any(matches)
            }
        }
    }
}

/// Where an open file lies, whatever links led there. Asked of the file, not of its name: that may have been
/// changed since.
#[cfg(target_os = "linux")]
fn place_of(_: &Path, file: &File) -> Option<PathBuf> {
    use std::os::fd::AsRawFd as _;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

#[cfg(not(target_os = "linux"))]
fn place_of(path: &Path, _: &File) -> Option<PathBuf> {
    path.canonicalize().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(kind: &str, selector: &str) -> LogSource {
        LogSource { kind: kind.to_owned(), selector: selector.to_owned() }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn nothing_is_allowed_unless_the_owner_says_so() {
        let sources = [
            source("file", "/var/log/syslog"),
            source("journald", "ssh.service"),
            source("container", "web"),
            source("syslog", "127.0.0.1:514"),
        ];
        let asked = Asked::new(&sources, &AllowConfig::default());
        assert_eq!(asked.refused.len(), 4);
        assert_eq!(Asked { refused: vec![], ..asked.clone() }, Asked::default());
        assert!(asked.refused[0].contains("collector.logs.allow.files does not have it"));
        assert!(asked.refused[3].contains("expected one of the kinds"));
    }

    #[test]
    fn files_are_allowed_where_a_glob_covers_them() {
        fn check(allowed: &str, asked: &str, expected: bool) {
            let allow = AllowConfig { files: texts(&[allowed]), ..AllowConfig::default() };
            let got = Asked::new(&[source("file", asked)], &allow);
            assert_eq!(!got.files.is_empty(), expected, "{allowed} {asked}: {:?}", got.refused);
        }
        check("/var/log/*.log", "/var/log/app.log", true);
        check("/var/log/*.log", "/var/log/*.log", true);
        check("/var/log/*.log", "/var/log/a*.log", true);
        check("/var/log/*", "/var/log/*.log", true);
        check("/var/log/**", "/var/log/**/*.log", true);
        check("/var/log/**/*.log", "/var/log/a/b/c.log", true);
        check("/var/log/*.log", "/var/log/*", false);
        check("/var/log/*", "/var/log/**", false);
        check("/var/log/*", "/var/log/a/b", false);
        check("/var/log/?.log", "/var/log/*.log", false);
        check("/var/log/*", "/var/log/.secret", false);
        check("/var/log/**", "/var/log/../../etc/shadow", false);
        check("/var/log/**", "/var/**", false);
        check("/var/log/**", "var/log/a", false);
        check("/**", "/a/**/b/**/c", false);
        check("/var/log/*", &format!("/var/log/{}", "x".repeat(2_000)), false);
    }

    #[test]
    fn names_are_allowed_where_a_glob_covers_them() {
        fn check(allowed: &str, asked: &str, expected: bool) {
            let allow = AllowConfig { units: texts(&[allowed]), ..AllowConfig::default() };
            let got = Asked::new(&[source("journald", asked)], &allow);
            assert_eq!(!got.units.is_empty(), expected, "{allowed} {asked}: {:?}", got.refused);
        }
        check("*", "*", true);
        check("*", "nginx.service", true);
        check("nginx*", "nginx-*", true);
        check("nginx.service", "nginx.service", true);
        check("nginx*", "*", false);
        check("shop?", "shop1", true);
        check("shop?", "shop*", false);
        check("*", "shop[12]", false);
        check("nginx*", "", false);
    }

    #[test]
    fn sources_without_end_are_cut() {
        let sources: Vec<_> = (0..1_000).map(|i| source("container", &i.to_string())).collect();
        let allow = AllowConfig { containers: texts(&["*"]), ..AllowConfig::default() };
        let asked = Asked::new(&sources, &allow);
        assert_eq!(asked.containers.len(), SOURCES_MAX);
        assert!(asked.refused.len() <= SOURCES_MAX + 1);
        assert!(asked.refused[0].contains("expected at most 64"), "{:?}", asked.refused);
    }

    #[test]
    fn no_link_leads_out_of_what_is_allowed() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("a place");
        std::fs::create_dir(root.join("log")).expect("made");
        let write = |name: &str| std::fs::write(root.join(name), "x").expect("written");
        write("log/app.log");
        write("secret");
        std::os::unix::fs::symlink(root.join("secret"), root.join("log/link.log")).expect("linked");
        std::os::unix::fs::symlink("app.log", root.join("log/current.log")).expect("linked");
        let gate = Gate::Paths(vec![format!("{}/log/*", root.display())]);
        let admits = |name: &str| {
            let path = root.join(name);
            gate.admits(&path, &File::open(&path).expect("opens"))
        };
        assert!(admits("log/app.log"));
        assert!(admits("log/current.log"), "a link within what is allowed");
        assert!(!admits("log/link.log"));
        assert!(!admits("secret"));
    }
}
