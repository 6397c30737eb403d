//! `deploy/install.sh`, run as it is, below a directory of its own.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use super::{output, root};
use crate::process::MUSTER;

fn install(args: &[&str], binary: &Path, to: &Path) -> Output {
    let (what, options) = args.split_first().expect("what to install");
    let mut command = Command::new("sh");
    command.arg(root().join("deploy/install.sh")).arg(what);
    command.arg("--binary").arg(binary).arg("--root").arg(to).args(options);
    command.output().expect("a shell")
}

fn installs(args: &[&str], binary: &Path, to: &Path) -> String {
    let done = install(args, binary, to);
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{errors}");
    String::from_utf8_lossy(&done.stdout).into_owned() + errors.as_str()
}

/// Every file with its mode, its content and when it was written.
fn files(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let about = std::fs::metadata(&path).expect("a file");
            let content = std::fs::read(&path).expect("a file");
            let mode = about.permissions().mode() & 0o777;
            found.insert(path, (mode, content, about.modified().expect("a time")));
        }
    }
    found
}

#[test]
fn a_second_run_changes_nothing_and_settings_stay_as_they_are() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (to, token) = (dir.path().join("root"), dir.path().join("token"));
    std::fs::write(&token, "mst_secret\n").expect("written");
    let token = token.to_str().expect("utf-8");
    let args = ["collector", "--aggregator", "http://hub.example:7070", "--token-file", token];
    // Any file will do for what is copied; this one also runs.
    let binary = Path::new(MUSTER);
    let said = installs(&args, binary, &to);
    assert!(said.contains("installed"), "{said}");
    let before = files(&to);
    let at = |path: &str| before.get(&to.join(path)).unwrap_or_else(|| panic!("no {path}"));
    assert_eq!(at("usr/bin/muster-collector").0, 0o755);
    assert_eq!(at("etc/systemd/system/muster-collector.service").0, 0o644);
    assert_eq!(at("etc/muster/collector.token").0, 0o640, "a secret is not for everybody");
    assert_eq!(before.len(), 4, "{:?}", before.keys());

    let said = installs(&args, binary, &to);
    assert!(!said.contains("installed") && !said.contains("note:"), "{said}");
    assert_eq!(files(&to), before, "a second run writes nothing");

    // What it wrote is what a collector reads; the token is looked for where it will be.
    let settings = to.join("etc/muster/collector.toml");
    let text = std::fs::read_to_string(&settings).expect("settings");
    assert!(text.contains("aggregators = [\"http://hub.example:7070\"]"), "{text}");
    let here = text.replace(
        "/etc/muster/collector.token",
        &to.join("etc/muster/collector.token").display().to_string(),
    );
    assert_ne!(here, text, "the token is named");
    std::fs::write(&settings, here + "team = \"a\"\n").expect("written");
    let mut check = Command::new(to.join("usr/bin/muster-collector"));
    check.arg("check-config").arg(&settings);
    output(check);

    // A new executable is installed, the settings are the person's, and what they miss is said.
    let newer = dir.path().join("newer");
    std::fs::write(&newer, "another").expect("written");
    let edited = std::fs::read(&settings).expect("settings");
    let said = installs(&["collector", "--aggregator", "http://other:7070"], &newer, &to);
    assert!(
        said.contains("installed") && said.contains("http://other:7070 is not in it"),
        "{said}"
    );
    assert_eq!(std::fs::read(&settings).expect("settings"), edited);
    assert_eq!(std::fs::read(to.join("usr/bin/muster-collector")).expect("there"), b"another");
}

#[test]
fn a_server_is_installed_where_it_should_listen() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for listen in ["10.0.0.5:7070", "10.0.0.6:7070"] {
        installs(&["server", "--listen", listen], Path::new(MUSTER), dir.path());
        // Chosen once; after that it is a setting like the others.
        let environment = std::fs::read_to_string(dir.path().join("etc/muster/muster.env"));
        let environment = environment.expect("written");
        assert!(environment.contains("\nMUSTER_LISTEN=10.0.0.5:7070\n"), "{environment}");
    }
    let mut check = Command::new(dir.path().join("usr/bin/muster"));
    check.arg("check-config").arg(dir.path().join("etc/muster/muster.toml"));
    output(check);
}

#[test]
fn what_is_missing_is_said_before_anything_is_written() {
    fn refused(args: &[&str], binary: &str, expected: &str) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let done = install(args, Path::new(binary), dir.path());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(expected), "{args:?}: {said}");
        assert!(files(dir.path()).is_empty(), "{args:?}");
    }
    refused(&["collector"], MUSTER, "error: --aggregator is missing\nhint: ");
    refused(&["collector", "--aggregator", "http://a:1"], "/nonexistent", "hint: build it with");
    refused(&["collector", "--aggregator"], "x", "--aggregator: a value is missing");
    let token = ["collector", "--aggregator", "http://a:1", "--token-file", "/nonexistent"];
    refused(&token, MUSTER, "--token-file: there is no file /nonexistent");
    refused(&["server", "--aggregator", "http://a:1"], MUSTER, "are for collectors");
    refused(&["server", "--lisen", "x"], MUSTER, "there is no option --lisen");
    refused(&["dashboard"], MUSTER, "Usage: install.sh");
}
