//! The dashboard under a path of its own, behind a proxy.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::synthetic::machine_id;
use crate::{Answer, Dashboard};

const PREFIX: &str = "/ops/muster";

/// Takes the prefix off and passes everything else on, as proxies do; what is not under the prefix is
/// somebody else's. One request for each connection, which may become a WebSocket.
async fn proxy(upstream: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut browser, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(browser.read_u8().await?);
                }
                let head = String::from_utf8_lossy(&head);
                let Some(rest) = head.strip_prefix(&format!("GET {PREFIX}/")) else {
                    return browser
                        .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                        .await;
                };
                let mut server = TcpStream::connect(upstream).await?;
                server.write_all(format!("GET /{rest}").as_bytes()).await?;
                copy_bidirectional(&mut browser, &mut server).await.map(drop)
            });
        }
    });
    address
}

async fn get(proxy: SocketAddr, path: &str) -> Answer {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {proxy}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    Answer::parse(&bytes)
}

/// Where a browser goes from this page.
fn resolve(page: &str, link: &str) -> String {
    let link = link.split(['?', '#']).next().unwrap_or_default();
    if link.starts_with('/') {
        return link.to_owned();
    }
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in link.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    if link.ends_with("./") || link == "." {
        format!("{}/", path.trim_end_matches('/'))
    } else {
        path
    }
}

fn links(page: &str) -> BTreeSet<&str> {
    let named = ["href=\"", "src=\"", "hx-get=\"", "action=\""].into_iter();
    let found = named.flat_map(|name| page.match_indices(name).map(move |(at, _)| at + name.len()));
    found
        .filter_map(|at| page[at..].split_once('"').map(|(link, _)| link))
        .filter(|link| !link.is_empty() && !link.starts_with(['#', '?']))
        .collect()
}

#[tokio::test]
async fn every_link_of_every_page_stays_under_the_prefix_and_leads_somewhere() {
    let dashboard = Dashboard::with_machines(3).await;
    let proxy = proxy(dashboard.address).await;
    let pages = ["/", "/add", "/alerts", "/about/health"].map(str::to_owned);
    for page in pages.into_iter().chain([format!("/machines/{}", machine_id(0))]) {
        let page = format!("{PREFIX}{page}");
        let answer = get(proxy, &page).await;
        assert_eq!(answer.status, 200, "{page}");
        let links = links(&answer.body);
        assert!(links.len() > 5, "{page}: {links:?}");
        for link in links {
            let path = resolve(&page, link);
            assert!(path.starts_with(&format!("{PREFIX}/")), "{page}: {link} leads to {path}");
            // What every role serves beside its pages is not part of this test's server.
            let served = !["/health", "/readyz", "/metrics"]
                .iter()
                .any(|end| path == format!("{PREFIX}{end}"));
            if served {
                // A fragment may miss its parameters, and a form's target is only for forms, but they are there.
                let status = get(proxy, &path).await.status.as_u16();
                assert!(
                    matches!(status, 200 | 400 | 405),
                    "{page}: {link} leads to {path}: {status}"
                );
            }
        }
    }
}

#[tokio::test]
async fn values_come_through_the_proxy_too() {
    let dashboard = Dashboard::with_machines(1).await;
    let proxy = proxy(dashboard.address).await;
    let address = format!("ws://{proxy}{PREFIX}/ws");
    let (mut socket, _) = tokio_tungstenite::connect_async(address).await.unwrap();
    let hello = socket.next().await.unwrap().unwrap();
    assert!(hello.to_text().unwrap().contains("\"t\":\"hello\""));
}
