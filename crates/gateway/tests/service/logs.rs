//! Logs: the page, its live lines, errors by kind, and the same as JSON.

use axum::http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::Dashboard;
use crate::synthetic::HOSTILE;

/// Beside the blank one.
fn lines(page: &str) -> usize {
    page.matches("<li class=\"log\"").count() - 1
}

#[tokio::test]
async fn the_page_has_the_lines_that_the_query_of_its_address_finds() {
    let dashboard = Dashboard::with_machines(2).await;
    let page = dashboard.get("/logs?q=level:%3E%3Derror+service:api").await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(lines(&page.body), 1);
    assert!(page.body.contains("connection to 10.0.0.7:5432 refused"));
    assert!(page.body.contains("<span class=\"word\">error</span>"), "the level is a word");
    assert!(page.body.contains("value=\"level:&#62;=error service:api\""), "{}", page.body);
    let all = dashboard.get("/logs").await;
    assert_eq!(lines(&all.body), 5);
    let older = all
        .body
        .split("<a class=\"button\" href=\"./")
        .find_map(|rest| rest.split('"').next().filter(|address| address.starts_with("logs?")));
    let older = older.expect("a link to what is older").replace("&#38;", "&");
    let page = dashboard.get(&format!("/{older}")).await;
    assert_eq!(lines(&page.body), 1);
}

#[tokio::test]
async fn how_much_was_logged_is_shown_over_time() {
    let dashboard = Dashboard::with_machines(2).await;
    const CAPTION: &str = "<figcaption class=\"caption\">";
    // A page does not wait long for it.
    let caption = async |path: &str| {
        let page = dashboard.eventually(path, |page| page.contains(CAPTION)).await.body;
        assert!(page.contains("id=\"log-bars\"") && page.contains("<path class=\"all\" d=\"M"));
        let caption = page.split(CAPTION).nth(1).expect("it was looked for");
        caption.split('<').next().unwrap_or_default().to_owned()
    };
    let all = caption("/logs?span=1h").await;
    assert!(all.contains(" of them errors; one bar is 1 min"), "{all}");
    let none = caption("/logs?span=1h&q=service:api").await;
    assert!(none.contains(" events, 0 of them errors;"), "{none}");
    let wider = caption("/logs?q=level:error+refused").await;
    assert!(wider.contains("words and attributes are not counted"), "{wider}");
    let nobody = dashboard.get("/logs?q=service:nobody").await.body;
    assert!(!nobody.contains(CAPTION));
    // A past that does not answer keeps nobody from the lines.
    dashboard.fleet.hang_history();
    let page = dashboard.get("/logs").await;
    assert!(
        page.status == StatusCode::OK && lines(&page.body) == 5 && !page.body.contains("log-bars")
    );
}

#[tokio::test]
async fn log_text_is_text_and_nothing_else() {
    let dashboard = Dashboard::with_machines(2).await;
    for path in ["/logs", "/logs/errors", "/logs?q=%3Cimg"] {
        let page = dashboard.get(path).await;
        assert!(!page.body.contains("<img"), "{path} has markup from a log");
    }
    assert!(dashboard.get("/logs").await.body.contains("&#60;img src=x"));
    let json = dashboard.get("/api/v1/logs?query=service:worker+level:error").await.json();
    assert_eq!(json["entries"][0]["body"], HOSTILE);
}

#[tokio::test]
async fn a_query_that_cannot_be_read_is_shown_with_its_problem() {
    let dashboard = Dashboard::with_machines(2).await;
    let page = dashboard.get("/logs?q=level:eror").await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    assert!(page.body.contains("character 7"), "{}", page.body);
    assert!(page.body.contains("value=\"level:eror\""), "what was typed is still there");
    for path in
        ["/api/v1/logs?query=%22", "/api/v1/logs?limit=x", "/api/v1/logs?q=x", "/logs?span=1y"]
    {
        assert_eq!(dashboard.get(path).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn errors_by_kind_lead_to_their_lines() {
    let dashboard = Dashboard::with_machines(2).await;
    let page = dashboard.get("/logs/errors?span=1h").await;
    assert_eq!(page.body.matches("<li data-group=").count(), 2);
    assert!(page.body.contains("on build-box, web-1, web-2 and 1 more"));
    assert!(page.body.contains("<svg class=\"bars\""));
    let json = dashboard.get("/api/v1/logs/errors").await.json();
    assert_eq!(json["groups"][0]["id"], "0011223344556677");
    assert_eq!(json["bucket_ms"], 60_000);
}

#[tokio::test]
async fn a_tail_is_a_stream_of_events_that_ends_with_the_dashboard() {
    let dashboard = Dashboard::with_machines(2).await;
    let path = "/api/v1/logs/tail?query=level:fatal";
    let mut stream = tokio::net::TcpStream::connect(dashboard.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", dashboard.address);
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !(text.contains("panicked") && text.contains("\"dropped\":3")) {
        let read =
            tokio::time::timeout(std::time::Duration::from_secs(20), stream.read(&mut buffer));
        let count = read.await.expect("an event within 20 s").unwrap();
        assert!(count > 0, "{path} ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(text.contains("text/event-stream"), "{text}");
}
