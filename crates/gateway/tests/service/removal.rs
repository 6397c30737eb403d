//! Removing a machine, by its page and by REST.

use axum::http::StatusCode;

use crate::Dashboard;
use crate::synthetic::machine_id;

/// Those that do not report.
const LAPTOP: usize = 4;
const OLD_NAS: usize = 6;

#[tokio::test]
async fn a_machine_is_removed_by_its_page_once_its_name_was_typed() {
    let dashboard = Dashboard::with_machines(8).await;
    let page = dashboard.get("/machines/old-nas").await.body;
    let action = format!("machines/{}/remove", machine_id(OLD_NAS));
    assert!(page.contains(&format!("action=\"../{action}\"")), "{page}");
    let path = format!("/{action}");

    let wrong = dashboard.submit(&path, "name=web-1").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(wrong.body.contains("Not removed") && wrong.body.contains("old-nas"), "{}", wrong.body);
    let elsewhere = dashboard.ask("POST", &path, "origin: http://evil.example\r\n").await;
    assert_eq!(elsewhere.status, StatusCode::FORBIDDEN);
    assert_eq!(dashboard.get("/machines/old-nas").await.status, StatusCode::OK);

    let removed = dashboard.submit(&path, "name=old-nas").await;
    assert_eq!(removed.status, StatusCode::SEE_OTHER, "{}", removed.body);
    assert_eq!(removed.headers["location"], "../../");
    assert_eq!(dashboard.get("/machines/old-nas").await.status, StatusCode::NOT_FOUND);
    dashboard.eventually("/", |page| !page.contains("old-nas")).await;

    let busy = format!("/machines/{}/remove", machine_id(0));
    let refused = dashboard.submit(&busy, "name=web-1").await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.body.contains("it reports"), "{}", refused.body);
}

#[tokio::test]
async fn a_machine_is_removed_by_rest() {
    let dashboard = Dashboard::with_machines(8).await;
    let removed = dashboard.ask("DELETE", "/api/v1/machines/laptop", "").await;
    assert_eq!(removed.status, StatusCode::OK, "{}", removed.body);
    assert_eq!(removed.json()["id"], machine_id(LAPTOP));
    assert_eq!(removed.json()["host_name"], "laptop");
    for (path, headers, status, code) in [
        ("/api/v1/machines/laptop", "", StatusCode::NOT_FOUND, "not_found"),
        ("/api/v1/machines/web-1", "", StatusCode::CONFLICT, "failed_precondition"),
    ] {
        let answer = dashboard.ask("DELETE", path, headers).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert_eq!(answer.json()["error"]["code"], code, "{path}");
    }
    let origin = "origin: http://evil.example\r\n";
    let elsewhere = dashboard.ask("DELETE", "/api/v1/machines/old-nas", origin).await;
    assert_eq!(elsewhere.status, StatusCode::FORBIDDEN);
    let not_rest = dashboard.ask("DELETE", "/machines/old-nas", "").await;
    assert_eq!(not_rest.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(dashboard.get("/machines/old-nas").await.status, StatusCode::OK);
}
