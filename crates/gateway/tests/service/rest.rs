//! REST: shapes and errors.

use axum::http::StatusCode;
use serde_json::json;

use crate::Dashboard;
use crate::synthetic::machine_id;

#[tokio::test]
async fn machines_are_listed_with_readable_times_and_names() {
    let dashboard = Dashboard::with_machines(3).await;
    let answer = dashboard.get("/api/v1/machines").await;
    assert_eq!(answer.headers["content-type"], "application/json");
    let machines = &answer.json()["machines"];
    assert_eq!(machines.as_array().unwrap().len(), 3);
    let first = &machines[0];
    assert_eq!(first["id"], machine_id(0));
    assert_eq!(first["status"], "online");
    assert_eq!(first["labels"], json!({"env": "dev"}));
    assert_eq!(first["interval_seconds"], 1);
    assert!(first["last_seen"].as_str().unwrap().ends_with('Z'));
    assert!(first["headline"]["cpu_utilization"].is_number());
    let one = dashboard.get("/api/v1/machines/web-2").await.json();
    assert_eq!(one["host_name"], "web-2");
}

#[tokio::test]
async fn the_state_holds_the_metrics_that_were_asked_for() {
    let dashboard = Dashboard::with_machines(1).await;
    let path =
        format!("/api/v1/machines/{}/state?metrics=system.cpu.load_average.1m", machine_id(0));
    let answer = dashboard.get(&path).await.json();
    assert_eq!(answer["samples"].as_array().unwrap().len(), 1);
    assert_eq!(answer["samples"][0]["metric"], "system.cpu.load_average.1m");
}

#[tokio::test]
async fn a_range_has_one_value_for_each_window_and_null_where_nothing_was() {
    let dashboard = Dashboard::with_machines(2).await;
    let path = format!(
        "/api/v1/query_range?metric=system.cpu.utilization&machine={}&start=-1h&end=now&step=1m\
         &band=true&label=cpu.mode%3Duser",
        machine_id(1)
    );
    let answer = dashboard.get(&path).await.json();
    assert_eq!(answer["step_ms"], 60_000);
    assert_eq!(answer["tier"], "raw");
    let series = answer["series"].as_array().unwrap();
    assert_eq!(series.len(), 1);
    assert_eq!(series[0]["machine"], machine_id(1));
    let values = series[0]["values"].as_array().unwrap();
    assert!((60..=61).contains(&values.len()));
    assert!(values.iter().any(|v| v.is_null()) && values.iter().any(|v| v.is_number()));
    assert_eq!(series[0]["max"].as_array().unwrap().len(), values.len());
}

#[tokio::test]
async fn a_range_is_of_the_machine_that_is_meant_however_it_is_called() {
    let dashboard = Dashboard::with_machines(2).await;
    let path = "/api/v1/query_range?metric=system.cpu.utilization&step=1m&machine=";
    let machine = dashboard.get(&format!("/api/v1/machines/{}", machine_id(1))).await.json();
    let host_name = machine["host_name"].as_str().unwrap();
    for reference in [machine_id(1).as_str(), host_name] {
        let answer = dashboard.get(&format!("{path}{reference}")).await.json();
        let series = answer["series"].as_array().unwrap();
        assert!(!series.is_empty(), "{reference}");
        assert!(series.iter().all(|s| s["machine"] == machine_id(1)), "{reference}");
    }
    let unknown = dashboard.get(&format!("{path}nobody")).await;
    let other_call = dashboard.get("/api/v1/machines/nobody").await;
    assert_eq!((unknown.status, unknown.json()), (StatusCode::NOT_FOUND, other_call.json()));
    let twice = dashboard.get(&format!("{path}{host_name}&machine={host_name}")).await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST, "{}", twice.body);
    assert_eq!(twice.json()["error"]["field"], "machine");
}

#[tokio::test]
async fn the_window_has_the_last_five_minutes_by_series() {
    let dashboard = Dashboard::with_machines(1).await;
    let path = format!("/api/v1/machines/{}/window", machine_id(0));
    let all = dashboard.get(&path).await.json();
    assert_eq!(all["groups"].as_array().unwrap().len(), 2, "one group for each layout");
    for group in all["groups"].as_array().unwrap() {
        let times = group["times"].as_array().unwrap();
        assert!((295..=302).contains(&times.len()), "{} points", times.len());
        assert_eq!(group["series"][0]["values"].as_array().unwrap().len(), times.len());
    }
    let some = dashboard.get(&format!("{path}?metrics=system.disk.io")).await.json();
    assert_eq!(some["groups"].as_array().unwrap().len(), 1);
    assert!(some["groups"][0]["series"][0]["counter"].as_bool().unwrap());
    assert_eq!(dashboard.fleet.streams().1, 1, "both were served from one stream");
}

#[tokio::test]
async fn processes_and_events_answer_for_a_moment_and_a_stretch_of_time() {
    let dashboard = Dashboard::with_machines(1).await;
    let path = format!("/api/v1/machines/{}", machine_id(0));
    let then = dashboard.get(&format!("{path}/processes?at=2026-01-31T12:00:00Z")).await.json();
    assert_eq!(then["time"], "2026-01-31T12:00:00Z");
    assert_eq!(then["total"], 312);
    assert!(then["processes"][0]["command_line"].as_str().unwrap().contains("***"));
    let events = dashboard.get(&format!("{path}/events?limit=10")).await.json();
    assert_eq!(events["events"][0]["event"]["type"], "oom_kill");
    assert_eq!(events["events"][1]["gap"]["reason"], "spool_full");
}

#[tokio::test]
async fn the_metrics_that_can_be_asked_for_are_listed() {
    let dashboard = Dashboard::with_machines(0).await;
    let answer = dashboard.get("/api/v1/metrics").await.json();
    let listed = answer["metrics"].as_array().unwrap();
    let io = listed.iter().find(|metric| metric["name"] == "system.network.io").unwrap();
    assert_eq!((&io["kind"], &io["unit"]), (&"counter".into(), &"By".into()));
    assert!(io["help"].as_str().is_some_and(|help| help.len() > 10), "{io}");
}

#[tokio::test]
async fn errors_name_the_field_and_carry_the_right_status() {
    let dashboard = Dashboard::with_machines(1).await;
    let check = async |path: &str, status: u16, code: &str, field: serde_json::Value| {
        let answer = dashboard.get(path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.body);
        let error = &answer.json()["error"];
        assert_eq!(error["code"], code, "{path}");
        assert_eq!(error["field"], field, "{path}");
        assert!(!error["message"].as_str().unwrap().is_empty(), "{path}");
    };
    let range = "/api/v1/query_range";
    check("/api/v1/machines/none", 404, "not_found", json!(null)).await;
    check("/api/v1/none", 404, "not_found", json!(null)).await;
    check("/api/v1/machines?mach=env", 400, "invalid_argument", json!("mach")).await;
    check("/api/v1/machines?match=env", 400, "invalid_argument", json!("match")).await;
    check(range, 400, "invalid_argument", json!("metric")).await;
    check(&format!("{range}?metric=a&start=soon"), 400, "invalid_argument", json!("start")).await;
    check(&format!("{range}?metric=a&start=now&end=-2h"), 400, "invalid_argument", json!("start"))
        .await;
    check(&format!("{range}?metric=a&aggregate=most"), 400, "invalid_argument", json!("aggregate"))
        .await;
    // Found by the aggregator, which names the field in its message.
    check(&format!("{range}?metric=a&step=1ms"), 400, "invalid_argument", json!("step")).await;
    assert_eq!(dashboard.get("/api/v1/machines").await.status, StatusCode::OK);
}
