use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// An authority, and a directory for what it makes.
struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("signed");
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { dir, issuer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `NAME.pem` and `NAME.key`.
    fn make(&self, name: &str, host: &str) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([host.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).expect("written");
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).expect("written");
    }

    fn listener(&self, name: &str) -> ListenerConfig {
        ListenerConfig {
            certificate: Some(self.path(&format!("{name}.pem"))),
            key: Some(self.path(&format!("{name}.key"))),
            client_ca: None,
        }
    }

    fn trusting(&self) -> ClientConfig {
        ClientConfig { ca: Some(self.path("ca.pem")), ..ClientConfig::default() }
    }
}

/// Accepts one connection after the other and greets over each; returns its port.
async fn greeter(listener: Listener) -> u16 {
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = tcp.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = tcp.accept().await {
            if let Ok(mut stream) = listener.accept(stream).await {
                let _ = stream.write_all(b"hello").await;
                let _ = stream.shutdown().await;
            }
        }
    });
    port
}

async fn greeted(client: &Client, host: &str, port: u16) -> Result<String, String> {
    let url = format!("https://{host}:{port}").parse().expect("a url");
    let stream = client.connect(&url, http::Version::HTTP_2).await;
    let mut stream = stream.map_err(|error| error.to_string())?;
    let mut text = String::new();
    // With TLS 1.3 a client learns here that its certificate was refused.
    stream.read_to_string(&mut text).await.map_err(|error| error.to_string())?;
    Ok(text)
}

#[tokio::test]
async fn whom_one_reached_is_proven_by_an_authority_that_is_trusted() {
    let (ours, other) = (Authority::new(), Authority::new());
    ours.make("hub", "localhost");
    ours.make("elsewhere", "hub.example");
    let open = |config: &ListenerConfig| Listener::open(config).expect("fine").expect("TLS");
    let port = greeter(open(&ours.listener("hub"))).await;
    let client = Client::open("x", &ours.trusting()).expect("fine");
    assert_eq!(greeted(&client, "localhost", port).await.as_deref(), Ok("hello"));

    let stranger = Client::open("x", &other.trusting()).expect("fine");
    let error = greeted(&stranger, "localhost", port).await.expect_err("refused");
    let expected = "the certificate of localhost is not of an authority that is trusted here (";
    assert!(error.starts_with(expected) && error.contains("hint: "), "{error}");
    let system = Client::open("x", &ClientConfig::default()).expect("fine");
    let error = greeted(&system, "localhost", port).await.expect_err("refused");
    assert!(error.contains("this machine's own list"), "{error}");

    let elsewhere = greeter(open(&ours.listener("elsewhere"))).await;
    let error = greeted(&client, "localhost", elsewhere).await.expect_err("refused");
    assert!(error.contains("is for another name"), "{error}");
}

