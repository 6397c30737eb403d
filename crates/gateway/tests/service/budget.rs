//! What a browser has to fetch before the first chart is live.

use std::collections::BTreeSet;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::synthetic::machine_id;
use crate::{Dashboard, unchunk};

/// Compressed, over the wire, without heads.
const BUDGET_BYTES: usize = 100 * 1024;

/// The body as it travels.
async fn compressed(dashboard: &Dashboard, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(dashboard.address).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\naccept-encoding: gzip\r\n\r\n",
        dashboard.address
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
    let body = &bytes[end + 4..];
    if head.contains("transfer-encoding: chunked") { unchunk(body) } else { body.to_vec() }
}

/// Every path of an asset that this text refers to, as `static/…`.
fn assets(page: &str) -> BTreeSet<String> {
    let found = page.match_indices("static/").map(|(at, _)| &page[at..]);
    found.filter_map(|rest| rest.split_once('"').map(|(path, _)| path.to_owned())).collect()
}

/// What a module imports at once; what it imports when it is needed does not count.
fn imports(module: &str) -> Vec<String> {
    let lines = module.lines().filter(|line| line.starts_with("import "));
    let paths = lines.filter_map(|line| line.split('\'').nth(1));
    paths.filter_map(|path| path.strip_prefix("./").map(str::to_owned)).collect()
}

#[tokio::test]
async fn what_is_fetched_before_the_first_live_chart_is_within_the_budget() {
    let dashboard = Dashboard::with_machines(4).await;
    // It has 64 CPUs.
    let path = format!("/machines/{}", machine_id(3));
    let mut total = compressed(&dashboard, &path).await.len();
    let page = dashboard.get(&path).await.body;
    let mut wanted: Vec<String> = assets(&page).into_iter().collect();
    let mut counted = BTreeSet::new();
    let mut sizes = vec![format!("{total} the page")];
    while let Some(asset) = wanted.pop() {
        if !counted.insert(asset.clone()) {
            continue;
        }
        let size = compressed(&dashboard, &format!("/{asset}")).await.len();
        total += size;
        sizes.push(format!("{size} {asset}"));
        let module = dashboard.get(&format!("/{asset}")).await.body;
        if asset.ends_with(".js") && !asset.contains("/vendor/") {
            let folder = asset.rsplit_once('/').unwrap().0;
            wanted.extend(imports(&module).iter().map(|name| format!("{folder}/{name}")));
        }
    }
    // The chart and what draws it are among them, else nothing was counted.
    for part in ["uPlot.iife", "js/chart.js", "js/axes.js", "css/muster.css"] {
        assert!(counted.iter().any(|asset| asset.contains(part)), "{part} was not counted");
    }
    // The first chart asks for its own values alone; the others follow.
    let window = page.split_once("href=\"../api/").expect("a preload").1;
    let window =
        window.split_once('"').expect("its end").0.replace("&#38;", "&").replace("&amp;", "&");
    let window = format!("/api/{window}");
    assert!(window.contains("/window?metrics=system.cpu.utilization&having=cpu.mode"), "{window}");
    let window = compressed(&dashboard, &window).await.len();
    assert!(window > 500, "{window} bytes are no five minutes");
    total += window;
    sizes.push(format!("{window} the last five minutes of the first chart"));
    println!("{total} bytes:\n{}", sizes.join("\n"));
    assert!(total <= BUDGET_BYTES, "{total} bytes:\n{}", sizes.join("\n"));
}
