//! Who may do what, on a server that asks.

use std::net::SocketAddr;
use std::process::Output;

use proto::v1;
use proto::v1::access_service_client::AccessServiceClient;
use proto::v1::state_service_client::StateServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::browser::Browser;
use crate::cluster::{Cluster, PATIENCE};
use crate::eventually::eventually;
use crate::process::{self, Process};

const REQUIRED: &[(&str, &str)] = &[("MUSTER_ACCESS__AUTH", "required")];

/// What the first start printed.
struct Secrets {
    password: String,
    collector_token: String,
}

async fn secrets(cluster: &Cluster) -> Secrets {
    eventually(PATIENCE, || async {
        let said = cluster.server.output();
        let after = |what: &str| {
            let line = said.lines().find_map(|line| line.trim().strip_prefix(what))?;
            line.split_whitespace().last().map(str::to_owned)
        };
        let (password, token) = (after("login "), after("collector token "));
        let both = password
            .zip(token)
            .map(|(password, collector_token)| Secrets { password, collector_token });
        both.ok_or(said)
    })
    .await
}

/// One request over HTTP/1.1: status, head and body of the answer.
async fn ask(
    address: SocketAddr,
    request: &str,
    headers: &str,
    body: &str,
) -> (u16, String, String) {
    ask_as(&address.to_string(), address, request, headers, body).await
}

/// As [`ask`], under another name of the server.
async fn ask_as(
    host: &str,
    address: SocketAddr,
    request: &str,
    headers: &str,
    body: &str,
) -> (u16, String, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
    let length = body.len();
    let text = format!(
        "{request} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.expect("sends");
    let mut answer = Vec::new();
    // What is refused may be closed before all of it was read.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.get(9..12).and_then(|code| code.parse().ok());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (
        status.unwrap_or_else(|| panic!("no answer: {answer:?}")),
        head.to_lowercase(),
        body.to_owned(),
    )
}

async fn status(address: SocketAddr, request: &str, headers: &str) -> u16 {
    ask(address, request, headers, "").await.0
}

fn bearing<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse().expect("ASCII"));
    request
}

async fn list(channel: &Channel, token: Option<&str>) -> Result<v1::ListMachinesResponse, Status> {
    let mut client = StateServiceClient::new(channel.clone());
    let message = v1::ListMachinesRequest::default();
    let request = match token {
        Some(token) => bearing(message, token),
        None => Request::new(message),
    };
    Ok(client.list_machines(request).await?.into_inner())
}

/// `muster token …` beside the running server: exit status and what it printed.
async fn token(cluster: &Cluster, args: &[&str]) -> Output {
    let mut command = process::muster();
    command.arg("token").args(args).arg("--data-dir").arg(cluster.data_dir());
    tokio::task::spawn_blocking(move || command.output().expect("runs")).await.expect("no panic")
}

