//! Alerts as a person at a browser sees them.

use serde_json::{Value, json};

use crate::alerting::call;
use crate::alerting::receiver::{Manner, Receiver};
use crate::browser::Browser;
use crate::cluster::{Cluster, PATIENCE, machines, post_form};
use crate::eventually::eventually;

/// A name that would do harm wherever it is not taken for text.
const HOSTILE: &str = "<img src=x onerror=alert(1)>";
/// Its identifier.
const HOSTILE_ID: &str = "img-src-x-onerror-alert-1";

/// A rule that fires as soon as it is made, and what its alert is on.
fn always(name: &str) -> Value {
    json!({ "rule": {
        "name": name,
        "threshold": { "metric": "system.cpu.load_average.5m", "warning": -1 },
        "summary": format!("{{{{ machine.name }}}} has a load: {name}"),
    }})
}

/// The machine that watches itself, once it is there with numbers.
async fn machine_of(cluster: &Cluster) -> proto::v1::Machine {
    let channel = cluster.channel().await;
    eventually(PATIENCE, || async {
        let known = machines(channel.clone()).await.into_iter().next();
        known.filter(|m| m.headline.is_some()).ok_or("no headline yet".to_owned())
    })
    .await
}

/// The incidents of a rule over REST, once there are some and they fit.
async fn incidents(cluster: &Cluster, rule: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(PATIENCE, || async {
        let path = format!("/api/v1/alerts/history?rule={rule}");
        let (status, body) = cluster.get(&path).await;
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        let incident = body["incidents"][0].clone();
        if fits(&incident) { Ok(incident) } else { Err(body.to_string()) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_says_how_long_and_how_bad_it_was() {
    let cluster = Cluster::up().await;
    let machine = machine_of(&cluster).await;
    let rule = call(&cluster, "AlertConfigService/CreateRule", always(HOSTILE)).await;
    assert_eq!(rule["rule"]["id"], HOSTILE_ID);
    let begun = incidents(&cluster, HOSTILE_ID, |one| one["peak"].is_number()).await;
    assert_eq!(begun["machine"], machine.id);
    assert_eq!(begun["resolved"], Value::Null, "it goes on");

    let off = json!({ "id": HOSTILE_ID, "enabled": false });
    call(&cluster, "AlertConfigService/SetRuleEnabled", off).await;
    let over = incidents(&cluster, HOSTILE_ID, |one| one["resolved"].is_string()).await;
    assert_eq!(over["cause"], "rule_changed");
    let (_, page) = cluster.get("/alerts").await;
    let row = page.split("<tr>").find(|row| row.contains("has a load")).expect("a line");
    assert!(row.contains("rule changed") && row.contains("title=\"until 2"), "{row}");
    let peak = over["peak_text"].as_str().expect("for people");
    assert!(row.contains(&format!(">{peak}</td>")), "{row}");
    assert!(!page.contains(HOSTILE), "a name is text");

    // What was over before a range is none of it, what goes on into it is.
    let (_, body) = cluster.get("/api/v1/alerts/history?start=now&end=2100-01-01T00:00:00Z").await;
    assert!(!body.contains(HOSTILE_ID), "{body}");
    assert_eq!(cluster.get("/api/v1/alerts/history?start=tomorrow").await.0, 400);
}

/// Whether the bar that marks a firing alert is drawn along the top of the chart of the load.
const BAR: &str = "(() => {
    const { plot } = document.querySelector('#chart-load').chart;
    const copy = new OffscreenCanvas(plot.ctx.canvas.width, plot.ctx.canvas.height);
    const context = copy.getContext('2d', { willReadFrequently: true });
    context.drawImage(plot.ctx.canvas, 0, 0);
    const now = plot.valToPos(document.querySelector('#chart-load').dataset.latest / 1000, 'x', true);
    const [red, green, blue, alpha] = context.getImageData(Math.floor(now) - 2, plot.bbox.top + 1, 1, 1).data;
    return alpha > 200 && red > blue + 60;
})()";

#[tokio::test(flavor = "multi_thread")]
async fn a_chart_shows_when_an_alert_fired_now_and_in_the_past() {
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    let machine = machine_of(&cluster).await;
    call(&cluster, "AlertConfigService/CreateRule", always(HOSTILE)).await;
    incidents(&cluster, HOSTILE_ID, |one| one["peak"].is_number()).await;
    let page = format!("{}/machines/{}", cluster.url(), machine.id);
    browser.driver.goto(&page).await.expect("the machine page");
    // What is out of sight is not drawn.
    let seen = "document.querySelector('#chart-load').scrollIntoView({ block: 'center' })";
    browser.run(seen).await;
    let firing = "document.querySelector('#chart-load').dataset.firing === '1'";
    let legend = "document.querySelector('#chart-load .firing')?.textContent";
    for scheme in ["light", "dark"] {
        browser.scheme(scheme).await;
        browser.until("a shaded stretch", &format!("return {firing} && {BAR}")).await;
    }
    let said = browser.until("its rule", &format!("return {legend}")).await;
    assert_eq!(said, format!("shaded: {HOSTILE}"));
    let other = "return document.querySelector('#chart-memory').dataset.firing";
    assert_eq!(browser.run(other).await, "0", "a chart of something else");

    // Under the cursor, what exactly. Where the newest value is, it fires.
    browser
        .run(
            "const { plot } = document.querySelector('#chart-load').chart;
             const latest = document.querySelector('#chart-load').dataset.latest / 1000;
             plot.setCursor({ left: plot.valToPos(latest, 'x') - 1, top: 20 });",
        )
        .await;
    let exact = format!("return {legend}.startsWith('{HOSTILE}: warning from ')");
    browser.until("when and how bad", &exact).await;

    browser.run("document.querySelector('[data-range=\"1h\"]').click()").await;
    let past = format!("return {firing} && document.querySelector('#shown').textContent !== ''");
    browser.until("the same in the last hour", &past).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_rule_is_edited_on_the_dashboard() {
    let cluster = Cluster::up().await;
    let hook =
        json!({ "channel": { "name": "hook, east", "webhook": { "url": "http://127.0.0.1:9/" } } });
    call(&cluster, "AlertConfigService/CreateChannel", hook).await;
    let fields = [
        ("name", "Busy"),
        ("state", "off"),
        ("kind", "threshold"),
        ("metric", "system.cpu.utilization"),
        ("labels", "cpu.mode=, cpu.logical_number="),
        ("signal", "p95"),
        ("over", "tumbling"),
        ("window", "10m"),
        ("side", "above"),
        ("warning", "80 %"),
        ("critical", "0.955"),
        ("recover", "70%"),
        ("for", "2m"),
        ("keep_firing_for", "30s"),
        ("no_data", "alert"),
        ("no_data_after", "90s"),
        ("machines", "env!=dev, host.name=~*"),
        ("alert_labels", "team=ops, tier=1"),
        ("summary", "{{ machine.name }} is at {{ value | percent }}"),
        ("runbook_url", "https://example.org/busy"),
        ("channels", "\"hook, east\""),
    ];
    let (status, page) = post_form(cluster.address, "/alerts/save", &form(&fields)).await;
    assert_eq!(status, 303, "{page}");
    let rule = call(&cluster, "AlertConfigService/GetRule", json!({ "id": "busy" })).await;
    let rule = &rule["rule"];
    let threshold = &rule["threshold"];
    for (found, expected) in [
        (&rule["disabled"], json!(true)),
        (&threshold["signal"], json!("SIGNAL_P95")),
        (&threshold["tumbling"], json!(true)),
        (&threshold["window"], json!("600s")),
        (&threshold["warning"], json!(0.8)),
        (&threshold["critical"], json!(0.955)),
        (&threshold["recover"], json!(0.7)),
        (&rule["for"], json!("120s")),
        (&rule["keepFiringFor"], json!("30s")),
        (&rule["noData"], json!("NO_DATA_ALERT")),
        (&rule["noDataAfter"], json!("90s")),
        (&rule["labels"], json!({ "team": "ops", "tier": "1" })),
        (&rule["runbookUrl"], json!("https://example.org/busy")),
        (&rule["channels"], json!(["hook, east"])),
    ] {
        assert_eq!(found, &expected, "{rule}");
    }

    // All of it is in the form again, as people write it.
    let (_, page) = cluster.get("/alerts/rules/busy").await;
    for value in ["80 %", "95.5 %", "10m", "1m30s", "team=ops, tier=1"] {
        assert!(page.contains(&format!("value=\"{value}\"")), "{value}: {page}");
    }

    // A rule about logs, and one about machines that are gone.
    let query = "level:>=error \"connection refused\"";
    let log = [("name", "Refused"), ("kind", "log"), ("query", query), ("log_window", "10m")];
    let limits = [("warning", "5"), ("recover", "1")];
    let (status, page) =
        post_form(cluster.address, "/alerts/save", &form(&[&log[..], &limits[..]].concat())).await;
    assert_eq!(status, 303, "{page}");
    let rule = call(&cluster, "AlertConfigService/GetRule", json!({ "id": "refused" })).await;
    let expected = json!({ "query": query, "window": "600s", "warning": 5.0, "recover": 1.0 });
    assert_eq!(rule["rule"]["log"], expected);
    let gone = [("name", "Gone"), ("kind", "offline"), ("offline_level", "warning")];
    assert_eq!(post_form(cluster.address, "/alerts/save", &form(&gone)).await.0, 303);
    let rule = call(&cluster, "AlertConfigService/GetRule", json!({ "id": "gone" })).await;
    assert_eq!(rule["rule"]["offline"]["level"], "ALERT_LEVEL_WARNING");
    let list = cluster.get("/alerts").await.1;
    assert!(
        list.contains("logs: level:&gt;=error") || list.contains("logs: level:&#62;=error"),
        "{list}"
    );

    // Somebody is faster: nothing typed is lost, and nobody's change is replaced unseen.
    let of = |revision: &str, window: &str| {
        let own = fields.map(|(name, value)| (name, if name == "window" { window } else { value }));
        let mut own = own.to_vec();
        own.extend([("id", "busy"), ("revision", revision)]);
        form(&own)
    };
    assert_eq!(post_form(cluster.address, "/alerts/save", &of("1", "20m")).await.0, 303);
    let (status, page) = post_form(cluster.address, "/alerts/save", &of("1", "30m")).await;
    assert!(status == 200 && page.contains("saved this rule meanwhile"), "{page}");
    assert!(page.contains("value=\"30m\"") && page.contains("name=\"revision\" value=\"2\""));
    assert_eq!(post_form(cluster.address, "/alerts/save", &of("2", "30m")).await.0, 303);
}

fn form<N: AsRef<str>, V: AsRef<str>>(fields: &[(N, V)]) -> String {
    let encode = |text: &str| -> String {
        let byte = |b: u8| match b {
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        };
        text.bytes().map(byte).collect()
    };
    let pair = |(name, value): &(N, V)| format!("{}={}", name.as_ref(), encode(value.as_ref()));
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_rule_is_said_at_its_field_and_nothing_typed_is_lost() {
    let cluster = Cluster::up().await;
    let check = async |field: &'static str, value: &'static str, said: &'static str| {
        let usual = [
            ("name", "x"),
            ("kind", "threshold"),
            ("metric", "system.cpu.utilization"),
            ("side", "above"),
            ("warning", "80 %"),
            ("summary", HOSTILE),
        ];
        let mut fields: Vec<_> = usual.into_iter().filter(|(name, _)| *name != field).collect();
        fields.push((field, value));
        let (status, page) = post_form(cluster.address, "/alerts/save", &form(&fields)).await;
        assert_eq!(status, 200, "{field}");
        let error = page.split(&format!("id=\"e-{field}\">")).nth(1).unwrap_or_default();
        assert!(error.starts_with(said), "{field}: {page}");
        let escaped = value.replace('"', "&#34;");
        assert!(page.contains(&format!("value=\"{escaped}\"")), "{field}: {page}");
        assert!(page.contains(&format!("href=\"#f-{field}\"")) && !page.contains(HOSTILE));
    };
    check("warning", "80", "expected a share such as 80 % (or 0.8), found").await;
    check("critical", "50 %", "expected above warning (0.8), found 0.5").await;
    check("recover", "90 %", "expected not above the threshold").await;
    check("metric", "no.such.metric", "no machine sends the metric").await;
    check("labels", "cpu", "expected matchers such as").await;
    check("for", "five", "expected a duration such as").await;
    check("no_data_after", "10ms", "expected 1000 ms to 7 days").await;
    check("alert_labels", "team", "expected labels such as").await;
    check("runbook_url", "example.org", "expected an address that starts with http").await;
    check("channels", "nobody", "there is no channel called").await;
    check("name", "", "expected 1 to 120 bytes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_to_start_from_is_saved_by_one_click() {
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    machine_of(&cluster).await;
    let new = format!("{}/alerts/new", cluster.url());
    browser.driver.goto(&new).await.expect("the editor");
    let starters = browser
        .run("return [...document.querySelectorAll('.starters a')].map(a => [a.textContent, a.href])")
        .await;
    let starters = starters.as_array().expect("some").clone();
    assert!(starters.len() >= 4, "{starters:?}");
    for starter in &starters {
        let (title, address) = (starter[0].as_str().expect("a title"), starter[1].as_str());
        browser.driver.goto(address.expect("an address")).await.expect("the editor");
        browser.run("document.querySelector('button.first').click()").await;
        let saved = format!(
            "return [...document.querySelectorAll('#rules th a')].some(a => a.textContent === {title:?})"
        );
        browser.until(title, &saved).await;
    }

    // What a choice makes meaningless is out of sight, and what is asked for is said in its unit.
    browser.driver.goto(&new).await.expect("the editor");
    let shown =
        |field: &str| format!("document.querySelector('[name={field}]').offsetParent !== null");
    let choose = |field: &str, value: &str| {
        format!(
            "const field = document.querySelector('[name={field}]');
             field.value = '{value}';
             field.dispatchEvent(new Event('change', {{ bubbles: true }}));"
        )
    };
    browser.run(&choose("over", "values")).await;
    let now = format!("return {} && !{}", shown("window_values"), shown("window"));
    assert_eq!(browser.run(&now).await, true);
    browser.run(&choose("metric", "system.memory.usage")).await;
    let hint =
        "return document.querySelector('#hint').textContent.includes('bytes such as 512 MiB')";
    browser.until("the unit of the metric", hint).await;
    browser.run(&choose("kind", "offline")).await;
    let now = format!("return {} && !{}", shown("offline_level"), shown("metric"));
    assert_eq!(browser.run(&now).await, true);
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_changed_without_its_secret_and_says_what_came_back() {
    let receiver = Receiver::start(Manner::Status(200)).await;
    let cluster = Cluster::up().await;
    let address = cluster.address;
    let secret = "keep-this-to-yourself";
    let url = receiver.url.as_str();
    let fields = [("name", "hook"), ("kind", "webhook"), ("address", url), ("secret", secret)];
    assert_eq!(post_form(address, "/alerts/channels", &form(&fields)).await.0, 303);
    let channels = call(&cluster, "AlertConfigService/ListChannels", json!({})).await;
    let id = channels["channels"][0]["id"].as_str().expect("an id").to_owned();
    let edit = format!("/alerts/channels/{id}");
    let (status, page) = cluster.get(&edit).await;
    assert!(status == 200 && page.contains(url) && !page.contains(secret), "{page}");

    let changed = |name: &str, url: &str, revision: &str| {
        let fields = [("id", id.as_str()), ("revision", revision), ("name", name)];
        let more = [("kind", "webhook"), ("address", url), ("repeat", "2h"), ("state", "on")];
        form(&[&fields[..], &more[..]].concat())
    };
    let (status, page) = post_form(address, "/alerts/channels", &changed("night", url, "1")).await;
    assert_eq!(status, 303, "{page}");
    let (_, page) = post_form(address, &format!("{edit}/test"), "").await;
    assert!(page.contains("night: the test message arrived after ") && page.contains("200 OK"));
    let signature = receiver.got()[0].header("muster-signature").map(str::to_owned);
    assert!(signature.is_some_and(|signature| signature.contains("v1=")), "the secret was kept");

    // Elsewhere it is not sent without somebody saying so.
    let elsewhere = "http://127.0.0.1:9/";
    let (_, page) = post_form(address, "/alerts/channels", &changed("night", elsewhere, "2")).await;
    assert!(page.contains("id=\"e-secret\">the address is another"), "{page}");
    assert!(page.contains(&format!("value=\"{elsewhere}\"")), "what was typed is kept");
    let (_, page) =
        post_form(address, "/alerts/channels", &changed("night", "no address", "2")).await;
    assert!(page.contains("id=\"e-address\"") || page.contains("id=\"e-secret\""), "{page}");
    let (_, page) = post_form(address, "/alerts/channels", &changed("late", url, "1")).await;
    assert!(page.contains("saved this channel meanwhile"), "{page}");

    receiver.behave(Manner::Status(503));
    let (_, page) = post_form(address, &format!("{edit}/test"), "").await;
    assert!(page.contains("the test message did not arrive") && page.contains("503"), "{page}");
}

/// Notes down every notification that the browser is asked to show, by any tab.
const RECORDER: &str = "
    const Real = window.Notification;
    window.Notification = class extends Real {
        constructor(title, options) {
            super(title, options);
            const all = JSON.parse(localStorage.getItem('seen') ?? '[]');
            all.push({ title, body: options.body, tag: options.tag, silent: options.silent });
            localStorage.setItem('seen', JSON.stringify(all));
        }
    };";

/// Those so far, once there are so many.
async fn notified(browser: &Browser, count: usize) -> Vec<Value> {
    let seen = "JSON.parse(localStorage.getItem('seen') ?? '[]')";
    let enough = format!("const all = {seen}; return all.length >= {count} && all");
    let all = browser.until("a notification", &enough).await;
    let all = all.as_array().expect("a list").clone();
    assert_eq!(all.len(), count, "{all:?}");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_told_once_of_what_begins_and_of_what_is_over() {
    let Some(browser) = Browser::open().await else { return };
    let cluster = Cluster::up().await;
    machine_of(&cluster).await;
    let switch = "document.querySelector('#notify')";
    let page = format!("{}/alerts", cluster.url());
    browser.on_new_pages(RECORDER).await;
    browser.driver.goto(&page).await.expect("the alerts");
    browser.allow_notifications("granted").await;
    browser.until("the switch", &format!("return {switch}.ariaChecked === 'false'")).await;
    browser.run(&format!("{switch}.click()")).await;
    browser.until("it is on", &format!("return {switch}.ariaChecked === 'true'")).await;
    let first = browser.driver.window().await.expect("a tab");

    // Another tab is open beside it.
    let second = browser.driver.new_tab().await.expect("a tab");
    browser.driver.switch_to_window(second.clone()).await.expect("is there");
    browser.on_new_pages(RECORDER).await;
    browser.driver.goto(&cluster.url()).await.expect("the fleet");
    browser
        .until("it is live", "return document.querySelector('#link').dataset.state === 'live'")
        .await;
    call(&cluster, "AlertConfigService/CreateRule", always(HOSTILE)).await;
    let begun = notified(&browser, 1).await.remove(0);
    assert_eq!(begun["title"], format!("{HOSTILE} (warning)"), "text stays text");
    let body = begun["body"].as_str().expect("text");
    assert!(body.ends_with(&format!(" has a load: {HOSTILE}")), "{body}");

    // Its badge and the number in the bar came the same way: pushed.
    let badge = "document.querySelector('[data-badges] .badge')?.textContent";
    assert_eq!(browser.until("a badge", &format!("return {badge}")).await, HOSTILE);
    let number = "return document.querySelector('#firing').innerText.startsWith('1')";
    browser.until("the number of alerts", number).await;
    let asked = "return performance.getEntriesByType('resource').some(r => r.name.includes('api/v1/alerts'))";
    assert_eq!(browser.run(asked).await, false, "nothing is asked for again and again");

    let switch_rule = async |enabled: bool| {
        let switch = json!({ "id": HOSTILE_ID, "enabled": enabled });
        call(&cluster, "AlertConfigService/SetRuleEnabled", switch).await;
    };
    switch_rule(false).await;
    let over = notified(&browser, 2).await.remove(1);
    assert_eq!((&over["tag"], &over["silent"]), (&begun["tag"], &json!(true)), "in its place");
    assert_eq!(over["title"], format!("Over: {HOSTILE}"));
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    // The page of alerts has kept up, without anybody loading it.
    browser.driver.switch_to_window(first).await.expect("is there");
    let history = "return document.querySelector('#history').innerText.includes('rule changed')";
    browser.until("the incident in the history", history).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    // The tab that spoke goes, the other one takes over.
    browser.driver.close_window().await.expect("closes");
    browser.driver.switch_to_window(second).await.expect("is there");
    switch_rule(true).await;
    notified(&browser, 3).await;

    // Off is off.
    browser.driver.goto(&page).await.expect("the alerts");
    browser.run(&format!("{switch}.click()")).await;
    browser.until("it is off", &format!("return {switch}.ariaChecked === 'false'")).await;
    switch_rule(false).await;
    browser.until("calm", "return document.querySelector('#firing').hidden").await;
    notified(&browser, 3).await;

    // What a browser refuses is said.
    browser.allow_notifications("denied").await;
    browser.driver.goto(&page).await.expect("the alerts");
    let said = "return document.querySelector('#notify-said').textContent.includes('refused')";
    browser.until("why not", said).await;
    assert_eq!(browser.run(&format!("return {switch}.disabled")).await, true);
    browser.close().await;
}
