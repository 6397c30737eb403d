//! `docker-compose.yml` and `.env.example`.

use std::collections::{BTreeMap, BTreeSet};

use yaml_rust2::{Yaml, YamlLoader};

use super::{dockerfile, help, knows_variables, read};

/// What a person might fill in.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn file() -> Yaml {
    let mut documents = YamlLoader::load_from_str(&read("docker-compose.yml")).expect("YAML");
    assert_eq!(documents.len(), 1);
    merged(&documents.remove(0))
}

/// With what `<<` names laid below what stands beside it.
fn merged(yaml: &Yaml) -> Yaml {
    match yaml {
        Yaml::Array(items) => Yaml::Array(items.iter().map(merged).collect()),
        Yaml::Hash(hash) => {
            let merge = Yaml::String("<<".into());
            let mut out = yaml_rust2::yaml::Hash::new();
            if let Some(below) = hash.get(&merge) {
                let Yaml::Hash(below) = merged(below) else { panic!("<<: expected a map") };
                out.extend(below);
            }
            for (key, value) in hash.iter().filter(|(key, _)| **key != merge) {
                out.insert(key.clone(), merged(value));
            }
            Yaml::Hash(out)
        }
        other => other.clone(),
    }
}

/// A service, with questions that the tests ask of it.
struct Service {
    name: String,
    yaml: Yaml,
}

impl Service {
    fn text(&self, key: &str) -> Option<&str> {
        self.yaml[key].as_str()
    }

    fn list(&self, key: &str) -> Vec<String> {
        match &self.yaml[key] {
            Yaml::Array(items) => {
                items.iter().map(|item| item.as_str().expect("text").into()).collect()
            }
            Yaml::Hash(hash) => hash.keys().map(|key| key.as_str().expect("text").into()).collect(),
            _ => Vec::new(),
        }
    }

    /// As the process gets it.
    fn environment(&self) -> BTreeMap<String, String> {
        let Yaml::Hash(hash) = &self.yaml["environment"] else { return BTreeMap::new() };
        let text = |yaml: &Yaml| yaml.as_str().map(filled).expect("text");
        hash.iter().map(|(key, value)| (text(key), text(value))).collect()
    }

    /// The executable that it is built with; `None` for an image of others.
    fn executable(&self) -> Option<String> {
        let target = self.yaml["build"]["target"].as_str()?;
        Some(dockerfile::entrypoint(target))
    }

    /// Names under which others reach it.
    fn names(&self) -> Vec<String> {
        let mut names = vec![self.name.clone()];
        if let Yaml::Hash(networks) = &self.yaml["networks"] {
            let aliases =
                networks.values().filter_map(|network| network["aliases"].as_vec()).flatten();
            names.extend(aliases.filter_map(|alias| alias.as_str().map(str::to_owned)));
        }
        names
    }

    /// Where it listens.
    fn port(&self) -> Option<u16> {
        match self.name.as_str() {
            "timescaledb" => Some(5432),
            "redis" => Some(6379),
            _ => self.environment().get("MUSTER_LISTEN")?.rsplit(':').next()?.parse().ok(),
        }
    }
}

fn services() -> Vec<Service> {
    let Yaml::Hash(services) = &file()["services"] else { panic!("no services") };
    let service = |(name, yaml): (&Yaml, &Yaml)| Service {
        name: name.as_str().expect("text").to_owned(),
        yaml: yaml.clone(),
    };
    services.iter().map(service).collect()
}

/// Every `${NAME:?…}` and `${NAME:-…}` of a text, with what follows the name.
fn references(text: &str) -> Vec<(&str, &str)> {
    let parts = text.split("${").skip(1).map(|rest| rest.split_once('}').expect("closed").0);
    let named = parts.map(|part| part.split_at(part.find(':').expect("says what without it")));
    named.collect()
}

