//! E-mail, to a receiver that speaks SMTP as mail servers do: STARTTLS, then a password, then the message.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::call;
use crate::cluster::Cluster;
use crate::tls::Files;

/// `\0ann\0s3cret` in Base64: what AUTH PLAIN carries.
const CREDENTIALS: &str = "AGFubgBzM2NyZXQ=";

/// One message as it came.
#[derive(Clone, Debug, Default, PartialEq)]
struct Mail {
    encrypted: bool,
    from: String,
    to: Vec<String>,
    text: String,
}

#[derive(Clone)]
struct MailServer {
    /// Without one it offers no STARTTLS.
    tls: Option<TlsAcceptor>,
    got: Arc<Mutex<Vec<Mail>>>,
    /// Everything that was said to it in clear.
    overheard: Arc<Mutex<String>>,
}

impl MailServer {
    async fn start(files: Option<&Files>) -> (Self, SocketAddr) {
        let tls = files.map(|files| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let chain = CertificateDer::pem_file_iter(files.path("mail.pem")).expect("readable");
            let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
            let key = PrivateKeyDer::from_pem_file(files.path("mail.key")).expect("a key");
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("known versions")
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .expect("they belong together");
            TlsAcceptor::from(Arc::new(config))
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = Self { tls, got: Arc::default(), overheard: Arc::default() };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                // A client that breaks off is the test's business.
                tokio::spawn(async move { serving.serve(stream).await.ok() });
            }
        });
        (server, address)
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 mail.test ESMTP\r\n").await?;
        if self.talk(&mut stream, false).await?
            && let Some(tls) = &self.tls
        {
            let mut stream = BufReader::new(tls.accept(stream.into_inner()).await?);
            self.talk(&mut stream, true).await?;
        }
        Ok(())
    }

    /// True when what follows is TLS.
    async fn talk<S>(&self, stream: &mut BufReader<S>, encrypted: bool) -> std::io::Result<bool>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut mail, mut known) = (Mail { encrypted, ..Mail::default() }, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(false);
            }
            if !encrypted {
                self.overheard.lock().expect("no panic").push_str(&line);
            }
            let line = line.trim_end();
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            let answer = match (verb.to_ascii_uppercase().as_str(), rest) {
                ("EHLO", _) if encrypted => "250-mail.test\r\n250-8BITMIME\r\n250 AUTH PLAIN",
                ("EHLO", _) if self.tls.is_some() => "250-mail.test\r\n250 STARTTLS",
                ("EHLO", _) => "250 mail.test",
                ("STARTTLS", _) if self.tls.is_some() => {
                    stream.write_all(b"220 go on\r\n").await?;
                    return Ok(true);
                }
                ("AUTH", given) => {
                    known = given == format!("PLAIN {CREDENTIALS}");
                    if known { "235 welcome" } else { "535 who are you" }
                }
                _ if !known => "530 say who you are",
                ("MAIL", from) => {
                    mail.from = from.to_owned();
                    "250 ok"
                }
                ("RCPT", to) => {
                    mail.to.push(to.to_owned());
                    "250 ok"
                }
                ("DATA", _) => {
                    stream.write_all(b"354 go on\r\n").await?;
                    loop {
                        let mut line = String::new();
                        stream.read_line(&mut line).await?;
                        if line == ".\r\n" {
                            break;
                        }
                        mail.text.push_str(&line);
                    }
                    self.got.lock().expect("no panic").push(mail.clone());
                    "250 queued as 7"
                }
                ("QUIT", _) => {
                    stream.write_all(b"221 bye\r\n").await?;
                    return Ok(false);
                }
                _ => "250 ok",
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        }
    }
}

/// What became of a test message through a channel to this server.
async fn tried(cluster: &Cluster, name: &str, address: SocketAddr, password: &str) -> Value {
    let email = json!({
        "host": "localhost", "port": address.port(), "username": "ann", "password": password,
        "from": "muster@example.org", "to": ["ops@example.org", "dev@example.org"],
    });
    let channel = json!({ "channel": { "name": name, "email": email } });
    let made = call(cluster, "AlertConfigService/CreateChannel", channel).await;
    assert!(!made.to_string().contains(password), "{made}");
    let id = &made["channel"]["id"];
    call(cluster, "AlertConfigService/TestChannel", json!({ "id": id })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_encrypted_to_a_server_that_is_trusted_and_a_password_never_in_clear() {
    let files = Files::make(&["mail"]);
    let ca = files.text("ca.pem");
    // As the authorities of the system are found.
    let cluster = Cluster::start("up", &[("SSL_CERT_FILE", &ca)]).await;
    let (server, address) = MailServer::start(Some(&files)).await;

    let answer = tried(&cluster, "mail", address, "s3cret").await;
    assert_eq!(answer["delivered"], true, "{answer}");
    assert!(answer["detail"].as_str().expect("text").contains("queued as 7"), "{answer}");
    let mail = server.got.lock().expect("no panic").remove(0);
    assert!(mail.encrypted && mail.from.contains("<muster@example.org>"), "{mail:?}");
    assert_eq!(mail.to.len(), 2, "{mail:?}");
    assert!(
        mail.text.contains("Subject: TEST: ") && mail.text.contains("ops@example.org"),
        "{mail:?}"
    );

    let answer = tried(&cluster, "wrong", address, "guessed").await;
    assert!(
        answer["delivered"] != true && answer["detail"].to_string().contains("535"),
        "{answer}"
    );

    let overheard = server.overheard.lock().expect("no panic").clone();
    assert!(overheard.contains("STARTTLS") && !overheard.contains("AUTH"), "{overheard}");

    // Whoever cuts STARTTLS out of the answer learns nothing.
    let (plain, address) = MailServer::start(None).await;
    let answer = tried(&cluster, "plain", address, "s3cret").await;
    assert!(answer["delivered"] != true, "{answer}");
    let overheard = plain.overheard.lock().expect("no panic").clone();
    assert!(!overheard.contains("AUTH") && !overheard.contains("MAIL"), "{overheard}");
    // A server that nobody vouches for neither.
    let others = Files::make(&["mail"]);
    let (stranger, address) = MailServer::start(Some(&others)).await;
    let answer = tried(&cluster, "stranger", address, "s3cret").await;
    assert!(answer["delivered"] != true, "{answer}");
    assert_eq!(*stranger.got.lock().expect("no panic"), []);
}
