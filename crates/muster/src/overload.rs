//! How many requests are worked on at a time, and how long one may take. What is too much is refused at once
//! and counted: a queue of requests would only make all of them late.
//!
//! Calls that go on for as long as both sides like are bounded where they are served, and pass here.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

/// Requests at a time. The costly ones, such as range queries, have narrower bounds of their own.
pub(crate) const REQUESTS_MAX: usize = 512;
/// Longer than any bound of a single call.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is open for long: calls that stream, and the WebSocket of a page.
const STREAMS: [&str; 8] = [
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/muster.v1.AlertService/FollowProbe",
    "/muster.v1.CollectorService/Connect",
    "/muster.v1.LogService/Tail",
    "/muster.v1.StateService/StreamMetrics",
    "/muster.v1.StateService/Watch",
];
const WEB_SOCKET: &str = "/ws";
/// What tells whether the process is well must be answered when it is not.
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Cheap to clone; clones share their bounds and counts.
#[derive(Clone, Debug)]
pub(crate) struct Overload {
    slots: Arc<Semaphore>,
    requests_max: usize,
    timeout: Duration,
    active: Gauge,
    shed: Counter,
    timed_out: Counter,
}

impl Overload {
    pub(crate) fn new(requests_max: usize, metrics: &mut Registry) -> Self {
        let overload = Self {
            slots: Arc::new(Semaphore::new(requests_max)),
            requests_max,
            timeout: TIMEOUT,
            active: Gauge::default(),
            shed: Counter::default(),
            timed_out: Counter::default(),
        };
        let registry = metrics.sub_registry_with_prefix("muster_requests");
        let active = overload.active.clone();
        registry.register("active", "Requests that are worked on, streams not among them", active);
        registry.register(
            "shed",
            "Requests refused because as many as allowed were worked on",
            overload.shed.clone(),
        );
        registry.register(
            "timed_out",
            "Requests ended because they took longer than allowed, or than their caller waits",
            overload.timed_out.clone(),
        );
        overload
    }

    /// What was refused, by name.
    pub(crate) fn refusals(&self) -> [(&'static str, Counter); 2] {
        [("requests_shed", self.shed.clone()), ("requests_timed_out", self.timed_out.clone())]
    }
}

/// The middleware. What it ends for want of time is dropped where it waits.
pub(crate) async fn check(
    State(overload): State<Overload>,
    request: Request,
    next: Next,
) -> Response {
    if passes(request.uri().path()) {
        return next.run(request).await;
    }
    let voice = Voice::of(&request);
    let Ok(_slot) = overload.slots.try_acquire() else {
        overload.shed.inc();
        let words = format!(
            "{} requests are worked on at once already; hint: try again in a second",
            overload.requests_max
        );
        return voice.refuse(Status::unavailable(words));
    };
    let _counted = Counted::new(&overload.active);
    let timeout = patience(request.headers()).map_or(overload.timeout, |p| p.min(overload.timeout));
    match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            overload.timed_out.inc();
            let words = format!("not done within {timeout:?}; hint: ask for less at once");
            voice.refuse(Status::deadline_exceeded(words))
        }
    }
}

fn passes(path: &str) -> bool {
    path == WEB_SOCKET || path == HEALTH || STREAMS.contains(&path)
}

/// How whoever asks is answered.
#[derive(Clone, Copy, Debug)]
enum Voice {
    Grpc,
    Json,
    Plain,
}

impl Voice {
    fn of(request: &Request) -> Self {
        let kind = request.headers().get(CONTENT_TYPE).map(|kind| kind.as_bytes());
        match kind {
            Some(kind) if kind.starts_with(b"application/grpc") => Self::Grpc,
            _ if request.uri().path().starts_with("/api/") => Self::Json,
            _ => Self::Plain,
        }
    }

