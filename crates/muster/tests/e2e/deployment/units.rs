//! The units of systemd.

use std::collections::BTreeMap;
use std::process::Command;

use super::{help, knows_variables, read, root};

const UNITS: [&str; 2] = ["muster", "muster-collector"];

/// Every setting of every section, in order.
fn settings(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
    lines.map(|line| line.split_once('=').expect("a setting")).collect()
}

fn one<'a>(settings: &[(&'a str, &'a str)], key: &str) -> &'a str {
    let found: Vec<&str> = settings.iter().filter(|(k, _)| *k == key).map(|(_, v)| *v).collect();
    assert_eq!(found.len(), 1, "{key}: {found:?}");
    found[0]
}

#[test]
fn a_unit_starts_what_exists_with_settings_that_exist() {
    for name in UNITS {
        let text = read(&format!("deploy/{name}.service"));
        let settings = settings(&text);
        let start: Vec<&str> = one(&settings, "ExecStart").split(' ').collect();
        assert_eq!(start[0], format!("/usr/bin/{name}"));
        help(name, &start[1..]);
        let environment = settings.iter().filter(|(key, _)| *key == "Environment");
        let environment = environment.map(|(_, pair)| pair.split_once('=').expect("NAME=VALUE"));
        let variables: BTreeMap<String, String> =
            environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let role = if name == "muster" { &start[1..2] } else { &[] };
        knows_variables(name, role, &variables);
        // Where it may write is where it is told to.
        let state = format!("/var/lib/{}", one(&settings, "StateDirectory"));
        assert!(variables.values().any(|value| *value == state), "{variables:?}");
        // What it is told, it waits for.
        assert_eq!(one(&settings, "Type"), "notify");
        assert!(one(&settings, "WatchdogSec").parse::<u32>().is_ok_and(|s| s >= 30));
        assert_eq!(one(&settings, "User"), name);
        for (key, value) in [
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("ProtectHome", "read-only"),
            ("PrivateTmp", "yes"),
            ("RestrictNamespaces", "yes"),
            ("CapabilityBoundingSet", ""),
            ("SystemCallArchitectures", "native"),
        ] {
            assert_eq!(one(&settings, key), value, "{name}: {key}");
        }
    }
}

/// systemd's own opinion, where it is installed: unknown settings, values that it would not take.
#[test]
fn systemd_understands_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: there is no systemd-analyze here");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    for name in UNITS {
        let text = read(&format!("deploy/{name}.service"));
        // It looks whether the executable is there, which it is not on a machine that only builds.
        let text = text.replace(&format!("/usr/bin/{name} "), "/bin/true ");
        let path = dir.path().join(format!("{name}.service"));
        std::fs::write(&path, text).expect("written");
        let mut command = Command::new("systemd-analyze");
        let output = command.args(["verify", "--man=no"]).arg(&path).output().expect("runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // It may speak of other units of the machine that it runs on.
        let about_us: Vec<&str> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(about_us.is_empty(), "{said}");
    }
}

#[test]
fn the_settings_that_are_installed_are_accepted() {
    for file in ["deploy/collector.toml", "muster.example.toml"] {
        let mut check = crate::process::muster();
        check.arg("check-config").arg(root().join(file));
        super::output(check);
    }
    // Also those that a person takes the comment sign from.
    let text =
        read("deploy/collector.toml").replace("# token_file", "token_file").replace("# env", "env");
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let token = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(token.path(), "mst_token").expect("written");
    let text = text.replace("/etc/muster/collector.token", &token.path().display().to_string());
    std::fs::write(file.path(), text).expect("written");
    let mut check = crate::process::muster();
    check.arg("check-config").arg(file.path());
    super::output(check);
    let environment = read("deploy/muster.env");
    let pairs = environment.lines().filter(|line| !line.starts_with('#'));
    let pairs = pairs.map(|line| line.split_once('=').expect("NAME=VALUE"));
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    knows_variables("muster", &["up"], &pairs);
}
