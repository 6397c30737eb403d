//! The WebSocket, spoken as a page does.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::Dashboard;
use crate::synthetic::{Synthetic, machine_id};

pub(crate) struct Page(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Page {
    pub(crate) async fn open(dashboard: &Dashboard) -> Self {
        let (socket, _) = connect_async(format!("ws://{}/ws", dashboard.address)).await.unwrap();
        Self(socket)
    }

    pub(crate) async fn show(&mut self, what: Value) {
        self.0.send(Message::text(what.to_string())).await.unwrap();
    }

    /// The next message of this kind that fits; fails after half a minute.
    pub(crate) async fn next(&mut self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let Some(Ok(message)) = self.0.next().await else { panic!("closed before {kind}") };
                let Message::Text(text) = message else { continue };
                let value: Value = serde_json::from_str(&text).unwrap();
                if value["t"] == kind && fits(&value) {
                    return value;
                }
            }
        };
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, found).await.unwrap_or_else(|_| panic!("no {kind} came"))
    }
}

async fn open_from(dashboard: &Dashboard, origin: &str) -> Result<(), u16> {
    let mut request = format!("ws://{}/ws", dashboard.address).into_client_request().unwrap();
    request.headers_mut().insert("origin", origin.parse().unwrap());
    match connect_async(request).await {
        Ok(_) => Ok(()),
        Err(Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn the_fleet_moves_while_history_does_not_answer() {
    let fleet = Synthetic::new(1);
    fleet.hang_history();
    let dashboard = Dashboard::start(gateway::Config::default(), fleet.clone(), fleet.link()).await;
    let mut page = Page::open(&dashboard).await;
    page.show(json!({"rows": [machine_id(0)]})).await;
    let first = page.next("fleet", |_| true).await;
    // Well before a question to history is given up.
    let moved = |fleet: &Value| fleet["rows"][0]["cpu"] != first["rows"][0]["cpu"];
    let moves = tokio::time::timeout(Duration::from_secs(8), page.next("fleet", moved));
    moves.await.expect("the fleet stands still");
}

#[tokio::test]
async fn rows_on_the_screen_move_and_the_totals_are_of_all() {
    let dashboard = Dashboard::with_machines(3).await;
    let mut page = Page::open(&dashboard).await;
    page.next("hello", |hello| hello["version"].is_string()).await;
    page.next("link", |link| link["up"] == true).await;
    page.show(json!({"rows": [machine_id(0)]})).await;
    let first = page.next("fleet", |_| true).await;
    assert_eq!(first["rows"].as_array().unwrap().len(), 1);
    assert_eq!(first["totals"]["machines"], 3);
    let moved = |fleet: &Value| fleet["rows"][0]["cpu"] != first["rows"][0]["cpu"];
    let second = page.next("fleet", moved).await;
    let ids: Vec<_> = second["rows"].as_array().unwrap().iter().map(|r| r["id"].clone()).collect();
    assert_eq!(ids, [json!(machine_id(0))]);
    page.show(json!({"rows": [machine_id(0), machine_id(2)]})).await;
    page.next("fleet", |fleet| fleet["rows"].as_array().unwrap().len() == 2).await;
    page.show(json!({"rows": [], "all": true})).await;
    page.next("fleet", |fleet| fleet["rows"].as_array().unwrap().len() == 3).await;
}

#[tokio::test]
async fn a_new_machine_is_announced() {
    let dashboard = Dashboard::with_machines(1).await;
    let mut page = Page::open(&dashboard).await;
    page.show(json!({"rows": []})).await;
    page.next("fleet", |fleet| fleet["totals"]["machines"] == 1).await;
    dashboard.fleet.add_machine();
    let news = page.next("fleet", |fleet| fleet["changed"] == true).await;
    assert_eq!(news["totals"]["machines"], 2);
}

#[tokio::test]
async fn a_watched_machine_sends_layouts_before_the_frames_that_use_them() {
    let dashboard = Dashboard::with_machines(2).await;
    let mut page = Page::open(&dashboard).await;
    page.show(json!({"machine": machine_id(0)})).await;
    let layout = page.next("layout", |_| true).await;
    let columns = layout["series"].as_array().unwrap().len();
    let frames = page.next("frames", |frames| frames["frames"][0][1] == layout["layout"]).await;
    assert_eq!(frames["machine"], machine_id(0));
    assert_eq!(frames["frames"][0][2].as_array().unwrap().len(), columns);
}

#[tokio::test]
async fn a_page_that_comes_back_gets_what_it_missed() {
    let dashboard = Dashboard::with_machines(1).await;
    // Somebody else keeps the machine's values here.
    dashboard.get(&format!("/api/v1/machines/{}/window", machine_id(0))).await;
    let mut page = Page::open(&dashboard).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let after = now.as_millis() as i64 - 60_000;
    page.show(json!({"machine": machine_id(0), "after": after})).await;
    let frames = page.next("frames", |_| true).await;
    let times: Vec<_> =
        frames["frames"].as_array().unwrap().iter().map(|f| f[0].as_i64().unwrap()).collect();
    assert!(times.len() >= 100, "{} frames of two layouts for a minute", times.len());
    assert!(times.iter().all(|&time| time > after));
}

#[tokio::test]
async fn what_comes_late_reaches_an_open_page_and_is_marked() {
    let dashboard = Dashboard::with_machines(1).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = now.as_millis() as i64;
    let missing = now - 60_000..now - 40_000;
    dashboard.fleet.miss(missing.clone());
    let path = format!("/api/v1/machines/{}/window", machine_id(0));
    let times = |window: &Value, name: &str| {
        let groups = window["groups"].as_array().unwrap().iter();
        let times = groups.flat_map(|group| group[name].as_array().cloned().unwrap_or_default());
        let times = times.map(|time| time.as_i64().unwrap());
        times.filter(|time| missing.contains(time)).collect::<Vec<_>>()
    };
    assert_eq!(times(&dashboard.get(&path).await.json(), "times"), [0; 0]);
    let mut page = Page::open(&dashboard).await;
    page.show(json!({"machine": machine_id(0)})).await;
    page.next("frames", |frames| frames["late"].is_null()).await;
    dashboard.fleet.miss(0..0);
    let late = page.next("frames", |frames| frames["late"] == true).await;
    let first = late["frames"][0][0].as_i64().unwrap();
    assert!(missing.contains(&first), "{first} is not in {missing:?}");
    let window = dashboard.get(&path).await.json();
    assert_eq!(times(&window, "times").len(), 40, "two layouts for twenty seconds");
    assert_eq!(times(&window, "late"), times(&window, "times"));
}

#[tokio::test]
async fn viewers_share_one_stream_of_the_fleet_and_one_of_each_machine() {
    let dashboard = Dashboard::with_machines(2).await;
    for _ in 0..5 {
        let mut page = Page::open(&dashboard).await;
        page.show(json!({"rows": [machine_id(0)], "machine": machine_id(0)})).await;
        page.next("frames", |_| true).await;
    }
    assert_eq!(dashboard.fleet.streams(), (1, 1));
}

#[tokio::test]
async fn what_cannot_be_shown_is_said() {
    let dashboard = Dashboard::with_machines(1).await;
    let mut page = Page::open(&dashboard).await;
    page.show(json!({"machine": "none"})).await;
    let problem = page.next("problem", |_| true).await;
    assert_eq!(problem["message"], "no such machine");
    page.show(json!({"rowz": []})).await;
    let problem = page.next("problem", |_| true).await;
    assert!(problem["message"].as_str().unwrap().contains("rowz"));
}

#[tokio::test]
async fn a_page_that_asked_for_a_machine_too_early_gets_it_once_it_is_known() {
    let dashboard = Dashboard::with_machines(1).await;
    let mut page = Page::open(&dashboard).await;
    page.show(json!({"machine": machine_id(1)})).await;
    page.next("problem", |problem| problem["message"] == "no such machine").await;
    dashboard.fleet.add_machine();
    page.next("frames", |frames| frames["machine"] == machine_id(1).as_str()).await;
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let dashboard = Dashboard::with_machines(1).await;
    let own = format!("http://{}", dashboard.address);
    assert_eq!(open_from(&dashboard, &own).await, Ok(()));
    assert_eq!(open_from(&dashboard, "http://evil.example").await, Err(403));
    assert_eq!(open_from(&dashboard, "null").await, Err(403));
}

#[tokio::test]
async fn one_viewer_too_many_is_told_to_come_back_later() {
    let fleet = crate::Synthetic::new(1);
    let config = gateway::Config { viewers_max: 1, ..Default::default() };
    let dashboard = Dashboard::start(config, fleet.clone(), fleet.link()).await;
    let page = Page::open(&dashboard).await;
    let own = format!("http://{}", dashboard.address);
    assert_eq!(open_from(&dashboard, &own).await, Err(503));
    drop(page);
    for _ in 0..100 {
        if open_from(&dashboard, &own).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the place was not given back");
}

#[tokio::test]
async fn a_message_beyond_the_limit_ends_the_viewer() {
    let dashboard = Dashboard::with_machines(1).await;
    let mut page = Page::open(&dashboard).await;
    page.next("hello", |_| true).await;
    let _ = page.0.send(Message::text("x".repeat(70_000))).await;
    let end = async { while let Some(Ok(_)) = page.0.next().await {} };
    tokio::time::timeout(Duration::from_secs(10), end).await.expect("closed");
}

#[tokio::test]
async fn open_pages_are_told_goodbye_when_the_server_stops() {
    let dashboard = Dashboard::with_machines(1).await;
    let mut page = Page::open(&dashboard).await;
    page.next("hello", |_| true).await;
    dashboard.shutdown.cancel();
    let code = async {
        loop {
            match page.0.next().await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code),
                Some(Ok(_)) => {}
                other => panic!("ended without a close frame: {other:?}"),
            }
        }
    };
    let code = tokio::time::timeout(Duration::from_secs(5), code).await.unwrap();
    assert_eq!(code, Some(CloseCode::Away));
    let run = tokio::time::timeout(Duration::from_secs(5), dashboard.run).await.unwrap();
    run.unwrap().unwrap();
}