    fn refuse(self, status: Status) -> Response {
        let (code, word) = match status.code() {
            Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            _ => (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded"),
        };
        let words = status.message();
        let mut response = match self {
            Self::Grpc => return status.into_http(),
            Self::Json => {
                let error = serde_json::json!({ "code": word, "field": null, "message": words });
                (code, Json(serde_json::json!({ "error": error }))).into_response()
            }
            Self::Plain => (code, format!("{words}\n")).into_response(),
        };
        if code == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// How long a caller waits: `grpc-timeout`, up to eight digits and a unit, as gRPC's description of its
/// protocol over HTTP/2 has it. What is not written so counts as nothing said.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let n: u64 = plain.then(|| digits.parse().ok())??;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

/// Counts down also where the work is dropped half done.
struct Counted<'a>(&'a Gauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::{get, post};
    use prost_types::FileDescriptorSet;
    use tokio::sync::Notify;
    use tower::ServiceExt as _;

    use super::*;

    /// `/held` answers once it is told to, `/never` never, and so does a stream.
    fn server(requests_max: usize, go: Arc<Notify>) -> (Router, Overload) {
        let overload = Overload::new(requests_max, &mut Registry::default());
        let held = move || async move {
            go.notified().await;
            "done"
        };
        let router = Router::new()
            .route("/held", get(held.clone()).post(held.clone()))
            .route("/never", post(std::future::pending::<()>))
            .route("/muster.v1.LogService/Tail", post(held))
            .layer(from_fn_with_state(overload.clone(), check));
        (router, overload)
    }

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).expect("a request")
    }

    #[tokio::test]
    async fn what_is_too_much_is_refused_at_once_and_the_rest_is_served() {
        let go = Arc::new(Notify::new());
        let (router, overload) = server(1, go.clone());
        let first = tokio::spawn(router.clone().oneshot(request("GET", "/held", &[])));
        while overload.active.get() == 0 {
            tokio::task::yield_now().await;
        }
        let second = router.clone().oneshot(request("GET", "/held", &[])).await.expect("answers");
        assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(second.headers()[RETRY_AFTER], "1");
        let call = request("POST", "/held", &[("content-type", "application/grpc")]);
        let call = router.clone().oneshot(call).await.expect("answers");
        assert_eq!(call.headers()["grpc-status"], "14");
        assert_eq!(overload.shed.get(), 2);
        // A stream does not wait for others to end.
        let stream = router.clone().oneshot(request("POST", "/muster.v1.LogService/Tail", &[]));
        go.notify_waiters();
        go.notify_one();
        assert_eq!(stream.await.expect("answers").status(), StatusCode::OK);
        let first = first.await.expect("no panic").expect("answers");
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(overload.active.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_ended_and_a_caller_s_patience_counts() {
        async fn check(headers: &[(&str, &str)], expected_ms: u128) {
            let (router, overload) = server(1, Arc::default());
            let start = tokio::time::Instant::now();
            let answer = router.oneshot(request("POST", "/never", headers)).await.expect("answers");
            assert_eq!(start.elapsed().as_millis(), expected_ms, "{headers:?}");
            match answer.headers().get("grpc-status") {
                Some(code) => assert_eq!(code, "4"),
                None => assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT),
            }
            assert_eq!((overload.timed_out.get(), overload.active.get()), (1, 0));
        }
        let grpc = ("content-type", "application/grpc");
        check(&[], 60_000).await;
        check(&[grpc], 60_000).await;
        check(&[grpc, ("grpc-timeout", "1500m")], 1_500).await;
        check(&[grpc, ("grpc-timeout", "2H")], 60_000).await;
    }

    #[test]
    fn a_timeout_is_read_as_it_is_written() {
        fn check(text: &str, expected: Option<Duration>) {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().expect("a value"));
            assert_eq!(patience(&headers), expected, "{text}");
        }
        check("1S", Some(Duration::from_secs(1)));
        check("90M", Some(Duration::from_secs(5400)));
        check("99999999H", Some(Duration::from_secs(99_999_999 * 3600)));
        check("250u", Some(Duration::from_micros(250)));
        check("7n", Some(Duration::from_nanos(7)));
        check("100000000S", None);
        check("-1S", None);
        check("S", None);
        check("1", None);
        check("1x", None);
        check("1.5S", None);
        assert_eq!(patience(&HeaderMap::new()), None);
    }

    #[test]
    fn the_calls_that_stream_are_those_of_the_wire() {
        let set: FileDescriptorSet =
            prost::Message::decode(proto::DESCRIPTOR_SET).expect("from the same build");
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let streams = method.client_streaming() || method.server_streaming();
                    assert_eq!(STREAMS.contains(&path.as_str()), streams, "{path}");
                }
            }
        }
    }
}
