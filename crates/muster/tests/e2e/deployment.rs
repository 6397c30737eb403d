//! The files that people deploy with say nothing that is not there: every service, port, variable, command and
//! flag in them exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;

mod compose;
mod dockerfile;
mod install;
mod packages;
mod units;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The executable of this name, as it was built for the tests.
fn executable(name: &str) -> Command {
    match name {
        "muster" => process::muster(),
        "muster-collector" => process::collector(),
        other => panic!("there is no executable {other:?}"),
    }
}

fn output(mut command: Command) -> String {
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

/// What `--help` says of a command line. A flag that does not exist is an error before that is said.
fn help(name: &str, args: &[&str]) -> String {
    let mut command = executable(name);
    command.args(args).arg("--help");
    output(command)
}

/// The variables that stand for a flag of a command.
fn variables_of(name: &str, args: &[&str]) -> BTreeSet<String> {
    let help = help(name, args);
    let names = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    names.map(str::to_owned).collect()
}

/// Every variable is a flag's of that command, or a setting that its configuration has, with a value that is
/// accepted.
fn knows_variables(name: &str, args: &[&str], variables: &BTreeMap<String, String>) {
    let flags = variables_of(name, args);
    assert!(flags.contains("MUSTER_CONFIG"), "{name} {args:?}: no variables found in {flags:?}");
    let empty = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut check = process::muster();
    check.arg("check-config").arg(empty.path());
    for (variable, value) in
        variables.iter().filter(|(variable, _)| variable.starts_with("MUSTER_"))
    {
        match variable["MUSTER_".len()..].contains("__") {
            true => drop(check.env(variable, value)),
            false => {
                assert!(flags.contains(variable), "{name} {args:?} knows no {variable}: {flags:?}")
            }
        }
    }
    output(check);
}
