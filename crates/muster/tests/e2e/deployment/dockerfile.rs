//! `Dockerfile` and `.dockerignore`.

use std::collections::BTreeMap;

use super::{executable, help, output, read, root};

/// A stage: what it begins from, and its instructions.
#[derive(Debug, Default)]
pub(super) struct Stage {
    from: String,
    instructions: Vec<(String, String)>,
}

impl Stage {
    fn all<'a>(&'a self, instruction: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.instructions.iter().filter(move |(name, _)| name == instruction);
        named.map(|(_, arguments)| arguments.as_str())
    }

    fn words(&self, instruction: &str) -> Vec<String> {
        let json = self.all(instruction).last().unwrap_or("[]");
        serde_json::from_str(json).expect("the form that needs no shell")
    }
}

/// Stages by name.
pub(super) fn stages() -> BTreeMap<String, Stage> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let (mut stages, mut last) = (BTreeMap::<String, Stage>::new(), String::new());
    for line in
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (instruction, arguments) =
            line.split_once(' ').expect("an instruction and its arguments");
        if instruction == "FROM" {
            let (from, name) = arguments.split_once(" AS ").expect("a stage has a name");
            let stage = Stage { from: from.to_owned(), ..Stage::default() };
            assert!(stages.insert(name.to_owned(), stage).is_none(), "{name} twice");
            name.clone_into(&mut last);
        } else {
            let stage = stages.get_mut(&last).expect("a stage comes first");
            stage.instructions.push((instruction.to_owned(), arguments.trim().to_owned()));
        }
    }
    stages
}

/// The executable and the first words of a target.
pub(super) fn entrypoint(target: &str) -> String {
    let stages = stages();
    let stage =
        stages.get(target).unwrap_or_else(|| panic!("the Dockerfile has no target {target:?}"));
    let words = stage.words("ENTRYPOINT");
    assert_eq!(words.len(), 1, "{target}: {words:?}");
    words[0].clone()
}

#[test]
fn every_stage_begins_from_one_that_exists_or_from_a_plain_image() {
    let stages = stages();
    for (name, stage) in &stages {
        let is_stage = stages.contains_key(&stage.from);
        assert!(is_stage || stage.from.contains(':'), "{name} begins from {:?}", stage.from);
        for copy in stage.all("COPY") {
            if let Some(from) = copy.strip_prefix("--from=") {
                let from = from.split(' ').next().unwrap_or_default();
                assert!(stages.contains_key(from), "{name} copies from {from:?}");
            }
        }
    }
    let toolchain = read("rust-toolchain.toml").parse::<toml::Table>().expect("TOML");
    let channel = toolchain["toolchain"]["channel"].as_str().expect("a version");
    let image = stages["base"].from.clone();
    let version = image.strip_prefix("rust:").and_then(|rest| rest.split('-').next());
    assert!(version.is_some_and(|v| channel.starts_with(v)), "{image} is not of {channel}");
}

#[test]
fn there_is_a_target_for_each_executable_that_runs_it_as_somebody_without_rights() {
    for target in ["muster", "muster-collector"] {
        assert_eq!(entrypoint(target), target);
        let stages = stages();
        let stage = &stages[target];
        let user = stage.all("USER").last().expect("not root");
        let made =
            stages["runtime"].all("RUN").any(|run| run.contains("useradd") && run.ends_with(user));
        assert!(made, "{target}: nobody makes the user {user}");
        let built =
            stage.all("COPY").any(|c| c == format!("--from=build /out/{target} /usr/local/bin/"));
        assert!(built, "{target} is not copied");
        let arguments = stage.words("CMD");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        help(target, &arguments);
        let data =
            stage.all("ENV").next().and_then(|env| env.split_once('=')).expect("a directory");
        let variables = super::variables_of(target, &arguments[..arguments.len().min(1)]);
        assert!(variables.contains(data.0), "{target} knows no {}", data.0);
        assert!(stage.all("RUN").any(|run| run.contains(data.1) && run.contains("--owner=muster")));
    }
    let stages = stages();
    let exposed = stages["muster"].all("EXPOSE").next().expect("ports");
    for (role, port) in ["up", "aggregator", "alerts"].into_iter().zip(exposed.split(' ')) {
        let help = help("muster", &[role]);
        assert!(help.contains(&format!("[default: 127.0.0.1:{port}]")), "{role}: {port}\n{help}");
    }
}

#[test]
fn what_the_build_names_exists_and_is_not_ignored() {
    let packages: Vec<String> = stages()
        .values()
        .flat_map(|stage| {
            let runs: Vec<&str> =
                stage.all("RUN").filter(|run| run.contains("cargo build")).collect();
            let words: Vec<&str> = runs.iter().flat_map(|run| run.split_whitespace()).collect();
            assert!(runs.iter().all(|run| run.contains("--locked")), "{runs:?}");
            let named =
                words.windows(2).filter(|pair| pair[0] == "--package" || pair[0] == "--bin");
            named.map(|pair| format!("{} {}", pair[0], pair[1])).collect::<Vec<_>>()
        })
        .collect();
    assert!(packages.contains(&"--package collector".to_owned()), "{packages:?}");
    for named in packages {
        match named.split_once(' ') {
            Some(("--bin", name)) => drop(output({
                let mut command = executable(name);
                command.arg("--version");
                command
            })),
            Some((_, package)) => {
                assert!(root().join("crates").join(package).is_dir(), "{package}")
            }
            None => panic!("{named}"),
        }
    }
    let ignore = read(".dockerignore");
    let mut lines = ignore.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(
        lines.next(),
        Some("*"),
        "what is not named is left out: secrets, history, `target`"
    );
    let kept: Vec<&str> = lines.filter_map(|line| line.strip_prefix('!')).collect();
    for path in &kept {
        assert!(root().join(path).exists(), "{path} is not there");
    }
    // The workspace, and what sources outside of their own crate are made from.
    for needed in ["Cargo.toml", "Cargo.lock", "crates", "xtask", "proto", "migrations", "web"] {
        assert!(kept.contains(&needed), "{needed} is left out of the build");
    }
}