async fn new_token(cluster: &Cluster, args: &[&str]) -> String {
    let output = token(cluster, args).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn collector(cluster: &Cluster, name: &str, token: &str) -> Process {
    let state_dir = cluster.dir().join(name);
    let mut command = process::collector();
    command.args(["--aggregator", &cluster.url(), "--label", &format!("name={name}")]);
    command.args(["--interval", "100ms", "--state-dir"]).arg(&state_dir).env("MUSTER_TOKEN", token);
    Process::start(name, cluster.dir(), command)
}

async fn says(process: &Process, expected: &str) {
    eventually(PATIENCE, || async {
        let said = process.output();
        said.contains(expected).then_some(()).ok_or(format!("expected {expected:?} in: {said}"))
    })
    .await;
}

async fn has_machine(channel: &Channel, token: &str, name: &str) {
    eventually(PATIENCE, || async {
        let machines = list(channel, Some(token)).await.map_err(|e| e.to_string())?.machines;
        let named = |m: &v1::Machine| m.labels.get("name").is_some_and(|found| found == name);
        machines.iter().any(named).then_some(()).ok_or(format!("{machines:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_see_nothing_and_whoever_logs_in_sees_all() {
    let mut cluster = Cluster::start("up", REQUIRED).await;
    let Secrets { password, collector_token } = secrets(&cluster).await;
    let address = cluster.address;
    for (request, expected) in [
        ("GET /", 303),
        ("GET /add", 303),
        ("GET /tokens", 303),
        ("GET /nothing/here", 303),
        ("GET /api/v1/machines", 401),
        ("GET /metrics", 401),
        ("GET /ws", 401),
        ("GET /healthz", 200),
        ("GET /login", 200),
        ("POST /alerts/save", 303),
    ] {
        assert_eq!(status(address, request, "").await, expected, "{request}");
    }
    let (_, head, _) = ask(address, "GET /machines/x?range=1h", "", "").await;
    assert!(head.contains("location: ./../login?next=/machines/x%3frange%3d1h"), "{head}");

    let channel = cluster.channel().await;
    let refused = list(&channel, None).await.expect_err("is refused");
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    assert!(refused.message().contains("hint: "), "{refused}");
    let refused = list(&channel, Some(&collector_token)).await.expect_err("is refused");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");

    let form =
        format!("origin: http://{address}\r\ncontent-type: application/x-www-form-urlencoded\r\n");
    let wrong = ask(address, "POST /login", &form, "name=admin&password=guess").await;
    assert_eq!(wrong.0, 401, "{}", wrong.2);
    let elsewhere = form.replace(&address.to_string(), "evil.example");
    let right = format!("name=admin&password={password}&next=%2Fadd");
    assert_eq!(ask(address, "POST /login", &elsewhere, &right).await.0, 403);
    let (code, head, body) = ask(address, "POST /login", &form, &right).await;
    assert_eq!(code, 303, "{head}\n{body}");
    assert!(head.contains("location: ./add"), "{head}");
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(cookie.contains("httponly") && cookie.contains("samesite=lax"), "{cookie}");
    let cookie = format!("cookie: {}\r\n", cookie.split(';').next().expect("a value"));
    for request in ["GET /", "GET /tokens", "GET /api/v1/machines", "GET /metrics"] {
        assert_eq!(status(address, request, &cookie).await, 200, "{request}");
    }
    // Also on the page that adds a machine: its token is for one.
    let (code, _, page) = ask(address, "POST /add", &format!("{cookie}{form}"), "").await;
    let made = page.split("MUSTER_TOKEN=").nth(1).and_then(|rest| rest.split(' ').next());
    assert_eq!(code, 200, "{page}");
    let made = made.expect("a token on the page").to_owned();
    // A cookie is not what calls are made with, and no page elsewhere can use it.
    assert_eq!(status(address, "POST /logout", &cookie).await, 403);
    assert_eq!(ask(address, "POST /logout", &format!("{cookie}{form}"), "").await.0, 303);
    assert_eq!(status(address, "GET /", &cookie).await, 303);

    // Nothing is printed a second time, and everything still works.
    cluster.server.stop(PATIENCE);
    let before = cluster.server.output();
    cluster.restart().await;
    let after = cluster.server.output();
    assert!(!before.contains("__Host") && !after[before.len()..].contains("Shown once"), "{after}");
    assert!(!after.contains(&made), "a token was logged");
    let (code, ..) = ask(address, "POST /login", &form, &right).await;
    assert_eq!(code, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_nobody_answers_only_to_its_own_names() {
    let known: &[(&str, &str)] = &[("MUSTER_ACCESS__ALLOWED_HOSTS", "[\"dash.example\"]")];
    let cluster = Cluster::start("up", known).await;
    let address = cluster.address;
    // As a browser does it whose name for us leads here: its page and we are one site.
    let socket = "origin: http://evil.example:7070\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                  sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let form = "origin: http://evil.example:7070\r\n";
    let requests = [
        ("GET /", ""),
        ("GET /api/v1/machines", ""),
        ("GET /ws", socket),
        ("GET /metrics", ""),
        ("GET /healthz", ""),
        ("GET /nothing/here", ""),
        ("POST /alerts/save", form),
    ];
    for (request, headers) in requests {
        let (code, _, body) = ask_as("evil.example:7070", address, request, headers, "").await;
        assert_eq!(code, 421, "{request}: {body}");
        assert!(
            body.contains("evil.example:7070") && body.contains("access.allowed_hosts"),
            "{body}"
        );
    }
    let port = address.port();
    for host in
        [format!("localhost:{port}"), format!("127.0.0.1:{port}"), "dash.example".to_owned()]
    {
        let (code, _, body) = ask_as(&host, address, "GET /api/v1/machines", "", "").await;
        assert_eq!(code, 200, "{host}: {body}");
    }
    let origin = "http://evil.example".parse().expect("a URI");
    let endpoint = Channel::from_shared(cluster.url()).expect("an address").origin(origin);
    let elsewhere = endpoint.connect().await.expect("connects");
    let refused = list(&elsewhere, None).await.expect_err("is refused");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("access.allowed_hosts"), "{refused}");
    list(&cluster.channel().await, None).await.expect("its own name");

    // Where people say who they are, a name is no proof of anything.
    let asking = Cluster::start("up", REQUIRED).await;
    let (code, ..) = ask_as("evil.example", asking.address, "GET /login", "", "").await;
    assert_eq!(code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_for_what_it_says_until_it_is_revoked() {
    let cluster = Cluster::start("aggregator", REQUIRED).await;
    let reader = new_token(&cluster, &["create", "reader", "--grant", "read"]).await;
    let channel = cluster.channel().await;
    list(&channel, Some(&reader)).await.expect("may read");
    assert_eq!(status(cluster.address, "GET /", "").await, 401, "there is no page to log in at");
    let mut access = AccessServiceClient::new(channel.clone());
    let denied = access.list_tokens(bearing(v1::ListTokensRequest {}, &reader)).await;
    assert_eq!(denied.expect_err("is denied").code(), Code::PermissionDenied);

    // The first machine that uses it makes it its own.
    let one = new_token(&cluster, &["create", "web-1"]).await;
    let first = collector(&cluster, "web-1", &one);
    has_machine(&channel, &reader, "web-1").await;
    let second = collector(&cluster, "web-2", &one);
    says(&second, "is that of another machine").await;
    let stranger = collector(&cluster, "web-3", "mst_nobody");
    says(&stranger, "the token is not valid").await;
    assert!(!stranger.output().contains("mst_nobody"), "a token was logged");

    // A token for all machines may not speak for one that has its own.
    let any = new_token(&cluster, &["create", "fleet", "--grant", "report:any"]).await;
    drop(first);
    let copied = collector(&cluster, "web-1", &any);
    says(&copied, "is for machines without one of their own").await;
    drop((copied, second, stranger));

    // Revoked by call, and by command: what is open is cut.
    let again = collector(&cluster, "web-1", &one);
    let admin = new_token(&cluster, &["create", "admin", "--grant", "admin"]).await;
    let tokens = access.list_tokens(bearing(v1::ListTokensRequest {}, &admin)).await;
    let tokens = tokens.expect("may").into_inner().tokens;
    let id = |name: &str| {
        let token = tokens.iter().find(|token| token.name == name);
        token.expect("is listed").id.clone()
    };
    let listed = token(&cluster, &["list"]).await;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for name in ["reader", "web-1", "fleet", "admin"] {
        assert!(listed.contains(&id(name)), "{name} is not in {listed}");
    }
    assert!(!listed.contains("mst_"), "{listed}");
    let mut watching = StateServiceClient::new(channel.clone())
        .watch(bearing(v1::WatchRequest::default(), &reader))
        .await
        .expect("may watch")
        .into_inner();
    watching.message().await.expect("goes well").expect("begins");
    let revoke = v1::RevokeTokenRequest { id: id("web-1") };
    access.revoke_token(bearing(revoke, &admin)).await.expect("revoked");
    says(&again, "the token was revoked").await;
    assert!(token(&cluster, &["revoke", &id("reader")]).await.status.success());
    let cut = async {
        loop {
            match watching.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without saying why"),
                Err(status) => return status,
            }
        }
    };
    let cut = tokio::time::timeout(PATIENCE, cut).await.expect("is cut");
    assert_eq!(cut.code(), Code::Unauthenticated, "{cut}");
    let twice = token(&cluster, &["revoke", &id("reader")]).await;
    assert!(String::from_utf8_lossy(&twice.stderr).contains("hint: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_elsewhere_cannot_call_a_server_that_asks_nobody() {
    let cluster = Cluster::aggregator().await;
    let call = "POST /muster.v1.StateService/ListMachines";
    let empty = "\0\0\0\0\0";
    let text = "content-type: text/plain\r\n";
    assert_eq!(ask(cluster.address, call, text, empty).await.0, 415);
    let pretender = "content-type: application/grpc\r\norigin: http://evil.example\r\n";
    assert_eq!(ask(cluster.address, call, pretender, empty).await.0, 415);
    list(&cluster.channel().await, None).await.expect("a program may");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_its_own_asks_the_aggregator_who_its_visitors_are() {
    const ADMIN: &str = "a-token-of-at-least-24-characters";
    let settings = [
        REQUIRED[0],
        ("MUSTER_ACCESS__ADMIN_TOKEN", ADMIN),
        ("MUSTER_ACCESS__ADMIN_PASSWORD", "correct-horse"),
    ];
    let cluster = Cluster::start("aggregator", &settings).await;
    let address = crate::cluster::free_address();
    let file = cluster.dir().join("token");
    std::fs::write(&file, format!("{ADMIN}\n")).expect("written");
    let mut command = process::muster();
    command.args(["gateway", "--listen", &address.to_string(), "--aggregator", &cluster.url()]);
    command.env("MUSTER_ACCESS__AUTH", "required").arg("--token-file").arg(file);
    let _gateway = Process::start("gateway", cluster.dir(), command);
    eventually(PATIENCE, || async move {
        let port = tokio::net::TcpStream::connect(address).await;
        port.map(drop).map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(status(address, "GET /api/v1/machines", "").await, 401);
    let form = format!("origin: http://{address}\r\n");
    let cookie = eventually(PATIENCE, || async {
        let body = "name=admin&password=correct-horse";
        let (code, head, body) = ask(address, "POST /login", &form, body).await;
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        cookie
            .filter(|_| code == 303)
            .map(|c| c.split(';').next().unwrap_or_default().to_owned())
            .ok_or(body)
    })
    .await;
    let cookie = format!("cookie: {cookie}\r\n");
    assert_eq!(status(address, "GET /api/v1/machines", &cookie).await, 200);
    // It is the visitor's own right that counts, not the gateway's.
    let reader = new_token(&cluster, &["create", "reader", "--grant", "read"]).await;
    let bearer = format!("authorization: Bearer {reader}\r\n");
    assert_eq!(status(address, "GET /api/v1/machines", &bearer).await, 200);
    assert_eq!(ask(address, "POST /alerts/save", &format!("{bearer}{form}"), "").await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_page_says_that_its_session_ended_and_offers_the_login() {
    let Some(browser) = Browser::open().await else { return };
    let settings = [REQUIRED[0], ("MUSTER_ACCESS__ADMIN_PASSWORD", "correct-horse")];
    let cluster = Cluster::start("up", &settings).await;
    let form = "return document.querySelector('input[name=password]') !== null";
    browser.driver.goto(cluster.url()).await.expect("loads");
    browser.until("the login", form).await;
    let log_in = "document.querySelector('input[name=name]').value = 'admin';
        document.querySelector('input[name=password]').value = 'correct-horse';
        document.querySelector('main form').requestSubmit()";
    browser.run(log_in).await;
    let state = "return document.getElementById('link')?.dataset.state === 'live'";
    browser.until("a live page", state).await;

    // A new password logs everybody out.
    let mut command = process::muster();
    command.args(["account", "set", "admin", "--data-dir"]).arg(cluster.data_dir());
    let output = tokio::task::spawn_blocking(move || command.output().expect("runs")).await;
    assert!(output.expect("no panic").status.success());
    let said = "return document.getElementById('notice').innerText.includes('session has ended')";
    browser.until("the end of the session", said).await;
    let words = browser.run("return document.getElementById('link-words').innerText").await;
    assert_eq!(words, "logged out");
    browser.run("document.querySelector('#notice a').click()").await;
    browser.until("the login", form).await;
}
