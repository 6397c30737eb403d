//! Manners of the pages: tabs that nobody sees, screens and settings of all kinds, a proxy in front.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::browser::Browser;
use crate::cluster::{Cluster, PATIENCE, machines};
use crate::eventually::eventually;

const LIVE: &str = "return document.getElementById('link')?.dataset.state === 'live'";
const CHARTED: &str = "return Number(document.querySelector('.chart')?.dataset.points) > 5";

/// The page of the server's own machine.
async fn machine_page(cluster: &Cluster) -> String {
    let channel = cluster.channel().await;
    let machine = eventually(PATIENCE, || async {
        let known = machines(channel.clone()).await.into_iter().next();
        known.filter(|m| m.headline.is_some()).ok_or("no headline yet".to_owned())
    })
    .await;
    format!("{}/machines/{}", cluster.url(), machine.id)
}

/// What was sent to all pages so far.
async fn sent(cluster: &Cluster) -> f64 {
    let (_, metrics) = cluster.get("/metrics").await;
    let line = metrics.lines().find_map(|l| l.strip_prefix("muster_gateway_messages_total "));
    line.expect("a counter").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tab_that_nobody_sees_gets_nothing_and_has_missed_nothing_when_it_is_seen_again() {
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    browser.driver.goto(machine_page(&cluster).await).await.expect("the machine page");
    browser.until("a chart", CHARTED).await;
    let page = browser.driver.window().await.expect("a window");
    let before = sent(&cluster).await;
    eventually(PATIENCE, || async {
        (sent(&cluster).await > before + 3.0).then_some(()).ok_or("nothing is sent".to_owned())
    })
    .await;

    let other = browser.driver.new_tab().await.expect("a tab");
    browser.driver.switch_to_window(other).await.expect("the tab");
    // What was on its way arrives; then nothing but a sign of life each 15 s.
    let quiet = eventually(PATIENCE, || async {
        let before = sent(&cluster).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let after = sent(&cluster).await;
        (after - before <= 1.0).then_some(after - before).ok_or("it is sent to".to_owned())
    })
    .await;
    assert!(quiet <= 1.0);

    browser.driver.switch_to_window(page).await.expect("the page");
    let caught_up = "const { x } = document.querySelector('.chart').chart.values;
        const now = Date.now() / 1000;
        if (now - x.at(-1) > 3) return null;
        return Math.max(...x.slice(-8).map((time, i, all) => (i > 0 ? time - all[i - 1] : 0)));";
    eventually(PATIENCE, || async {
        let longest = browser.run(caught_up).await.as_f64().ok_or("not there yet")?;
        (longest < 4.0).then_some(()).ok_or(format!("a hole of {longest} s"))
    })
    .await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chart_out_of_sight_is_not_drawn_and_is_up_to_date_when_it_is_seen() {
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    browser.width(1280).await;
    browser.driver.goto(machine_page(&cluster).await).await.expect("the machine page");
    browser.until("a chart", CHARTED).await;
    // Each is drawn once, so that nothing is empty when it comes into sight.
    let last = "const last = [...document.querySelectorAll('.chart:not([hidden])')].at(-1);";
    let drawn_once =
        format!("{last} return Number(last.dataset.points) > 0 && !last.chart.visible");
    browser.until("the last chart", &drawn_once).await;
    let first = "return Number(document.querySelector('.chart').dataset.latest)";
    let latest = format!("{last} return Number(last.dataset.latest)");
    let (began, before) = (browser.run(first).await, browser.run(&latest).await);
    let began = began.as_i64().expect("a time");
    browser.until("the first chart moves on", &format!("{first} > {}", began + 4_000)).await;
    assert_eq!(browser.run(&latest).await, before, "it is drawn though nobody sees it");
    browser.run(&format!("{last} last.scrollIntoView()")).await;
    let caught_up = format!("{latest} > {}", began + 2_000);
    browser.until("the last chart is up to date", &caught_up).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wide_screen_is_used() {
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    browser.width(2560).await;
    browser.driver.goto(machine_page(&cluster).await).await.expect("the machine page");
    browser.until("a chart", CHARTED).await;
    let columns = "const boxes = [...document.querySelectorAll('.chart:not(.full):not([hidden])')];
        return new Set(boxes.map(box => Math.round(box.getBoundingClientRect().left))).size";
    assert!(browser.run(columns).await.as_u64() >= Some(3), "charts stand in few columns");
    for page in ["", "/?compare=cpu", "/logs", "/alerts", "/about/health"] {
        if !page.is_empty() {
            browser.driver.goto(format!("{}{page}", cluster.url())).await.expect("a page");
        }
        browser.until(page, "return document.readyState === 'complete'").await;
        let width = "return document.documentElement.scrollWidth";
        assert!(browser.run(width).await.as_u64() <= Some(2560), "{page} scrolls sideways");
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_no_motion_sees_none() {
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    let moving = "return document.getAnimations().length";
    let moves = "return document.getAnimations().length > 0";
    // Known before, or the page that waits for a new one would leave for it.
    let machine = machine_page(&cluster).await;
    let add = format!("{}/add", cluster.url());
    browser.driver.goto(&add).await.expect("a page");
    browser.until("something that moves", moves).await;
    browser.media(&[("prefers-reduced-motion", "reduce")]).await;
    for page in [add, cluster.url(), machine] {
        browser.driver.goto(&page).await.expect("a page");
        browser.until(&page, LIVE).await;
        assert_eq!(browser.run(moving).await, json!(0), "{page}");
    }
    browser.close().await;
}

/// A system that forces its own few colours must still show what is chosen and what is live.
#[tokio::test(flavor = "multi_thread")]
async fn forced_colours_hide_no_choice() {
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    browser.media(&[("forced-colors", "active")]).await;
    browser.driver.goto(machine_page(&cluster).await).await.expect("the machine page");
    browser.until("a chart", CHARTED).await;
    browser.until("a live page", LIVE).await;
    let look = "const look = (selector) => getComputedStyle(document.querySelector(selector)).backgroundColor;
        return [look('[data-range][aria-pressed=true]'), look('[data-range][aria-pressed=false]'), look('.link .dot'), look('body')]";
    let look = browser.run(look).await;
    assert_ne!(look[0], look[1], "the chosen range looks like any other");
    assert_ne!(look[2], look[3], "nobody sees that the page is live");
    browser.close().await;
}

const PREFIX: &str = "/ops/muster";

/// Takes the prefix off and passes everything else on, as proxies do. One request for each connection, which
/// may become a WebSocket.
async fn proxy(upstream: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((browser, _)) = listener.accept().await {
            tokio::spawn(pass(browser, upstream));
        }
    });
    address
}

async fn pass(mut browser: TcpStream, upstream: SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(browser.read_u8().await?);
    }
    let head =
        String::from_utf8_lossy(&head).replace("Connection: keep-alive", "Connection: close");
    let within = format!(" {PREFIX}/");
    if !head.lines().next().is_some_and(|line| line.contains(&within)) {
        let nothing = "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        return browser.write_all(nothing.as_bytes()).await;
    }
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(head.replacen(&within, " /", 1).as_bytes()).await?;
    copy_bidirectional(&mut browser, &mut server).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_under_a_path_everything_is_live() {
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    let proxy = proxy(cluster.address).await;
    browser.driver.goto(format!("http://{proxy}{PREFIX}/")).await.expect("the fleet page");
    browser.until("a live page", LIVE).await;
    let open = "document.querySelector('[data-machine-id] .name')?.click();
        return location.pathname.includes('/machines/')";
    browser.until("a machine's page", open).await;
    browser.until("a chart", CHARTED).await;
    browser.until("a live page", LIVE).await;
    browser.run("document.querySelector('[data-range=\"1h\"]').click()").await;
    browser.until("an hour", "return document.querySelector('.chart').dataset.points > 0").await;
    for page in ["logs", "alerts", "add", "about/health"] {
        let go = format!(
            "document.querySelector('nav a[href$=\"{page}\"]')?.click();
            return location.pathname === '{PREFIX}/{page}'"
        );
        browser.until(page, &go).await;
        browser.until(page, LIVE).await;
    }
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    let outside = format!(
        "return performance.getEntriesByType('resource')
        .map(one => new URL(one.name).pathname).filter(path => !path.startsWith('{PREFIX}/'))"
    );
    assert_eq!(browser.run(&outside).await, Value::Array(Vec::new()), "asked outside its path");
    browser.close().await;
}
