//! Everything over TLS: collectors, people, commands, and roles among themselves.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use daemon::tls::{Client, ClientConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::cluster::{Cluster, PATIENCE, free_address};
use crate::eventually::eventually;
use crate::process::{self, Process};

const COLLECTOR_TOKEN: &str = "collector-token-of-24-characters";
const ADMIN_TOKEN: &str = "administrator-token-of-24-characters";

/// An authority with what it made, as files.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    /// `ca.pem`, and for each name `NAME.pem` and `NAME.key`, valid for this machine.
    pub(crate) fn make(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("of {}", dir.path().display()));
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("signed");
        let files = Self(dir);
        std::fs::write(files.path("ca.pem"), issuer.pem()).expect("written");
        for name in names {
            let key = KeyPair::generate().expect("a key");
            let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
            let made = CertificateParams::new(hosts).expect("names").signed_by(&key, &issuer);
            let pem = made.expect("signed").pem();
            std::fs::write(files.path(&format!("{name}.pem")), pem).expect("written");
            let key = key.serialize_pem();
            std::fs::write(files.path(&format!("{name}.key")), key).expect("written");
        }
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// One request over HTTPS: status, head and body of the answer.
async fn ask(
    address: SocketAddr,
    ca: &Path,
    request: &str,
    headers: &str,
    body: &str,
) -> Result<(u16, String, String), String> {
    let config = ClientConfig { ca: Some(ca.to_owned()), ..ClientConfig::default() };
    let client = Client::open("test", &config).expect("an authority");
    let url = format!("https://{address}").parse().expect("a url");
    let stream = client.connect(&url, http::Version::HTTP_11).await;
    let mut stream = stream.map_err(|error| error.to_string())?;
    let length = body.len();
    let text = format!(
        "{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.get(9..12).and_then(|code| code.parse().ok());
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| answer.clone())?;
    Ok((status.ok_or("no status")?, head.to_owned(), body.to_owned()))
}

fn collector(dir: &Path, name: &str, url: &str, ca: &str) -> Process {
    let mut command = process::collector();
    command.args(["--aggregator", url, "--label", &format!("name={name}"), "--interval", "100ms"]);
    command.arg("--state-dir").arg(dir.join(name));
    command.env("MUSTER_CA", ca).env("MUSTER_TOKEN", COLLECTOR_TOKEN);
    Process::start(name, dir, command)
}

async fn says(process: &Process, expected: &str) {
    eventually(PATIENCE, || async {
        let said = process.output();
        said.contains(expected).then_some(()).ok_or(format!("expected {expected:?} in: {said}"))
    })
    .await;
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().expect("runs")).await.expect("no panic")
}

async fn succeeds(command: Command) -> String {
    let output = run(command).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn fails(command: Command, expected: &str) {
    let output = run(command).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains(expected),
        "expected {expected:?} in: {said}"
    );
}

