//! What is in the HTML before any script runs.

use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use sha2::{Digest as _, Sha256};

use crate::Dashboard;
use crate::synthetic::{HOSTILE, machine_id};

#[tokio::test]
async fn the_fleet_page_has_every_machine_with_its_numbers() {
    let dashboard = Dashboard::with_machines(5).await;
    let page = dashboard.get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    for i in 0..5 {
        assert!(page.body.contains(&format!("data-machine-id=\"{}\"", machine_id(i))));
    }
    assert!(page.body.contains("db-primary"));
    assert!(page.body.contains(" %</span>"), "no percentage in the page");
    assert!(page.body.contains("asleep <time"), "status in words is missing");
}

#[tokio::test]
async fn the_order_and_the_filter_of_the_address_hold_without_scripts() {
    let dashboard = Dashboard::with_machines(5).await;
    let page = dashboard.get("/?q=env%3Dprod").await;
    let hidden = page.body.matches("hidden>\n<th").count();
    assert_eq!(hidden, 4, "only db-primary is env=prod:\n{}", page.body);
    let page = dashboard.get("/?sort=name&order=desc").await;
    let place = |name| page.body.find(&format!("data-field=\"name\">{name}<")).unwrap();
    assert!(place("web-2") < place("build-box"));
    let wrong = dashboard.get("/?sorted=name").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn machines_are_grouped_by_a_label_of_the_address_and_by_their_status() {
    let dashboard = Dashboard::with_machines(8).await;
    let place = |page: &str, what: &str| page.find(what).unwrap_or_else(|| panic!("no {what}"));
    let page = dashboard.get("/?group=env&sort=cpu&order=desc").await.body;
    let (dev, prod) = (place(&page, "data-group=\"dev\""), place(&page, "data-group=\"prod\""));
    let db = place(&page, "db-primary</a>");
    assert!(dev < prod && prod < db, "prod machines stand under their heading");
    assert!(place(&page, "web-1</a>") < prod);
    assert!(page[dev..].contains("6 machines"));
    let page = dashboard.get("/?group=status").await.body;
    assert!(page.contains("data-group=\"asleep\"") && page.contains("data-group=\"offline\""));
    let page = dashboard.get("/?group=rack").await.body;
    assert!(page.contains("no rack"), "machines without the label are said to be");
}

#[tokio::test]
async fn a_group_that_goes_on_over_pages_has_one_heading() {
    let dashboard = Dashboard::with_machines(250).await;
    let headings = async |from: usize| {
        let page = dashboard.get(&format!("/?group=env&from={from}")).await.body;
        page.matches("class=\"group\"").count()
    };
    assert_eq!((headings(0).await, headings(100).await, headings(200).await), (1, 1, 0));
}

#[tokio::test]
async fn a_large_fleet_comes_in_pages_that_keep_the_order_and_the_filter() {
    let dashboard = Dashboard::with_machines(250).await;
    let rows = |page: &str| page.matches("<tr data-machine-id=").count();
    let first = dashboard.get("/?q=env%3Ddev&sort=cpu&order=desc").await;
    // A first screen opens at once; what follows comes in larger pieces.
    assert_eq!(rows(&first.body), 30);
    assert!(first.body.contains("167 of 250"), "{}", first.body);
    let next = |from: usize| format!("?sort=cpu&amp;order=desc&amp;from={from}&amp;q=env%3Ddev");
    let piece = async |from: usize| {
        let path = format!("/{}", next(from).replace("&amp;", "&"));
        dashboard.ask("GET", &path, "hx-request: true\r\n").await.body
    };
    assert!(first.body.contains(&next(30)), "{}", first.body);
    let second = piece(30).await;
    assert_eq!(rows(&second), 100);
    assert!(second.contains(&next(130)), "{second}");
    let last = piece(130).await;
    assert_eq!(rows(&last), 37);
    assert!(!last.contains("<table") && !last.contains("id=\"more\""));
}

#[tokio::test]
async fn htmx_gets_the_table_alone_from_the_same_template() {
    let dashboard = Dashboard::with_machines(2).await;
    let fragment = dashboard.ask("GET", "/", "hx-request: true\r\n").await;
    assert!(!fragment.body.contains("<html"));
    assert!(fragment.body.contains(&machine_id(1)));
    assert_eq!(fragment.headers["vary"], "hx-request");
}

#[tokio::test]
async fn the_machine_page_has_numbers_processes_facts_events_and_a_place_for_each_chart() {
    let dashboard = Dashboard::with_machines(3).await;
    let page = dashboard.get(&format!("/machines/{}", machine_id(0))).await;
    assert_eq!(page.status, StatusCode::OK);
    for part in [
        "data-field=\"cpu\"",
        "data-chart=\"cpu\"",
        "data-chart=\"network\"",
        "data-range=\"30d\"",
        "id=\"processes\"",
        "stress-ng",
        "6.12.48-amd64",
        "4 ms ahead of the server",
        "% of one core, 13.6 MiB",
        "in the spool",
        "Out of memory",
        "the spool was full",
    ] {
        assert!(page.body.contains(part), "{part} is missing");
    }
    let by_name = dashboard.get("/machines/web-2").await;
    assert_eq!(by_name.status, StatusCode::OK);
}

#[tokio::test]
async fn every_chart_can_be_taken_away_as_link_picture_and_table() {
    let dashboard = Dashboard::with_machines(1).await;
    let page = dashboard.get(&format!("/machines/{}", machine_id(0))).await;
    let charts = page.body.matches("<figure class=\"chart").count();
    assert!(charts > 10);
    for kind in ["link", "png", "csv"] {
        assert_eq!(page.body.matches(&format!("data-take=\"{kind}\"")).count(), charts, "{kind}");
    }
}

#[tokio::test]
async fn without_an_alert_service_nothing_is_said_to_be_well() {
    let dashboard = Dashboard::with_machines(1).await;
    let page = dashboard.get("/alerts").await;
    assert!(page.body.contains("The alert service is not part of this server."));
    assert!(!page.body.contains("Nothing is wrong"));
}

#[tokio::test]
async fn filesystems_have_their_size_and_are_not_said_to_fill_up_when_they_do_not() {
    let dashboard = Dashboard::with_machines(1).await;
    let page = dashboard.get(&format!("/machines/{}", machine_id(0))).await.body;
    let fragment = dashboard.get(&format!("/machines/{}/filesystems", machine_id(0))).await.body;
    for part in [&page, &fragment] {
        let line = |mountpoint: &str| {
            let begin = format!("<th scope=\"row\" title=\"{mountpoint}\"");
            let at = part.find(&begin).unwrap_or_else(|| panic!("no {mountpoint}"));
            &part[at..at + part[at..].find("</tr>").unwrap()]
        };
        assert!(line("/").contains("256 GiB"), "{}", line("/"));
        assert!(line("/").contains(">–</td>"), "{}", line("/"));
        // It grows from a third to nearly all within a week.
        let backups = line("/backups");
        assert!(backups.contains(">today</td>") || backups.contains(">in "), "{backups}");
    }
}

#[tokio::test]
async fn processes_are_shown_as_a_tree_and_by_container() {
    let dashboard = Dashboard::with_machines(1).await;
    let path = format!("/machines/{}/processes", machine_id(0));
    let list = dashboard.get(&path).await.body;
    assert!(!list.contains("class=\"d1\"") && !list.contains("class=\"group\""));
    let tree = dashboard.get(&format!("{path}?by=tree")).await.body;
    assert!(tree.contains("class=\"d1\""), "{tree}");
    let by_container = dashboard.get(&format!("{path}?by=containers")).await.body;
    assert!(by_container.contains("<b>postgres</b>"), "{by_container}");
    assert!(by_container.contains("no container"));
}

#[tokio::test]
async fn containers_have_state_health_and_restarts() {
    let dashboard = Dashboard::with_machines(1).await;
    let page = dashboard.get(&format!("/machines/{}", machine_id(0))).await.body;
    let fragment = dashboard.get(&format!("/machines/{}/containers", machine_id(0))).await.body;
    for part in [&page, &fragment] {
        let line = |id: &str| {
            let begin = format!("<tr data-container=\"{id}\"");
            let at = part.find(&begin).unwrap_or_else(|| panic!("no {id}"));
            &part[at..at + part[at..].find("</tr>").unwrap()]
        };
        let postgres = line("f00dcafe1234beef");
        for words in ["postgres:17", "running since", ">healthy<", " of 512 MiB", ">0</td>"] {
            assert!(postgres.contains(words), "{words} is missing: {postgres}");
        }
        let grafana = line("grafana");
        assert!(grafana.contains("unhealthy") && grafana.contains(">3</td>"), "{grafana}");
        assert!(line("0123456789abcdef").contains("stopped"));
        assert!(!part.contains(HOSTILE));
    }
}

#[tokio::test]
async fn a_process_is_told_as_a_share_of_a_core_and_of_the_machine() {
    let dashboard = Dashboard::with_machines(1).await;
    let path = format!("/machines/{}/processes?q=postgres&at=-60s", machine_id(0));
    let body = dashboard.get(&path).await.body;
    let share = |class: &str| {
        let at = body.rfind(&format!("<td class=\"{class}\">")).expect("a cell");
        let text = body[at..].split(['>', '<']).find(|text| text.ends_with(" %"));
        text.expect("a share").trim_end_matches(" %").parse::<f64>().expect("a number")
    };
    let (core, machine) = (share("p-cpu"), share("p-machine"));
    // Four CPUs; both are rounded.
    assert!((core / 4.0 - machine).abs() <= 0.6, "{core} % of one core, {machine} % of all");
}

#[tokio::test]
async fn who_did_it_names_containers_too() {
    let dashboard = Dashboard::with_machines(1).await;
    let page = dashboard.get(&format!("/machines/{}/who?at=-60s", machine_id(0))).await.body;
    assert!(page.contains("Containers: CPU") && page.contains("grafana"), "{page}");
    let logged = format!("&#38;q=machine%3A{}\">What was logged here</a>", machine_id(0));
    assert!(page.contains("href=\"../logs?from=") && page.contains(&logged), "{page}");
    assert!(!page.contains(HOSTILE));
}

#[tokio::test]
async fn the_health_page_tells_how_the_aggregator_is() {
    let dashboard = Dashboard::with_machines(3).await;
    let page = dashboard.get("/about/health").await;
    for words in [
        "2 machines lost data in the last 24 hours",
        "Frames in",
        "27/s",
        "Out of order",
        "SQLite",
        "≤ 64 ms",
        "<dt>Requests refused: too many</dt><dd class=\"trouble\">3</dd>",
        "<dt>Requests ended: too slow</dt><dd>0</dd>",
    ] {
        assert!(page.body.contains(words), "{words} is missing");
    }
    assert!(page.body.contains("<dt>Collectors 0.1.0</dt><dd>3 machines</dd>"), "{}", page.body);
    // What never occurred is not worth a line.
    assert!(!page.body.contains("Refused: too old"));
}

#[tokio::test]
async fn hostile_names_are_text_on_every_page() {
    let dashboard = Dashboard::with_machines(8).await;
    let paths = [
        "/".to_owned(),
        format!("/?q={}", "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%22%27%26"),
        format!("/machines/{}", machine_id(7)),
        format!("/machines/{}/processes?q=%3Cimg", machine_id(0)),
        format!("/machines/{}/events", machine_id(0)),
        "/about/health".to_owned(),
        "/machines/%3Cimg%20src=x%20onerror=alert(1)%3E".to_owned(),
    ];
    for path in paths {
        let page = dashboard.get(&path).await;
        assert!(!page.body.contains("<img"), "{path} has the tag of {HOSTILE}");
        assert!(page.body.contains("&#60;img"), "{path} does not show {HOSTILE} at all");
    }
}

#[tokio::test]
async fn every_answer_forbids_what_is_not_of_this_server() {
    let dashboard = Dashboard::with_machines(1).await;
    for path in ["/", "/add", "/about/health", "/nothing", "/api/v1/machines", "/api/v1/x", "/ws"] {
        let answer = dashboard.get(path).await;
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self';"), "{path}");
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert!(answer.headers.contains_key("referrer-policy"), "{path}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_said_with_a_way_on() {
    let dashboard = Dashboard::with_machines(1).await;
    for path in ["/nothing", "/machines/none", "/a/b/c"] {
        let page = dashboard.get(path).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{path}");
        assert!(page.body.contains("All machines"), "{path}");
    }
    for (method, more, expected) in [
        ("PUT", "", StatusCode::METHOD_NOT_ALLOWED),
        ("POST", "", StatusCode::FORBIDDEN),
        ("POST", "origin: http://evil.example\r\n", StatusCode::FORBIDDEN),
    ] {
        let changed = dashboard.ask(method, "/", &format!("content-length: 0\r\n{more}")).await;
        assert_eq!(changed.status, expected, "{method} {more}");
    }
}

#[tokio::test]
async fn assets_are_kept_for_ever_under_their_version_and_asked_again_under_another() {
    let dashboard = Dashboard::with_machines(1).await;
    let page = dashboard.get("/").await;
    let at = page.body.find("./static/").unwrap();
    let path: String = page.body[at + 1..].chars().take_while(|c| *c != '"').collect();
    let asset = dashboard.get(&path).await;
    assert_eq!(asset.status, StatusCode::OK, "{path}");
    assert!(asset.headers["cache-control"].to_str().unwrap().contains("immutable"));
    let other = dashboard.get("/static/old/css/muster.css").await;
    assert_eq!(other.headers["cache-control"], "no-cache");
    let outside = dashboard.get("/static/x/../../Cargo.toml").await;
    assert_eq!(outside.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn pages_say_that_they_are_not_live_while_the_aggregator_is_away() {
    let away = tower::service_fn(|_: http::Request<_>| async {
        Err::<http::Response<tonic::body::Body>, _>(std::io::Error::other("nobody there"))
    });
    let fleet = crate::Synthetic::new(0);
    let dashboard =
        Dashboard::start(gateway::Config::default(), fleet, proto::Link::new(away)).await;
    let page = dashboard.eventually("/", |page| page.contains("not reached")).await;
    assert_eq!(page.status, StatusCode::OK);
    let machine = dashboard.get("/machines/web-1").await;
    assert_eq!(machine.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(machine.headers.contains_key("refresh"));
}

#[test]
fn vendored_files_are_what_their_table_says() {
    let vendor = web().join("static/vendor");
    let table = std::fs::read_to_string(vendor.join("README.md")).unwrap();
    let mut listed = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let bytes = std::fs::read(vendor.join(cells[1])).unwrap();
        let sum: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(sum, cells[5], "{}", cells[1]);
        listed.push(vendor.join(cells[1]));
    }
    let mut files = files(&vendor);
    files.retain(|file| !file.ends_with("README.md"));
    files.sort();
    listed.sort();
    assert_eq!(files, listed, "every vendored file is in the table");
}

#[test]
fn no_template_switches_the_escaping_off_or_has_scripts_and_styles_of_its_own() {
    for file in files(&web().join("templates")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for forbidden in [
            "|safe",
            "| safe",
            "{% filter",
            "escape = \"none\"",
            "style=",
            " onclick",
            " onload",
            "<style",
            "javascript:",
        ] {
            assert!(!text.contains(forbidden), "{} contains {forbidden}", file.display());
        }
        for script in text.split("<script").skip(1) {
            assert!(script.contains("src="), "{}: a script without src", file.display());
        }
    }
}

#[test]
fn no_script_makes_markup_from_text() {
    for file in files(&web().join("static/js")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
        {
            assert!(!text.contains(forbidden), "{} uses {forbidden}", file.display());
        }
    }
}

fn web() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}
