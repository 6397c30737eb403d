//! The pages as a person sees them, in headless Chromium.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use thirtyfour::common::command::{Command as WebDriverCommand, ExtensionCommand};
use thirtyfour::{
    CapabilitiesHelper as _, ChromiumLikeCapabilities as _, DesiredCapabilities, WebDriver,
};

use crate::cluster::{Cluster, PATIENCE, free_address, machines};
use crate::eventually::eventually;

/// A browser of our own. Closed with its driver.
pub(crate) struct Browser {
    pub(crate) driver: WebDriver,
    process: Child,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command that Chromium's driver adds to the standard.
#[derive(Debug)]
struct Chromium {
    endpoint: &'static str,
    parameters: Value,
}

impl ExtensionCommand for Chromium {
    fn parameters_json(&self) -> Option<Value> {
        Some(self.parameters.clone())
    }

    fn method(&self) -> axum::http::Method {
        axum::http::Method::POST
    }

    fn endpoint(&self) -> Arc<str> {
        Arc::from(self.endpoint)
    }
}

impl Browser {
    /// `None`, said aloud, when there is no browser here; under `CI=true` that is a failure.
    pub(crate) async fn open() -> Option<Self> {
        let address = free_address();
        let started = Command::new("chromedriver")
            .arg(format!("--port={}", address.port()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match started {
            Ok(process) => process,
            Err(error) => {
                let required = std::env::var("CI").is_ok_and(|ci| ci == "true");
                assert!(!required, "chromedriver does not start: {error}");
                eprintln!(
                    "SKIPPED: chromedriver does not start ({error}); `cargo xtask test` installs it"
                );
                return None;
            }
        };
        // The driver's client is built without a provider of its own; it speaks to loopback without TLS.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut wishes = DesiredCapabilities::chrome();
        for argument in
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        {
            wishes.add_arg(argument).expect("an argument");
        }
        wishes.set("goog:loggingPrefs", json!({ "browser": "ALL" })).expect("a wish");
        let url = format!("http://{address}");
        let driver = eventually(PATIENCE, || {
            let (url, wishes) = (url.clone(), wishes.clone());
            async move { WebDriver::new(&url, wishes).await.map_err(|error| error.to_string()) }
        })
        .await;
        Some(Self { driver, process })
    }

    pub(crate) async fn run(&self, script: &str) -> Value {
        let answer = self.driver.execute(script, Vec::new()).await.expect(script);
        answer.json().clone()
    }

    /// Waits until the script answers something that counts as true, and returns it.
    pub(crate) async fn until(&self, what: &str, script: &str) -> Value {
        eventually(PATIENCE, || async {
            match self.run(script).await {
                Value::Null | Value::Bool(false) => Err(format!("{what}: not yet")),
                Value::String(text) if text.is_empty() => Err(format!("{what}: not yet")),
                answer => Ok(answer),
            }
        })
        .await
    }

    /// Waits until the script answers something else than it does now, `times` times.
    async fn changes(&self, what: &str, script: &str, times: usize) {
        for _ in 0..times {
            let before = self.run(script).await;
            eventually(Duration::from_secs(10), || async {
                let now = self.run(script).await;
                (now != before).then_some(()).ok_or(format!("{what} stays {before}"))
            })
            .await;
        }
    }

    /// What the console complained about since the last time, among it what the content policy forbade.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = Chromium { endpoint: "/se/log", parameters: json!({ "type": "browser" }) };
        let entries = self.driver.handle().cmd(WebDriverCommand::ExtensionCommand(Box::new(log)));
        let entries: Vec<Value> = entries.await.expect("a log").value().expect("a list");
        let complaints =
            entries.iter().filter(|e| matches!(e["level"].as_str(), Some("SEVERE" | "WARNING")));
        complaints.map(|entry| entry["message"].to_string()).collect()
    }

    /// A view of this width: as on a telephone, or as on a desk. A window cannot be made that narrow, its
    /// view can.
    pub(crate) async fn width(&self, width: u32) {
        let size =
            json!({ "width": width, "height": 740, "deviceScaleFactor": 1, "mobile": false });
        self.tell("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// As a person who prefers `dark`, or `light`.
    pub(crate) async fn scheme(&self, scheme: &str) {
        self.media(&[("prefers-color-scheme", scheme)]).await;
    }

    /// As a system that is set like this, and else like any.
    pub(crate) async fn media(&self, features: &[(&str, &str)]) {
        let feature = |(name, value): &(&str, &str)| json!({ "name": name, "value": value });
        let features: Vec<Value> = features.iter().map(feature).collect();
        self.tell("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// What a person would answer when a page asks: `granted` or `denied`.
    pub(crate) async fn allow_notifications(&self, state: &str) {
        let parameters = json!({ "descriptor": { "name": "notifications" }, "state": state });
        let command = Chromium { endpoint: "/permissions", parameters };
        let command = WebDriverCommand::ExtensionCommand(Box::new(command));
        self.driver.handle().cmd(command).await.expect("is understood");
    }

    /// Runs this before anything else on every page that this tab opens from now on.
    pub(crate) async fn on_new_pages(&self, script: &str) {
        self.tell("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await;
    }

    /// A command of the protocol that Chromium's own tools speak.
    async fn tell(&self, command: &str, parameters: Value) {
        let parameters = json!({ "cmd": command, "params": parameters });
        let command = Chromium { endpoint: "/goog/cdp/execute", parameters };
        let command = WebDriverCommand::ExtensionCommand(Box::new(command));
        self.driver.handle().cmd(command).await.expect("is understood");
    }

    pub(crate) async fn close(self) {
        let _ = self.driver.clone().quit().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_are_live() {
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    let channel = cluster.channel().await;
    let machine = eventually(PATIENCE, || async {
        let known = machines(channel.clone()).await.into_iter().next();
        known.filter(|m| m.headline.is_some()).ok_or("no headline yet".to_owned())
    })
    .await;

    let fleet = cluster.url();
    browser.driver.goto(&fleet).await.expect("the fleet page");
    let row = format!(
        "return [...document.querySelectorAll('a[href*=\"/machines/{}\"]')].map(a => (a.closest('tr, li, article') ?? a).innerText)[0]",
        machine.id
    );
    let text = browser.until("the machine's row", &row).await;
    assert!(text.as_str().is_some_and(|t| t.contains(&machine.host_name)), "{text}");
    browser.changes("the machine's row", &row, 3).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    browser
        .driver
        .goto(format!("{fleet}/machines/{}", machine.id))
        .await
        .expect("the machine page");
    browser.until("a chart", "return document.querySelectorAll('.uplot canvas').length >= 4").await;
    browser.until("a line in the chart", &format!("return {COLOURED} > 20")).await;
    browser.changes("the first chart", &format!("return {COLOURED}"), 3).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    let asked = "return performance.getEntriesByType('resource').filter(r => r.name.includes('/api/')).length";
    let before = browser.run(asked).await.as_u64();
    browser.run(RANGE).await;
    browser.until("an hour from history", &format!("{asked} > {}", before.unwrap_or(0))).await;
    browser
        .until(
            "a chart of the hour",
            "return document.querySelectorAll('.uplot canvas').length >= 4",
        )
        .await;
    browser.until("a line in the chart of the hour", &format!("return {COLOURED} > 20")).await;

    let processes = format!("{fleet}/machines/{}", machine.id);
    browser.driver.goto(&processes).await.expect("the machine page");
    let listed = "return document.body.innerText.includes('muster')";
    browser.until("a process that surely runs", listed).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    browser.width(360).await;
    for page in [
        "/".to_owned(),
        format!("/machines/{}", machine.id),
        "/add".to_owned(),
        "/alerts".to_owned(),
        "/alerts/new?from=cpu".to_owned(),
        "/alerts/channel-new?kind=email".to_owned(),
        "/about/health".to_owned(),
    ] {
        browser.driver.goto(format!("{fleet}{page}")).await.expect("a page");
        browser.until(&page, "return document.readyState === 'complete'").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let too_wide = browser.run(TOO_WIDE).await;
        assert_eq!(too_wide, json!([]), "{page} scrolls sideways on a screen of 360 pixels");
        assert_eq!(browser.complaints().await, Vec::<String>::new(), "{page}");
    }
    browser.close().await;
}

/// How much of the first chart is neither background, nor axis, nor text: those are grey. Read from a copy,
/// because Chromium warns of reading a canvas that is drawn to.
const COLOURED: &str = "(() => {
    const chart = document.querySelector('.uplot canvas');
    const copy = new OffscreenCanvas(chart.width, chart.height);
    const context = copy.getContext('2d', { willReadFrequently: true });
    context.drawImage(chart, 0, 0);
    const { data } = context.getImageData(0, 0, chart.width, chart.height);
    let coloured = 0;
    for (let i = 0; i < data.length; i += 4) {
        const [red, green, blue, alpha] = data.subarray(i, i + 4);
        if (alpha > 100 && Math.max(red, green, blue) - Math.min(red, green, blue) > 40) coloured++;
    }
    return coloured;
})()";

/// What makes the page wider than the screen; empty when it is not.
pub(crate) const TOO_WIDE: &str = "
    const root = document.documentElement;
    if (root.scrollWidth <= 360) return [];
    const wide = [...document.querySelectorAll('body *')].filter(e => {
        for (let p = e.parentElement; p && p !== document.body; p = p.parentElement) {
            if (getComputedStyle(p).overflowX !== 'visible') return false;
        }
        return e.getBoundingClientRect().right > 361;
    });
    const named = wide.map(e => `${e.tagName}#${e.id}.${e.getAttribute('class')} ${e.getBoundingClientRect().right}`);
    return [`${root.scrollWidth} pixels`, ...named.slice(0, 8)];";

/// Chooses the last hour.
const RANGE: &str = "document.querySelector('[data-range=\"1h\"]').click()";
