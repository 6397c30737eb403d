//! Every command that the README shows does what it says.

use std::path::{Path, PathBuf};

use crate::cluster::{Cluster, PATIENCE, machines};
use crate::eventually::eventually;
use crate::{grpcurl, process};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Lines of the fenced `sh` blocks, without their comments.
fn commands() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("README.md")).expect("a README");
    let mut inside = false;
    let mut commands = Vec::new();
    for line in text.lines() {
        match line.trim() {
            "```sh" => inside = true,
            "```" => inside = false,
            command if inside && !command.is_empty() => {
                let command = command.split("  #").next().unwrap_or(command).trim();
                commands.push(command.to_owned());
            }
            _ => {}
        }
    }
    commands
}

/// Splits as a shell does, as far as the README goes: blanks, and quotes around whole words.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in command.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') if word.is_empty() => {}
            (None, ' ') => words.push(std::mem::take(&mut word)),
            (_, c) => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_works() {
    let cluster = Cluster::aggregator().await;
    let _collector = cluster.collector("web-1", &cluster.url());
    let address = crate::cluster::free_address();
    let mut gateway = process::muster();
    gateway.args(["gateway", "--listen", &address.to_string(), "--aggregator", &cluster.url()]);
    let _gateway = process::Process::start("gateway", cluster.dir(), gateway);
    let channel = cluster.channel().await;
    let host = eventually(PATIENCE, || async {
        let known = machines(channel.clone()).await.into_iter().next();
        known.filter(|m| m.headline.is_some()).map(|m| m.host_name).ok_or("no machine".to_owned())
    })
    .await;
    // The REST answers come from the gateway, gRPC from the aggregator; `muster up` is both.
    eventually(PATIENCE, || async {
        let port = tokio::net::TcpStream::connect(address).await;
        port.map(drop).map_err(|error| error.to_string())
    })
    .await;

    let commands = commands();
    assert!(commands.len() >= 10, "found only {commands:?}");
    for command in commands {
        eprintln!("$ {command}");
        // The README's machine and port are those of the reader's own server.
        let words = words(&command.replace("web-1", &host));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["cargo", "run", "--release", "--", ref args @ ..]
            | ["muster" | "target/release/muster", ref args @ ..] => {
                runs(&cluster, process::muster(), args)
            }
            ["target/release/muster-collector", ref args @ ..] => {
                runs(&cluster, process::collector(), args);
            }
            ["cargo", "xtask", "test"] => {
                let ci = std::fs::read_to_string(root().join(".ci/run")).expect("a script");
                assert!(ci.lines().any(|line| line == command), ".ci/run runs {command:?}");
            }
            ["cargo", "build", "--release", "--locked", ref package @ ..] => {
                let manifest = match package {
                    [] => "Cargo.toml".to_owned(),
                    ["-p", package] => format!("crates/{package}/Cargo.toml"),
                    other => panic!("what does {other:?} build?"),
                };
                assert!(root().join(manifest).exists(), "{command}");
                assert!(root().join("Cargo.lock").exists(), "{command}");
            }
            ["grpcurl", "-plaintext", "127.0.0.1:7070", "list"] => {
                let services = grpcurl::list(channel.clone()).await;
                assert!(services.contains(&"muster.v1.StateService".to_owned()), "{services:?}");
            }
            ["grpcurl", "-plaintext", "-d", json, "127.0.0.1:7070", method] => {
                let answers = grpcurl::call(channel.clone(), method, json).await.expect(&command);
                assert!(!answers.is_empty(), "{command} answers nothing");
            }
            ["grpcurl", "-plaintext", "127.0.0.1:7070", method] => {
                let answers = grpcurl::call(channel.clone(), method, "").await.expect(&command);
                assert!(!answers.is_empty(), "{command} answers nothing");
            }
            ["curl", url] => {
                let path = url.strip_prefix("http://127.0.0.1:7070").expect("our own address");
                let (status, body) = crate::cluster::get(address, path).await;
                assert_eq!(status, 200, "{command}: {body}");
                serde_json::from_str::<serde_json::Value>(&body).expect(&command);
            }
            ["ssh", ..] => {}
            _ => panic!("no test knows how to run {command:?}"),
        }
    }
}

/// Commands that end are run; those that serve are only read, other tests run them.
fn runs(cluster: &Cluster, mut command: std::process::Command, args: &[&str]) {
    let url = cluster.url();
    let args: Vec<&str> = args
        .iter()
        .map(|arg| if arg.starts_with("http://127.0.0.1:7070") { url.as_str() } else { arg })
        .collect();
    const ENDING: [&str; 5] = ["health", "check-config", "token", "account", "top"];
    let serves = !args.first().is_some_and(|role| ENDING.contains(role));
    if !serves {
        command.env("MUSTER_DATA_DIR", cluster.data_dir()).env("MUSTER_URL", &url);
    }
    command.args(&args).current_dir(root());
    if serves {
        // clap reads the flags before it meets the request for help, so a wrong one is still an error.
        command.arg("--help");
    }
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_describes_itself_to_new_and_old_grpcurl() {
    let cluster = Cluster::up().await;
    let channel = cluster.channel().await;
    for services in
        [grpcurl::list(channel.clone()).await, grpcurl::list_v1alpha(channel.clone()).await]
    {
        for expected in ["muster.v1.StateService", "muster.v1.LogService", "grpc.health.v1.Health"]
        {
            assert!(
                services.iter().any(|name| name == expected),
                "{expected} is not in {services:?}"
            );
        }
    }
    let well = grpcurl::call(channel.clone(), "grpc.health.v1.Health/Check", "").await;
    assert_eq!(well.expect("answers"), [serde_json::json!({ "status": "SERVING" })]);
    let machine = eventually(PATIENCE, || async {
        let list = grpcurl::call(channel.clone(), "muster.v1.StateService/ListMachines", "").await;
        let list = list.map_err(|status| status.to_string())?.remove(0);
        let machine = list["machines"][0].clone();
        machine["headline"].is_object().then_some(machine).ok_or(format!("{list}"))
    })
    .await;
    assert_eq!(machine["status"], "MACHINE_STATUS_ONLINE", "{machine}");
    let since = machine["statusSince"].as_str().expect("a time");
    assert!(since.ends_with('Z') && since.contains('T'), "{since} is a time for people");
    let ask = serde_json::json!({ "machine": machine["hostName"], "metrics": ["system.memory.*"] });
    let state =
        grpcurl::call(channel, "muster.v1.StateService/GetCurrentState", &ask.to_string()).await;
    let state = state.expect("answers").remove(0);
    let samples = state["samples"].as_array().expect("samples");
    assert!(!samples.is_empty(), "{state}");
    for sample in samples {
        let metric = sample["metric"].as_str().expect("a name");
        assert!(metric.starts_with("system.memory."), "{metric} was not asked for");
    }
}

#[test]
fn the_example_file_is_accepted_and_holds_the_defaults() {
    let example = root().join("muster.example.toml");
    let output = process::muster().arg("check-config").arg(&example).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
