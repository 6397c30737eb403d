//! Every page, held against the rules of axe-core: wide and narrow, dark and light.

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::cluster::{Cluster, PATIENCE, machines};
use crate::eventually::eventually;

/// What `cargo xtask test` fetches.
const AXE: &str = "MUSTER_TEST_AXE";

/// Says what is wrong, or nothing. The rules are those of WCAG 2.2 AA and axe's own best practices.
const CHECK: &str = "
    const { violations } = await axe.run(document, { resultTypes: ['violations'] });
    return violations.flatMap(({ id, nodes }) =>
        nodes.slice(0, 4).map(node => `${id}: ${node.html.slice(0, 160)} ${node.failureSummary}`));";

const UNFOLD: &str = "
    for (const one of document.querySelectorAll('main details:not(.take), #who')) {
        one.open = true;
        one.hidden = false;
    }";

fn rules() -> Option<String> {
    match std::env::var(AXE) {
        Ok(path) => Some(std::fs::read_to_string(&path).expect(&path)),
        Err(_) => {
            let required = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!required, "{AXE} is not set");
            eprintln!("SKIPPED: {AXE} is not set; `cargo xtask test` fetches axe-core");
            None
        }
    }
}

/// What the rules find on the page that is open now.
async fn found(browser: &Browser, rules: &str) -> Value {
    browser.run(&format!("{rules}; return typeof axe.run")).await;
    browser.run(&format!("return (async () => {{ {CHECK} }})()")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_are_in_force() {
    let Some(rules) = rules() else { return };
    let Some(browser) = Browser::open().await else { return };
    let page = "data:text/html,<html><title>t</title><img src=x><button></button>";
    browser.driver.goto(page).await.expect("a page");
    let found = found(&browser, &rules).await.to_string();
    for rule in ["image-alt", "button-name", "html-has-lang"] {
        assert!(found.contains(rule), "{rule} is not among {found}");
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn high_contrast_is_one_that_can_be_read() {
    let Some(rules) = rules() else { return };
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    for (scheme, paper) in [("dark", "rgb(0, 0, 0)"), ("light", "rgb(255, 255, 255)")] {
        browser.media(&[("prefers-color-scheme", scheme), ("prefers-contrast", "more")]).await;
        for page in ["/", "/logs", "/alerts", "/about/health"] {
            browser.driver.goto(format!("{}{page}", cluster.url())).await.expect("a page");
            browser.until(page, "return document.readyState === 'complete'").await;
            let background = "return getComputedStyle(document.body).backgroundColor";
            assert_eq!(browser.run(background).await, paper, "{page}, {scheme}");
            let found = found(&browser, &rules).await;
            assert_eq!(found, json!([]), "{page}, {scheme}, high contrast");
        }
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_breaks_a_rule_of_accessibility() {
    let Some(rules) = rules() else { return };
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    let channel = cluster.channel().await;
    let machine = eventually(PATIENCE, || async {
        let known = machines(channel.clone()).await.into_iter().next();
        known.filter(|m| m.headline.is_some()).ok_or("no headline yet".to_owned())
    })
    .await;
    let id = machine.id;
    // The address of a page, and what is there once it is complete.
    let pages = [
        ("/".to_owned(), "document.querySelector('[data-machine-id]')"),
        ("/?view=cards".to_owned(), "document.querySelector('[data-machine-id]')"),
        ("/?compare=cpu&group=status".to_owned(), "document.querySelector('#compare canvas')"),
        ("/?q=nothing-has-this-name".to_owned(), "document.querySelector('#none-fit')"),
        (format!("/machines/{id}"), "document.querySelectorAll('.uplot canvas').length >= 4"),
        (format!("/machines/{id}?range=1h"), "document.querySelector('.chart')"),
        (format!("/machines/{id}?by=tree"), "document.querySelector('[data-pid]')"),
        ("/machines/nobody".to_owned(), "document.querySelector('main')"),
        ("/logs".to_owned(), "document.querySelector('main form')"),
        ("/logs/errors".to_owned(), "document.querySelector('main')"),
        ("/alerts".to_owned(), "document.querySelector('[data-rule-id]')"),
        ("/alerts/new".to_owned(), "document.querySelector('main form')"),
        ("/alerts/new?from=errors".to_owned(), "document.querySelector('main form')"),
        ("/alerts/rules/machine-offline".to_owned(), "document.querySelector('main form')"),
        ("/alerts/channel-new?kind=email".to_owned(), "document.querySelector('main form')"),
        ("/add".to_owned(), "document.querySelector('#line')"),
        ("/about/health".to_owned(), "document.querySelector('main h1')"),
        ("/login".to_owned(), "document.querySelector('main')"),
        ("/tokens".to_owned(), "document.querySelector('main')"),
    ];
    for scheme in ["dark", "light"] {
        browser.scheme(scheme).await;
        for width in [1440, 360] {
            browser.width(width).await;
            for (page, complete) in &pages {
                let url = format!("{}{page}", cluster.url());
                browser.driver.goto(&url).await.expect("a page");
                browser.until(page, &format!("return Boolean({complete})")).await;
                // What folds out is part of the page.
                browser.run(UNFOLD).await;
                let found = found(&browser, &rules).await;
                assert_eq!(found, json!([]), "{page}, {scheme}, {width} pixels wide");
            }
        }
    }
    browser.close().await;
}
