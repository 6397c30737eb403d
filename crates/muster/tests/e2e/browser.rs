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
struct Browser {
    driver: WebDriver,
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
    async fn open() -> Option<Self> {
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

    async fn run(&self, script: &str) -> Value {
        let answer = self.driver.execute(script, Vec::new()).await.expect(script);
        answer.json().clone()
    }

    /// Waits until the script answers something that counts as true, and returns it.
    async fn until(&self, what: &str, script: &str) -> Value {
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
    async fn complaints(&self) -> Vec<String> {
        let log = Chromium { endpoint: "/se/log", parameters: json!({ "type": "browser" }) };
        let entries = self.driver.handle().cmd(WebDriverCommand::ExtensionCommand(Box::new(log)));
        let entries: Vec<Value> = entries.await.expect("a log").value().expect("a list");
        let complaints =
            entries.iter().filter(|e| matches!(e["level"].as_str(), Some("SEVERE" | "WARNING")));
        complaints.map(|entry| entry["message"].to_string()).collect()
    }

    /// As on a telephone. A window cannot be made that narrow, its view can.
    async fn narrow(&self, width: u32) {
        let parameters = json!({
            "cmd": "Emulation.setDeviceMetricsOverride",
            "params": { "width": width, "height": 740, "deviceScaleFactor": 1, "mobile": false },
        });
        let command = Chromium { endpoint: "/goog/cdp/execute", parameters };
        let command = WebDriverCommand::ExtensionCommand(Box::new(command));
        self.driver.handle().cmd(command).await.expect("is understood");
    }

    async fn close(self) {
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
    // Something other than the axes is drawn: colours that are no grey.
    let drawn = "const c = document.querySelector('.uplot canvas'); \
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0; \
        for (let i = 0; i < d.length; i += 4) \
          if (d[i + 3] > 100 && Math.max(d[i], d[i+1], d[i+2]) - Math.min(d[i], d[i+1], d[i+2]) > 40) n++; \
        return n > 20;";
    browser.until("a line in the chart", drawn).await;
    browser
        .changes("the first chart", "return document.querySelector('.uplot canvas').toDataURL()", 3)
        .await;
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
    browser.until("a line in the chart of the hour", drawn).await;

    let processes = format!("{fleet}/machines/{}", machine.id);
    browser.driver.goto(&processes).await.expect("the machine page");
    let listed = "return document.body.innerText.includes('muster')";
    browser.until("a process that surely runs", listed).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    browser.narrow(360).await;
    for page in [
        "/".to_owned(),
        format!("/machines/{}", machine.id),
        "/add".to_owned(),
        "/about/health".to_owned(),
    ] {
        browser.driver.goto(format!("{fleet}{page}")).await.expect("a page");
        browser.until(&page, "return document.readyState === 'complete'").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let width = browser.run("return document.documentElement.scrollWidth").await;
        assert!(
            width.as_u64().is_some_and(|w| w <= 360),
            "{page} is {width} pixels wide on a screen of 360"
        );
        assert_eq!(browser.complaints().await, Vec::<String>::new(), "{page}");
    }
    browser.close().await;
}

/// Chooses the last hour.
const RANGE: &str = "document.querySelector('[data-range=\"1h\"]').click()";
