//! A browser, spoken to by WebDriver: just enough of it to look at pages.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// Killed when it is dropped, however the command ends.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program says first: its address.
pub(crate) fn first_line(child: &mut Child) -> Result<String> {
    let stdout = child.stdout.take().context("the program has no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim().is_empty() {
        bail!("the program ended before it said its address");
    }
    Ok(line.trim().to_owned())
}

/// Chromium's driver, on a port of its own. Ends with everything it opened.
pub(crate) struct Driver {
    process: Running,
    port: u16,
}

impl Driver {
    pub(crate) fn start() -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Running(command.spawn().context("failed to start chromedriver")?);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if began.elapsed() > PATIENCE {
                bail!("chromedriver does not listen");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(Self { process, port })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// A browser that has seen nothing yet, with a window of this size.
    pub(crate) fn open(&self, width: u32, height: u32, dark: bool) -> Result<Browser> {
        let args =
            ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-dev-shm-usage"];
        let wishes = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": args },
        } } });
        let answer = ask(self.port, "POST", "/session", &wishes)?;
        let id = answer["sessionId"].as_str().context("no session")?;
        let browser = Browser { port: self.port, path: format!("/session/{id}") };
        browser.resize(width, height)?;
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        browser.tell("Emulation.setEmulatedMedia", json!({ "features": [feature] }))?;
        Ok(browser)
    }
}

/// One window. Closed when it is dropped.
pub(crate) struct Browser {
    port: u16,
    path: String,
}

impl Browser {
    pub(crate) fn resize(&self, width: u32, height: u32) -> Result<()> {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.tell("Emulation.setDeviceMetricsOverride", size).map(drop)
    }

    pub(crate) fn go(&self, address: &str) -> Result<()> {
        self.post("/url", &json!({ "url": address })).map(drop)
    }

    /// What the body of this function returns on the page.
    pub(crate) fn run(&self, script: &str) -> Result<Value> {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until the script returns true.
    pub(crate) fn until(&self, script: &str) -> Result<()> {
        let began = Instant::now();
        while self.run(script)? != Value::Bool(true) {
            if began.elapsed() > PATIENCE {
                bail!("after {} s still not true: {script}", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// What is in the window, as PNG.
    pub(crate) fn picture(&self) -> Result<Vec<u8>> {
        let answer = ask(self.port, "GET", &format!("{}/screenshot", self.path), &Value::Null)?;
        decode(answer.as_str().context("no picture")?)
    }

    /// A command of the protocol that Chromium's own tools speak.
    pub(crate) fn tell(&self, command: &str, params: Value) -> Result<Value> {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": params }))
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        ask(self.port, "POST", &format!("{}{path}", self.path), body)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
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
