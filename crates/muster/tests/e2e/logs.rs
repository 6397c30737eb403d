//! A service says that something is broken: people see it on the error page, and a rule tells them.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::cluster::{Cluster, PATIENCE, free_address, logged, post_json};
use crate::eventually::eventually;
use crate::grpcurl;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_logs_errors_is_on_the_error_page_and_a_rule_on_their_rate_fires() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = dir.path().join("shop.log");
    let config = dir.path().join("muster.toml");
    let text = format!(
        "[[collector.logs.files]]\ninclude = [{:?}]\nservice = \"shop\"\nstart = \"beginning\"\n",
        log.display().to_string()
    );
    std::fs::write(&config, text).expect("written");
    let config = config.display().to_string();
    let cluster = Cluster::start("up", &[("MUSTER_CONFIG", &config)]).await;
    let rule = json!({ "rule": {
        "name": "shop is broken",
        "threshold": {
            "metric": "muster.log.events",
            "labels": [
                { "name": "service.name", "value": "shop" },
                { "name": "severity", "value": "error" },
            ],
            "signal": "SIGNAL_INCREASE",
            "window": "60s",
            "warning": 5,
        },
    }});
    let method = "muster.v1.AlertConfigService/CreateRule";
    let made = grpcurl::call(cluster.channel().await, method, &rule.to_string()).await;
    made.expect("is made");

    let mut log = std::fs::File::options().create(true).append(true).open(&log).expect("opens");
    let mut errors = 0;
    eventually(PATIENCE, || {
        // Goes on being broken, as services do: the rate is of what comes while it is watched.
        writeln!(log, "ERROR order {errors} failed after {errors}0ms: <b>no stock</b>")
            .expect("written");
        errors += 1;
        let cluster = &cluster;
        async move {
            let (_, page) = cluster.get("/logs/errors").await;
            let is_shown = page.contains("shop") && page.contains("order &#60;number&#62; failed");
            is_shown.then_some(()).ok_or_else(|| format!("{errors} errors, but: {page}"))
        }
    })
    .await;
    let (_, page) = cluster.get("/logs?q=level:error").await;
    assert!(page.contains("no stock") && !page.contains("<b>no stock"), "shown, not executed");

    eventually(PATIENCE, || {
        writeln!(log, "ERROR order {errors} failed after {errors}0ms: <b>no stock</b>")
            .expect("written");
        errors += 1;
        let cluster = &cluster;
        async move {
            let method = "muster.v1.AlertService/ListActive";
            let active = grpcurl::call(cluster.channel().await, method, "{}").await;
            let active = active.expect("answers").remove(0);
            let is_it = |alert: &Value| {
                alert["ruleName"] == "shop is broken" && alert["phase"] == "ALERT_PHASE_FIRING"
            };
            let fires = active["alerts"].as_array().is_some_and(|alerts| alerts.iter().any(is_it));
            fires.then_some(()).ok_or_else(|| format!("after {errors} errors: {active}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_otlp_answered_for_survives_a_collector_that_is_killed_at_once() {
    const LIVES: usize = 5;
    let cluster = Cluster::aggregator().await;
    let otlp = free_address();
    let settings = format!(
        "[collector.push.otlp]\nenabled = true\nhttp = \"{otlp}\"\ngrpc = \"{}\"\n",
        free_address()
    );
    // While its server is away, all that holds is the spool.
    let nowhere = format!("http://{}", free_address());
    for life in 0..LIVES {
        let mut collector = cluster.collector_with(&settings, "shop-1", &nowhere);
        let records: Vec<Value> = (0..1_000)
            .map(|i| json!({ "body": { "stringValue": format!("order {life} {i} {}", "x".repeat(500)) } }))
            .collect();
        let request = json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": records }] }] });
        let request = request.to_string();
        let answer = eventually(PATIENCE, || async {
            post_json(otlp, "/v1/logs", &request).await.map_err(|error| error.to_string())
        });
        assert_eq!(answer.await, (200, "{}".to_owned()));
        collector.kill();
    }
    let _collector = cluster.collector_with(&settings, "shop-1", &cluster.url());
    let channel = cluster.channel().await;
    eventually(PATIENCE, || {
        let channel = channel.clone();
        async move {
            let entries = logged(channel, "order").await;
            let mut orders: Vec<&str> = entries.iter().map(|entry| &*entry.body).collect();
            orders.sort_unstable();
            orders.dedup();
            let (all, distinct) = (entries.len(), orders.len());
            let is_whole = (all, distinct) == (LIVES * 1_000, LIVES * 1_000);
            is_whole
                .then_some(())
                .ok_or_else(|| format!("{all} events, {distinct} of them distinct"))
        }
    })
    .await;
}

/// Whatever is written, by mistake or on purpose: kept, or cut with a mark; never lost, never executed.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_lines_are_kept_as_text() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = dir.path().join("evil.log");
    let nested = format!("{}1{}", r#"{"a":"#.repeat(20_000), "}".repeat(20_000));
    // Each has a word of its own by which it is found.
    let lines: [(&str, Vec<u8>); 10] = [
        ("utf8", b"utf8 \xff\xfe\xc0\xaf broken".to_vec()),
        ("nul", b"nul \0\0 bytes".to_vec()),
        ("endless", [&b"endless "[..], &vec![b'x'; 10 * 1024 * 1024]].concat()),
        ("colours", b"\x1b[31;1mcolours\x1b[0m \x1b]0;title\x07 \x1b[2J".to_vec()),
        ("markup", b"<script>alert('markup')</script><img src=x onerror=alert(1)>".to_vec()),
        ("controls", b"controls \x01\x02\x7f\xc2\x9b \xe2\x80\xae reversed".to_vec()),
        ("forged", br#"{"msg":"forged","service":"<b>bank</b>","level":"FATAL","__proto__":{"x":1},"muster.log.dropped":"9"}"#.to_vec()),
        ("deep", format!("deep {nested}").into_bytes()),
        ("decade", br#"{"time":"2016-11-28T00:00:00Z","msg":"decade before"}"#.to_vec()),
        ("future", b"2036-11-28T00:00:00Z ERROR future".to_vec()),
    ];
    let mut text = Vec::new();
    for (_, line) in &lines {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    std::fs::write(&log, text).expect("written");
    let config = dir.path().join("muster.toml");
    let settings =
        format!("[[collector.logs.files]]\ninclude = [{log:?}]\nstart = \"beginning\"\n");
    std::fs::write(&config, settings).expect("written");
    let config = config.display().to_string();
    let mut cluster = Cluster::start("up", &[("MUSTER_CONFIG", &config)]).await;
    let channel = cluster.channel().await;
    let entries = eventually(PATIENCE, || {
        let channel = channel.clone();
        async move {
            let entries = logged(channel, "").await;
            let found = entries.len();
            (found >= 10).then_some(entries).ok_or_else(|| format!("{found} of 10 lines"))
        }
    })
    .await;
    assert_eq!(entries.len(), lines.len());
    for (word, line) in &lines {
        let found = logged(channel.clone(), word).await;
        let [entry] = found.as_slice() else { panic!("{word}: {} events", found.len()) };
        assert_eq!(entry.body_truncated, line.len() > 64 * 1024, "{word}");
        let is_plain = |text: &str| !text.chars().any(|c| c.is_control() && !"\n\t".contains(c));
        assert!(is_plain(&entry.body) && is_plain(&entry.service), "{word}: {:?}", entry.body);
        // The clock of the line is not believed.
        let age = std::time::SystemTime::now()
            .duration_since(entry.time.and_then(|time| time.try_into().ok()).expect("a time"));
        assert!(age.is_ok_and(|age| age < PATIENCE * 4), "{word}: {:?}", entry.time);
        let (status, page) = cluster.get(&format!("/logs?q={word}")).await;
        assert_eq!(status, 200, "{word}");
        for executed in ["<script>alert", "<img src=x", "<b>bank"] {
            assert!(!page.contains(executed), "{word}: {executed}");
        }
    }
    assert!(cluster.server.is_running());
}
