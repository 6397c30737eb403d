//! What somebody does who sees the dashboard for the first time, with nothing but what is on the pages.

use serde_json::json;

use crate::browser::{Browser, TOO_WIDE};
use crate::cluster::Cluster;
use crate::process;
use crate::process::Process;

const LIVE: &str = "return document.getElementById('link')?.dataset.state === 'live'";
/// Clicks until it helps: a row may be drawn anew under the hand that clicks it.
const OPEN: &str = "document.querySelector('[data-machine-id] .name')?.click();
    return location.pathname.includes('/machines/')";
const CHARTED: &str = "return Number(document.querySelector('.chart')?.dataset.points) > 3 && document.querySelector('.u-over') !== null";
/// A click in the middle of the first chart, as a hand does it.
const CLICK_A_MOMENT: &str = "const over = document.querySelector('.u-over');
    const { left, top, width } = over.getBoundingClientRect();
    for (const type of ['mousedown', 'mouseup', 'click']) {
        over.dispatchEvent(new MouseEvent(type, { bubbles: true, clientX: left + width * 0.8, clientY: top + 20 }));
    }";

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_finds_the_busiest_machine_and_who_keeps_it_busy() {
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    browser.driver.goto(cluster.url()).await.expect("the fleet page");
    browser.until("a machine", "return document.querySelector('[data-machine-id]')").await;
    browser.until("a live page", LIVE).await;

    browser.run("document.querySelector('th[data-sort=cpu] a').click()").await;
    let order = "return document.querySelector('th[data-sort=cpu]').ariaSort === 'descending'
        && location.search.includes('sort=cpu')";
    browser.until("the busiest first", order).await;
    browser.until("its page", OPEN).await;
    browser.until("a chart of it", CHARTED).await;

    // A process report comes every few seconds, and a moment before the first has none. What nobody sees is
    // not asked for.
    browser.run("document.querySelector('.jump a[href$=\"#processes\"]').click()").await;
    browser.until("processes", "return document.querySelector('[data-pid]')").await;
    browser.run("scrollTo(0, 0)").await;
    browser
        .until("a minute", "return Number(document.querySelector('.chart').dataset.points) > 8")
        .await;
    browser.run(CLICK_A_MOMENT).await;
    let said = "const who = document.getElementById('who');
        return !who.hidden && who.innerText.includes('Who did it')";
    browser.until("an answer", said).await;
    browser.run("document.querySelector('#who [data-now]').click()").await;
    browser.until("no answer any more", "return document.getElementById('who').hidden").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_adds_a_machine_by_the_line_on_the_page_and_is_led_to_it() {
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    browser.driver.goto(cluster.url()).await.expect("the fleet page");
    browser.until("its own machine", "return document.querySelector('[data-machine-id]')").await;
    browser.run("document.querySelector('nav a[href$=\"add\"]').click()").await;
    let line =
        browser.until("the line", "return document.getElementById('line')?.textContent").await;
    browser.until("a live page", LIVE).await;

    let line = line.as_str().expect("text").to_owned();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..2], ["muster", "collector"], "{line}");
    let mut command = process::muster();
    let state = cluster.dir().join("newcomer");
    command.args(&words[1..]).arg("--state-dir").arg(&state);
    let _collector = Process::start("newcomer", cluster.dir(), command);
    browser.until("its page", "return location.pathname.includes('/machines/')").await;
    browser.until("a chart of it", CHARTED).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_page_says_that_it_is_cut_off_and_goes_on_by_itself() {
    let Some(browser) = Browser::open().await else { return };
    let mut cluster = Cluster::up().await;
    browser.driver.goto(cluster.url()).await.expect("the fleet page");
    browser.until("a machine", "return document.querySelector('[data-machine-id]')").await;
    browser.until("its page", OPEN).await;
    browser.until("a chart", CHARTED).await;

    cluster.server.kill();
    let told = "return document.getElementById('notice').innerText.includes('Disconnected since')";
    browser.until("that it is cut off", told).await;
    let words = browser.run("return document.getElementById('link-words').innerText").await;
    assert_eq!(words, "reconnecting");
    let latest = "return Number(document.querySelector('.chart').dataset.latest)";
    let before = browser.run(latest).await.as_i64().expect("a time");

    cluster.restart().await;
    browser.until("that it is live again", LIVE).await;
    let newer = format!("{latest} > {}", before + 2_000);
    browser.until("newer values", &newer).await;
    browser.until("no notice", "return document.getElementById('notice').hidden").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_scrolls_sideways_on_a_telephone_or_complains() {
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    browser.driver.goto(cluster.url()).await.expect("the fleet page");
    let id = "return document.querySelector('[data-machine-id]')?.dataset.machineId";
    let id = browser.until("a machine", id).await;
    let id = id.as_str().expect("text");
    browser.complaints().await;
    browser.width(360).await;
    for page in [
        "/?view=cards".to_owned(),
        "/?compare=cpu&group=status".to_owned(),
        format!("/machines/{id}?range=1h"),
        format!("/machines/{id}?by=tree#processes"),
        "/logs".to_owned(),
        "/logs/errors".to_owned(),
        "/alerts".to_owned(),
        "/alerts/new".to_owned(),
        "/tokens".to_owned(),
    ] {
        browser.driver.goto(format!("{}{page}", cluster.url())).await.expect("a page");
        let done = "return document.readyState === 'complete'
            && performance.now() - performance.getEntriesByType('navigation')[0].loadEventEnd > 500";
        browser.until(&page, done).await;
        let too_wide = browser.run(TOO_WIDE).await;
        assert_eq!(too_wide, json!([]), "{page} scrolls sideways on a screen of 360 pixels");
        assert_eq!(browser.complaints().await, Vec::<String>::new(), "{page}");
    }
    browser.close().await;
}