/// As Docker fills it in, when secrets are given and nothing else.
fn filled(text: &str) -> String {
    let mut out = text.replace("$$", "$");
    for (name, rest) in references(text) {
        // Each another one, as they have to be.
        let secret = format!("{SECRET}{name}");
        let value = rest.strip_prefix(":-").unwrap_or(&secret);
        out = out.replace(&format!("${{{name}{rest}}}"), value);
    }
    out
}

#[test]
fn every_service_is_checked_bounded_and_without_rights_that_it_does_not_need() {
    for service in services() {
        let name = &service.name;
        // Does its work once and ends.
        let is_migration = name == "migrate";
        let restart = if is_migration { "no" } else { "unless-stopped" };
        assert_eq!(service.text("restart"), Some(restart), "{name}");
        assert_eq!(service.yaml["read_only"].as_bool(), Some(true), "{name}");
        assert_eq!(service.list("cap_drop"), ["ALL"], "{name}");
        assert!(service.list("security_opt").contains(&"no-new-privileges:true".into()), "{name}");
        assert!(service.yaml["privileged"].is_badvalue(), "{name}");
        for limit in ["mem_limit", "cpus", "pids_limit"] {
            assert!(!service.yaml[limit].is_badvalue(), "{name} has no {limit}");
        }
        // The one that watches the host, and listens on nothing.
        let is_collector = name == "collector";
        assert_eq!(service.text("user") == Some("root"), is_collector, "{name}");
        let is_unchecked = is_collector || is_migration;
        assert_eq!(service.yaml["healthcheck"].is_badvalue(), is_unchecked, "{name}");
        assert_eq!(service.text("network_mode").is_some(), is_collector, "{name}");
        assert_eq!(
            service.list("ports").is_empty(),
            !matches!(service.port(), Some(7070 | 7071)),
            "{name}"
        );
    }
}

#[test]
fn every_command_flag_variable_and_setting_exists() {
    let mut ours = BTreeSet::new();
    for service in services() {
        let Some(executable) = service.executable() else { continue };
        let command = service.list("command");
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        help(&executable, &command);
        knows_variables(&executable, &command, &service.environment());
        ours.insert(command.first().map_or(executable.clone(), |role| role.to_string()));
        let check = service.yaml["healthcheck"]["test"].as_vec();
        if let Some(check) = check {
            let words: Vec<&str> = check.iter().filter_map(Yaml::as_str).collect();
            let ["CMD", program, args @ ..] = &words[..] else { panic!("{words:?}") };
            help(program, args);
            let port = service.port().expect("it listens");
            assert!(args.contains(&format!("http://127.0.0.1:{port}").as_str()), "{words:?}");
        }
    }
    let expected = ["aggregator", "alerts", "gateway", "migrate", "muster-collector"];
    assert!(expected.iter().all(|role| ours.contains(*role)), "{ours:?}");
}

#[test]
fn aggregators_start_on_a_schema_that_is_up_to_date() {
    let services = services();
    for aggregator in services.iter().filter(|s| s.list("command") == ["aggregator"]) {
        let how = aggregator.yaml["depends_on"]["migrate"]["condition"].as_str();
        assert_eq!(how, Some("service_completed_successfully"), "{}", aggregator.name);
    }
}