#[tokio::test]
async fn a_server_may_ask_who_connects() {
    let (ours, other) = (Authority::new(), Authority::new());
    ours.make("hub", "localhost");
    ours.make("web-1", "web-1");
    other.make("web-2", "web-2");
    let config = ListenerConfig { client_ca: Some(ours.path("ca.pem")), ..ours.listener("hub") };
    let port = greeter(Listener::open(&config).expect("fine").expect("TLS")).await;
    let with = |authority: &Authority, name: &str| ClientConfig {
        certificate: Some(authority.path(&format!("{name}.pem"))),
        key: Some(authority.path(&format!("{name}.key"))),
        ..ours.trusting()
    };
    let known = Client::open("x", &with(&ours, "web-1")).expect("fine");
    assert_eq!(greeted(&known, "localhost", port).await.as_deref(), Ok("hello"));
    for config in [ours.trusting(), with(&other, "web-2")] {
        let client = Client::open("x", &config).expect("fine");
        assert!(greeted(&client, "localhost", port).await.is_err(), "{config:?}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_over_and_a_wrong_one_is_not() {
    let (before, after) = (Authority::new(), Authority::new());
    before.make("hub", "localhost");
    after.make("hub", "localhost");
    let listener = Listener::open(&before.listener("hub")).expect("fine").expect("TLS");
    let stop = tokio_util::sync::CancellationToken::new();
    let following = tokio::spawn(listener.clone().follow(stop.clone()));
    let port = greeter(listener).await;
    let old = Client::open("x", &before.trusting()).expect("fine");
    let new = Client::open("x", &after.trusting()).expect("fine");
    greeted(&old, "localhost", port).await.expect("as it began");
    // The key comes first, and does not fit yet: what was read before stays in use.
    for name in ["hub.key", "hub.pem"] {
        assert!(greeted(&new, "localhost", port).await.is_err());
        std::fs::copy(after.path(name), before.path(name)).expect("copied");
    }
    let renewed = async {
        while greeted(&new, "localhost", port).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), renewed).await.expect("is taken over");
    assert!(greeted(&old, "localhost", port).await.is_err());
    stop.cancel();
    following.await.expect("ends");
}

#[tokio::test]
async fn a_client_shows_the_renewed_certificate_and_trusts_the_new_authority() {
    let (before, after) = (Authority::new(), Authority::new());
    let with_ca = |authority: &Authority| {
        authority.make("hub", "localhost");
        let ca = Some(authority.path("ca.pem"));
        let config = ListenerConfig { client_ca: ca, ..authority.listener("hub") };
        Listener::open(&config).expect("fine").expect("TLS")
    };
    let (old, new) = (greeter(with_ca(&before)).await, greeter(with_ca(&after)).await);
    before.make("web-1", "web-1");
    after.make("web-1", "web-1");
    let config = ClientConfig {
        certificate: Some(before.path("web-1.pem")),
        key: Some(before.path("web-1.key")),
        ..before.trusting()
    };
    let client = Client::open("x", &config).expect("fine");
    let stop = tokio_util::sync::CancellationToken::new();
    let following = tokio::spawn(client.clone().follow(stop.clone()));
    greeted(&client, "localhost", old).await.expect("as it began");
    let expires = client.expires().expect("it is known");
    // The key does not fit yet, the certificate is still to come: what was read before stays in use.
    for name in ["ca.pem", "web-1.key", "web-1.pem"] {
        assert!(greeted(&client, "localhost", new).await.is_err(), "{name} is still the old one");
        std::fs::copy(after.path(name), before.path(name)).expect("copied");
    }
    let renewed = async {
        while greeted(&client, "localhost", new).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), renewed).await.expect("is taken over");
    assert!(greeted(&client, "localhost", old).await.is_err());
    assert_eq!(client.expires(), Some(expires), "made with the same end");
    stop.cancel();
    following.await.expect("ends");
}

#[test]
fn of_a_certificate_that_ends_somebody_is_warned_a_week_ahead() {
    use std::time::UNIX_EPOCH;
    const DAY: u64 = 86_400;
    let mut params = CertificateParams::new(["x".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 11, 21);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signed");
    let validity = Validity::of("tls.certificate: hub.pem", certificate.der());
    let end = 1_795_219_200;
    assert_eq!(validity.expires(), Some(UNIX_EPOCH + Duration::from_secs(end)));
    let check = |at: u64, expected: Option<&str>| {
        let found = validity.problem(UNIX_EPOCH + Duration::from_secs(at));
        let fits = expected.map(|words| found.is_some_and(|found| found.contains(words)));
        assert!(fits.unwrap_or(found.is_none()), "{at}: {found:?}");
    };
    check(end - 400 * DAY, Some("not valid yet"));
    check(end - 8 * DAY, None);
    check(end - 6 * DAY, Some("within a week"));
    check(end, Some("has expired"));
    assert_eq!(Validity::of("x", b"no certificate").problem(UNIX_EPOCH), None);
}

#[cfg(feature = "http")]
#[test]
fn when_a_certificate_expires_is_on_the_metrics() {
    use prometheus_client::registry::Registry;
    let mut registry = Registry::default();
    let end = std::time::UNIX_EPOCH + Duration::from_secs(1_795_219_200);
    show_expiry(&mut registry, "gateway.tls", move || Some(end));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    let line = "muster_tls_certificate_expires_seconds{section=\"gateway.tls\"} 1795219200";
    assert!(text.contains(line), "{text}");
}

#[tokio::test]
async fn a_port_without_tls_is_told_from_one_that_is_not_trusted() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = tcp.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let (mut stream, _) = tcp.accept().await.expect("a client");
        let mut head = [0; 16];
        stream.read_exact(&mut head).await.expect("a greeting");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("sent");
    });
    let client = Client::open("x", &ClientConfig::default()).expect("fine");
    let error = greeted(&client, "127.0.0.1", port).await.expect_err("no TLS");
    assert!(error.contains("does not speak TLS; hint: "), "{error}");
}

