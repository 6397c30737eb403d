//! The README's pictures, from the real pages over machines that are made up.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::{browser, shell};

/// Up to the first whose name is hostile: a test of the pages, and no picture for a first impression.
const MACHINES: &str = "7";
const PATIENCE: Duration = Duration::from_secs(60);
/// After everything is there: what moves has moved, what was drawn twice is drawn.
const SETTLE: Duration = Duration::from_secs(4);

/// File, path, width and height in pixels, dark, and what must hold before it is taken.
const PICTURES: [(&str, &str, u32, u32, bool, &str); 4] = [
    ("fleet.png", "/?sort=cpu&order=desc", 1440, 700, true, LIVE),
    ("machine.png", "/machines/db-primary", 1440, 900, true, CHARTS),
    ("compare.png", "/?compare=memory&group=env", 1440, 900, true, CHARTS),
    ("health.png", "/about/health", 1440, 900, false, LIVE),
];
const LIVE: &str = "return document.getElementById('link').dataset.state === 'live'";
const CHARTS: &str = "return document.getElementById('link').dataset.state === 'live'
    && [...document.querySelectorAll('.chart')]
        .filter(c => c.checkVisibility() && c.getBoundingClientRect().top < innerHeight)
        .every(c => Number(c.dataset.points) > 50)";

/// Killed when it is dropped, however the command ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn run() -> Result<()> {
    browser::make_available()?;
    let example = ["--locked", "--package", "gateway", "--example", "dashboard"];
    shell::cargo(["build"].into_iter().chain(example))?;
    let mut dashboard = shell::command_cargo(
        ["run", "--quiet"].into_iter().chain(example).chain(["--", MACHINES, "0"]),
    );
    let mut dashboard = Running(dashboard.stdout(Stdio::piped()).spawn()?);
    let url = first_line(&mut dashboard.0)?;
    let (_driver, port) = driver()?;
    for (file, path, width, height, dark, ready) in PICTURES {
        let session = Session::open(port, width, height, dark)?;
        let png = session.picture(&format!("{url}{path}"), ready);
        session.close();
        let target = images().join(file);
        std::fs::write(&target, png?)
            .with_context(|| format!("failed to write {}", target.display()))?;
        println!("wrote docs/images/{file}");
    }
    Ok(())
}

fn images() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/images")).to_owned()
}

fn first_line(child: &mut Child) -> Result<String> {
    let stdout = child.stdout.take().context("the dashboard has no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim().is_empty() {
        bail!("the dashboard ended before it said its address");
    }
    Ok(line.trim().to_owned())
}

fn driver() -> Result<(Running, u16)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("chromedriver");
    command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
    let child = Running(command.spawn().context("failed to start chromedriver")?);
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if began.elapsed() > PATIENCE {
            bail!("chromedriver does not listen");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok((child, port))
}

/// A window of one browser, spoken to by WebDriver.
struct Session {
    port: u16,
    path: String,
}

impl Session {
    fn open(port: u16, width: u32, height: u32, dark: bool) -> Result<Self> {
        let args =
            ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-dev-shm-usage"];
        let wishes = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": args },
        } } });
        let answer = ask(port, "POST", "/session", &wishes)?;
        let id = answer["sessionId"].as_str().context("no session")?;
        let session = Self { port, path: format!("/session/{id}") };
        let cdp = |cmd: &str, params: Value| {
            session.post("/goog/cdp/execute", &json!({ "cmd": cmd, "params": params }))
        };
        cdp(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        )?;
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        cdp("Emulation.setEmulatedMedia", json!({ "features": [feature] }))?;
        Ok(session)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        ask(self.port, "POST", &format!("{}{path}", self.path), body)
    }

    /// The page at this address once it is ready, as PNG.
    fn picture(&self, address: &str, ready: &str) -> Result<Vec<u8>> {
        self.post("/url", &json!({ "url": address }))?;
        let began = Instant::now();
        let script = json!({ "script": ready, "args": [] });
        while self.post("/execute/sync", &script)? != Value::Bool(true) {
            if began.elapsed() > PATIENCE {
                bail!("{address} is not ready after {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        std::thread::sleep(SETTLE);
        let answer = ask(self.port, "GET", &format!("{}/screenshot", self.path), &Value::Null)?;
        decode(answer.as_str().context("no picture")?)
    }

    fn close(&self) {
        let _ = ask(self.port, "DELETE", &self.path, &Value::Null);
    }
}

/// One request; the `value` of the answer.
fn ask(port: u16, method: &str, path: &str, body: &Value) -> Result<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        answer.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(("content-length", value)) = line.to_lowercase().split_once(':') {
            length = value.trim().parse().context("a strange content-length")?;
        }
    }
    let mut bytes = vec![0; length];
    answer.read_exact(&mut bytes)?;
    let answer: Value = serde_json::from_slice(&bytes).context("an answer that is no JSON")?;
    if let Some(error) = answer["value"]["error"].as_str() {
        bail!("{method} {path}: {error}: {}", answer["value"]["message"]);
    }
    Ok(answer["value"].clone())
}

/// Base64, as WebDriver sends pictures.
fn decode(text: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut have) = (0_u32, 0_u32);
    for c in text.bytes().filter(|c| *c != b'=') {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("not base64: byte {c}"),
        };
        bits = bits << 6 | u32::from(six);
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
            bits &= (1 << have) - 1;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_and_without_padding() {
        let check = |text: &str, expected: &[u8]| {
            assert_eq!(decode(text).expect("base64"), expected, "{text}");
        };
        check("", b"");
        check("TQ==", b"M");
        check("TXU=", b"Mu");
        check("TXVz", b"Mus");
        check("+/+/", &[0xfb, 0xff, 0xbf]);
        assert!(decode("T Q").is_err());
    }
}
