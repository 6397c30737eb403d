//! What must hold beside the tests.

use std::process::Command;

use anyhow::{Result, bail};

use crate::shell;

/// What the small collector executable must not contain.
const NOT_IN_THE_COLLECTOR: [&str; 7] =
    ["askama", "axum", "fred", "libsqlite3-sys", "sqlx", "sqlx-core", "tonic-reflection"];

/// Rules may name crates that are yet to come, and a second version of a crate is looked at, not forbidden.
const RULES: [&str; 9] = [
    "deny",
    "--all-features",
    "check",
    "--hide-inclusion-graph",
    "--allow",
    "unused-wrapper",
    "bans",
    "licenses",
    "sources",
];

/// Cheap ones first.
pub(crate) fn all() -> Result<()> {
    shell::cargo(["fmt", "--all", "--check"])?;
    the_collector_stays_small()?;
    dependency_rules()?;
    let lints = ["clippy", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    shell::cargo(lints)?;
    // The collector alone has fewer features than the workspace, so it is also looked at alone.
    shell::cargo(["clippy", "--locked", "--package", "collector", "--", "--deny", "warnings"])?;
    let mut docs = shell::command_cargo(["doc", "--locked", "--workspace", "--no-deps"]);
    // The readers of these pages read the source too, and a wire comment may say `<hex>`.
    const ALLOWED: &str =
        "--allow rustdoc::private-intra-doc-links --allow rustdoc::invalid-html-tags";
    docs.env("RUSTDOCFLAGS", format!("--deny warnings {ALLOWED}"));
    shell::run(docs)
}

fn the_collector_stays_small() -> Result<()> {
    let args = ["tree", "--locked", "--package=collector", "--edges=normal", "--prefix=none"];
    let tree = shell::read(shell::command_cargo(args))?;
    let linked = tree.lines().filter_map(|line| line.split_whitespace().next());
    let mut unwanted: Vec<&str> =
        linked.filter(|name| NOT_IN_THE_COLLECTOR.contains(name)).collect();
    unwanted.sort_unstable();
    unwanted.dedup();
    if !unwanted.is_empty() {
        let why =
            unwanted.iter().map(|name| format!("cargo tree -p collector -e normal -i {name}"));
        let why = why.collect::<Vec<_>>().join("\n      ");
        bail!("muster-collector must not link {}\nhint: {why}", unwanted.join(", "));
    }
    Ok(())
}

/// Who may depend on whom, licences and known vulnerabilities: `deny.toml`.
fn dependency_rules() -> Result<()> {
    if !shell::succeeds(Command::new("cargo").args(["deny", "--version"])) {
        shell::cargo(["install", "--locked", "cargo-deny"])?;
    }
    shell::cargo(RULES)?;
    // The database of vulnerabilities is fetched first, so that "unreachable" is not taken for "unsafe".
    if shell::succeeds(&mut shell::command_cargo(["deny", "fetch", "db"])) {
        shell::cargo(["deny", "--all-features", "check", "--disable-fetch", "advisories"])
    } else {
        eprintln!("note: the advisory database is unreachable: advisories are not checked");
        Ok(())
    }
}
