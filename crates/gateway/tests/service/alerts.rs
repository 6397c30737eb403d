//! Alerts on their way to open pages.

use proto::v1;
use serde_json::json;

use crate::Dashboard;
use crate::live::Page;
use crate::synthetic::{HOSTILE, machine_id};

fn firing(id: &str, level: v1::AlertLevel) -> v1::ActiveAlert {
    v1::ActiveAlert {
        id: id.to_owned(),
        rule_name: HOSTILE.to_owned(),
        summary: format!("{id} {HOSTILE}"),
        phase: v1::AlertPhase::Firing.into(),
        level: level.into(),
        machine_id: machine_id(0),
        ..Default::default()
    }
}

#[tokio::test]
async fn an_open_page_is_told_what_begins_and_what_is_over() {
    let dashboard = Dashboard::with_machines(1).await;
    dashboard.fleet.alert(Vec::new());
    let mut page = Page::open(&dashboard).await;
    page.show(json!({"alerts": true})).await;
    let first = page.next("alerts", |told| told["available"] == true).await;
    assert_eq!(first["firing"], 0, "nothing is wrong, and that is known");
    dashboard.fleet.alert(vec![firing("a", v1::AlertLevel::Warning)]);
    let told = page.next("alerts", |told| told["firing"] == 1).await;
    assert_eq!(told["alerts"][0]["rule"], HOSTILE);

    // A page that comes back has all of it at once, not only what is new.
    let mut other = Page::open(&dashboard).await;
    other.show(json!({"alerts": true})).await;
    let all = other.next("alerts", |told| told["all"] == true).await;
    assert_eq!((&all["alerts"][0]["id"], &all["firing"]), (&json!("a"), &json!(1)));

    dashboard.fleet.alert(Vec::new());
    let over = page.next("alerts", |told| told["gone"] == json!(["a"])).await;
    assert_eq!((&over["firing"], &over["all"]), (&json!(0), &json!(false)));
}

#[tokio::test]
async fn every_page_begins_with_how_many_alerts_fire() {
    let dashboard = Dashboard::with_machines(1).await;
    let quiet = dashboard.get("/add").await;
    assert!(quiet.body.contains("id=\"firing\" hidden"), "{}", quiet.body);
    dashboard.fleet.alert(vec![firing("a", v1::AlertLevel::Critical)]);
    // Who looks makes it known soon; otherwise it may take a while.
    let mut page = Page::open(&dashboard).await;
    page.show(json!({"alerts": true})).await;
    page.next("alerts", |told| told["critical"] == 1).await;
    for path in ["/", "/add", "/alerts", "/about/health"] {
        let answer = dashboard.get(path).await;
        assert!(answer.body.contains("id=\"firing\" data-critical><span>1<"), "{path}");
    }
    let path = format!("/machines/{}", machine_id(0));
    let machine = dashboard.get(&path).await.body;
    let badge = machine.split("data-badges").nth(1).expect("a place for badges");
    assert!(badge.starts_with("><a class=\"badge critical\""), "without scripts too");
    assert!(!machine.contains(HOSTILE));
}

#[tokio::test]
async fn a_page_that_wants_no_alerts_gets_none() {
    let dashboard = Dashboard::with_machines(1).await;
    dashboard.fleet.alert(vec![firing("a", v1::AlertLevel::Warning)]);
    let mut page = Page::open(&dashboard).await;
    page.show(json!({"alerts": true})).await;
    page.next("alerts", |told| told["firing"] == 1).await;
    // As a tab that is hidden says.
    page.show(json!({})).await;
    dashboard.fleet.alert(Vec::new());
    page.show(json!({"alerts": true})).await;
    let next = page.next("alerts", |_| true).await;
    assert_eq!(next["all"], true, "what it is told next is all of it: {next}");
}