async fn has_machine(address: SocketAddr, ca: &Path, name: &str) {
    let bearer = format!("authorization: Bearer {ADMIN_TOKEN}\r\n");
    eventually(PATIENCE, || async {
        let (status, _, body) = ask(address, ca, "GET /api/v1/machines", &bearer, "").await?;
        (status == 200 && body.contains(name)).then_some(()).ok_or(format!("{status} {body}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn collectors_people_and_commands_reach_a_server_over_tls() {
    let (files, strangers) = (Files::make(&["hub"]), Files::make(&[]));
    let cluster = Cluster::start(
        "up",
        &[
            ("MUSTER_TLS__CERTIFICATE", &files.text("hub.pem")),
            ("MUSTER_TLS__KEY", &files.text("hub.key")),
            ("MUSTER_ACCESS__AUTH", "required"),
            ("MUSTER_ACCESS__ADMIN_PASSWORD", "correct-horse"),
            ("MUSTER_ACCESS__ADMIN_TOKEN", ADMIN_TOKEN),
            ("MUSTER_ACCESS__COLLECTOR_TOKEN", COLLECTOR_TOKEN),
        ],
    )
    .await;
    let (address, dir) = (cluster.address, cluster.dir());
    let (url, ca) = (format!("https://{address}"), files.path("ca.pem"));
    says(&cluster.server, &format!("listening on {url}")).await;
    let _collector = collector(dir, "web-1", &url, &files.text("ca.pem"));
    has_machine(address, &ca, "web-1").await;

    // What is wrong is said where somebody looks for it.
    let stranger = collector(dir, "web-2", &url, &strangers.text("ca.pem"));
    says(&stranger, "is not of an authority that is trusted here").await;
    let in_clear = collector(dir, "web-3", &cluster.url(), &files.text("ca.pem"));
    says(&in_clear, "this port speaks TLS: begin its address with https://").await;
    let (status, body) = cluster.get("/").await;
    assert_eq!(
        (status, body.trim()),
        (400, "this port speaks TLS: begin its address with https://")
    );

    // A session goes nowhere in the clear.
    let form = format!("origin: {url}\r\ncontent-type: application/x-www-form-urlencoded\r\n");
    let login = "name=admin&password=correct-horse";
    let (status, head, body) =
        ask(address, &ca, "POST /login", &form, login).await.expect("answers");
    assert_eq!(status, 303, "{head}\n{body}");
    let cookie = head.lines().find(|line| line.to_lowercase().starts_with("set-cookie:"));
    let cookie = cookie.expect("a cookie");
    assert!(cookie.contains("__Host-") && cookie.contains("Secure"), "{cookie}");

    // Commands, with an authority of their own and with a token.
    let muster = |args: &[&str]| {
        let mut command = process::muster();
        command.args(args).args(["--url", &url]).env("MUSTER_CA", &ca);
        command
    };
    assert!(succeeds(muster(&["health"])).await.contains("healthy"));
    let mut untrusted = muster(&["health"]);
    untrusted.env("MUSTER_CA", strangers.path("ca.pem"));
    fails(untrusted, "is not of an authority that is trusted here").await;
    let mut plain = process::muster();
    plain.args(["health", "--url", &cluster.url()]);
    fails(plain, "this port speaks TLS").await;
    fails(muster(&["logs"]), "hint: give a token with --token-file FILE, or MUSTER_TOKEN").await;
    let token = dir.join("token");
    std::fs::write(&token, format!("{ADMIN_TOKEN}\n")).expect("written");
    let mut logs = muster(&["logs"]);
    logs.arg("--token-file").arg(&token);
    succeeds(logs).await;
    let mut wrong = muster(&["logs"]);
    wrong.env("MUSTER_TOKEN", COLLECTOR_TOKEN);
    fails(wrong, "error: ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_know_each_other_by_their_certificates() {
    let files = Files::make(&["hub", "gateway", "web-1", "ann"]);
    let cluster = Cluster::start(
        "aggregator",
        &[
            ("MUSTER_TLS__CERTIFICATE", &files.text("hub.pem")),
            ("MUSTER_TLS__KEY", &files.text("hub.key")),
            ("MUSTER_TLS__CLIENT_CA", &files.text("ca.pem")),
        ],
    )
    .await;
    let (dir, aggregator) = (cluster.dir(), format!("https://{}", cluster.address));
    let refused = ask(cluster.address, &files.path("ca.pem"), "GET /healthz", "", "").await;
    assert!(refused.is_err(), "a stranger was served: {refused:?}");

    let mut command = process::collector();
    command.args(["--aggregator", &aggregator, "--label", "name=web-1"]).arg("--state-dir");
    command.arg(dir.join("web-1")).env("MUSTER_CA", files.path("ca.pem"));
    command.env("MUSTER_COLLECTOR__TLS__CERTIFICATE", files.path("web-1.pem"));
    command.env("MUSTER_COLLECTOR__TLS__KEY", files.path("web-1.key"));
    let _collector = Process::start("web-1", dir, command);

    let address = free_address();
    let mut command = process::muster();
    command.args(["gateway", "--listen", &address.to_string(), "--aggregator", &aggregator]);
    command.arg("--ca").arg(files.path("ca.pem"));
    command.env("MUSTER_GATEWAY__TLS__CERTIFICATE", files.path("gateway.pem"));
    command.env("MUSTER_GATEWAY__TLS__KEY", files.path("gateway.key"));
    let _gateway = Process::start("gateway", dir, command);
    eventually(PATIENCE, || async {
        tokio::net::TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let (status, body) = crate::cluster::get(address, "/api/v1/machines").await;
        (status == 200 && body.contains("web-1")).then_some(()).ok_or(format!("{status} {body}"))
    })
    .await;

    // And those who type commands.
    let muster = |args: &[&str]| {
        let mut command = process::muster();
        command.args(args).args(["--url", &aggregator]).env("MUSTER_CA", files.path("ca.pem"));
        command
    };
    fails(muster(&["machine", "list"]), "error: ").await;
    let mut list = muster(&["machine", "list"]);
    list.arg("--certificate").arg(files.path("ann.pem")).arg("--key").arg(files.path("ann.key"));
    let listed = succeeds(list).await;
    assert_eq!(listed.lines().count(), 2, "a head and one machine: {listed}");
    let mut health = muster(&["health"]);
    health.env("MUSTER_CERTIFICATE", files.path("ann.pem"));
    health.env("MUSTER_KEY", files.path("ann.key"));
    assert!(succeeds(health).await.contains("healthy"));
    let mut half = muster(&["health"]);
    half.arg("--certificate").arg(files.path("ann.pem"));
    fails(half, "--key").await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_stops_the_start_with_its_file_and_why() {
    let files = Files::make(&["hub", "other"]);
    let with = |certificate: &str, key: &str| {
        let mut command = process::muster();
        command.args(["up", "--listen", "127.0.0.1:0", "--data-dir"]).arg(files.path("data"));
        command.env("MUSTER_TLS__CERTIFICATE", files.path(certificate));
        command.env("MUSTER_TLS__KEY", files.path(key));
        command
    };
    let gone = format!("tls.certificate: {}: there is no such file", files.text("gone.pem"));
    fails(with("gone.pem", "hub.key"), &gone).await;
    let mismatch = "tls.key: is not the key that tls.certificate was made for";
    fails(with("hub.pem", "other.key"), mismatch).await;
}