#[test]
fn whoever_is_waited_for_reached_or_mounted_is_there() {
    let (file, services) = (file(), services());
    let declared = |what: &str| -> BTreeSet<String> {
        let Yaml::Hash(hash) = &file[what] else { return BTreeSet::new() };
        hash.keys().map(|key| key.as_str().expect("text").to_owned()).collect()
    };
    let (mut volumes, mut networks, mut ports) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for service in &services {
        let name = &service.name;
        if let Yaml::Hash(waits) = &service.yaml["depends_on"] {
            for (other, how) in waits {
                let other = other.as_str().expect("text");
                let other = services.iter().find(|s| s.name == other).expect(other);
                match how["condition"].as_str() {
                    Some("service_healthy") => assert!(!other.yaml["healthcheck"].is_badvalue()),
                    Some("service_completed_successfully") => {
                        assert_eq!(other.text("restart"), Some("no"))
                    }
                    how => panic!("{name} waits for {} in the way {how:?}", other.name),
                }
                // One that is in no profile cannot wait for one that may not be started.
                assert!(other.list("profiles").is_empty() || !service.list("profiles").is_empty());
            }
        }
        networks.extend(service.list("networks"));
        for volume in service.list("volumes") {
            let (from, to) = volume.split_once(':').expect("from and to");
            if !from.starts_with('/') {
                assert!(volumes.insert(from.to_owned()), "{from} is mounted twice");
                let place = to.to_owned();
                let known = service.environment().values().any(|v| *v == place);
                assert!(known || name == "timescaledb", "{name} keeps nothing in {place}");
            }
        }
        for port in service.list("ports") {
            let port = filled(&port);
            let (outside, inside) = port.rsplit_once(':').expect("outside and inside");
            assert!(outside.starts_with("127.0.0.1:"), "{name}: {outside} is open to everybody");
            assert!(ports.insert(outside.to_owned()), "{outside} is taken twice");
            assert_eq!(inside.parse().ok(), service.port(), "{name}");
        }
        for (variable, value) in service.environment() {
            for url in value.split(',').filter_map(|value| value.split_once("://")) {
                let authority = url.1.rsplit_once('@').map_or(url.1, |(_, rest)| rest);
                let (host, port) = authority.split_once(':').expect("a host and a port");
                let port: u16 =
                    port.split('/').next().and_then(|p| p.parse().ok()).expect("a port");
                if host == "127.0.0.1" {
                    let outside = format!("127.0.0.1:{port}");
                    let published = services.iter().flat_map(|s| s.list("ports"));
                    let mut published = published.map(|p| filled(&p));
                    assert!(
                        published.any(|p| p.starts_with(&outside)),
                        "{name} {variable}: {outside}"
                    );
                    continue;
                }
                let other = services.iter().find(|s| s.names().contains(&host.to_owned()));
                let other =
                    other.unwrap_or_else(|| panic!("{name} {variable}: nobody is called {host}"));
                assert_eq!(other.port(), Some(port), "{name} {variable}");
                let (ours, theirs) = (service.list("networks"), other.list("networks"));
                assert!(ours.iter().any(|n| theirs.contains(n)), "{name} cannot reach {host}");
            }
        }
    }
    assert_eq!(volumes, declared("volumes"));
    assert_eq!(networks, declared("networks"));
}

#[test]
fn no_secret_stands_in_the_file_and_what_is_filled_in_is_in_the_example() {
    let text = read("docker-compose.yml");
    let code: Vec<&str> = text.lines().filter(|line| !line.trim().starts_with('#')).collect();
    for line in &code {
        let is_secret =
            ["PASSWORD", "TOKEN", "_AUTH:", "URL:"].iter().any(|word| line.contains(word));
        assert!(!is_secret || line.contains(":?see .env.example}"), "{line}");
    }
    let code = code.join("\n");
    let used: BTreeSet<&str> = references(&code).into_iter().map(|(name, _)| name).collect();
    let example = read(".env.example");
    let mut offered = BTreeSet::new();
    for line in example.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.split_once('=').expect("NAME=VALUE");
        offered.insert(name);
        for (_, without) in references(&code).into_iter().filter(|(used, _)| *used == name) {
            match without.strip_prefix(":-") {
                Some(default) => {
                    assert_eq!(value, default, "{name}: the example shows the default")
                }
                None => assert_eq!(value, "", "{name} is a secret"),
            }
        }
    }
    assert_eq!(used, offered);
    assert!(
        read(".gitignore").lines().any(|line| line == "/.env"),
        "a filled-in file must stay out"
    );
}