#[test]
fn what_cannot_be_used_is_named_with_its_setting_and_why() {
    let ours = Authority::new();
    ours.make("hub", "localhost");
    ours.make("other", "localhost");
    std::fs::write(ours.path("text.pem"), "no certificate").expect("written");
    fn refused(config: &ListenerConfig, expected: &[&str]) {
        let error = format!("{:#}", Listener::open(config).expect_err("is refused"));
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    }
    let fine = ours.listener("hub");
    Listener::open(&fine).expect("is fine").expect("TLS");
    assert!(Listener::open(&ListenerConfig::default()).expect("is fine").is_none());
    let gone = Some(ours.path("gone.pem"));
    let changed = |certificate, key, client_ca| ListenerConfig { certificate, key, client_ca };
    let (certificate, key) = (fine.certificate.clone(), fine.key.clone());
    refused(
        &changed(gone.clone(), key.clone(), None),
        &["tls.certificate: ", "gone.pem: there is no such file"],
    );
    refused(
        &changed(Some(ours.path("text.pem")), key.clone(), None),
        &["tls.certificate: ", "text.pem: holds no certificate"],
    );
    refused(
        &changed(certificate.clone(), certificate.clone(), None),
        &["tls.key: ", "hub.pem: holds no private key"],
    );
    refused(
        &changed(certificate.clone(), Some(ours.path("other.key")), None),
        &["tls.key: is not the key that tls.certificate was made for"],
    );
    refused(&changed(certificate.clone(), None, None), &["tls.key: is missing"]);
    refused(&changed(None, key.clone(), None), &["tls.certificate: is missing"]);
    refused(&changed(None, None, gone.clone()), &["tls.client_ca: needs tls.certificate"]);
    refused(&changed(certificate, key, gone), &["tls.client_ca: ", "gone.pem: there is no such"]);
    let error = Client::open(
        "collector.tls",
        &ClientConfig { ca: Some(ours.path("text.pem")), ..ClientConfig::default() },
    );
    let error = format!("{:#}", error.expect_err("is refused"));
    assert!(error.starts_with("collector.tls.ca: ") && error.contains("holds no certificate"));
}

#[test]
fn the_time_of_a_certificate_is_read_from_it() {
    fn check(from: (i32, u8, u8), to: (i32, u8, u8), expected: (u64, u64)) {
        let mut params = CertificateParams::new(["x".to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        assert_eq!(validity::times(certificate.der()), Some(expected), "{from:?} {to:?}");
    }
    check((1970, 1, 1), (2000, 2, 29), (0, 951_782_400));
    check((2000, 3, 1), (2026, 11, 21), (951_868_800, 1_795_219_200));
    // From 2050 on the year has four digits.
    check((2049, 12, 31), (2100, 3, 1), (2_524_521_600, 4_107_542_400));
    assert_eq!(validity::times(b"no certificate"), None);
    assert_eq!(validity::times(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
}
