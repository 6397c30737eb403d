//! Stands before everything that is served: who asks, under which name, and may they?
//!
//! The caller is found by asking `AccessService`, in this process or elsewhere, and remembered for a moment.
//! What is open when a caller loses its rights is cut.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, ORIGIN};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use daemon::http::CutOff;
use model::Caller;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use proto::v1;
use proto::v1::access_service_client::AccessServiceClient;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

mod cut;
mod hosts;
mod policy;
mod refusal;

pub(crate) use hosts::Hosts;
use policy::{Policy, Voice};
use refusal::Refusal;

/// A caller that was asked for is taken at its word this long.
const FRESH: Duration = Duration::from_secs(2);
/// While the one who knows does not answer, those who were known stay so this long.
const KNOWN_FOR: Duration = Duration::from_secs(600);
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Callers remembered at a time. Above it, each is asked for each time.
const KNOWN_MAX: usize = 10_000;
/// What the audit of alerts keeps of a name.
const ACTOR_BYTES_MAX: usize = 120;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Guard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Who knows; `None` where nothing is asked of anybody.
    access: Option<AccessServiceClient<proto::Link>>,
    /// Names of this server that are answered.
    hosts: Hosts,
    /// Whether there is a page to log in at.
    pages: bool,
    /// By secret. Held for a look or a step, never while somebody is asked.
    known: Mutex<HashMap<String, Arc<Known>>>,
    refused: Counter,
}

/// Somebody who asked, and may have something open.
#[derive(Debug)]
struct Known {
    /// As of when it was last asked for. Replaced in place, as a token may become that of one machine: what
    /// is open must still be found by its secret. Held for a look or a step.
    caller: Mutex<(Caller, Instant)>,
    /// Cancelled when the rights are lost.
    cut: CancellationToken,
}

impl Known {
    fn new(caller: Caller) -> Self {
        Self { caller: Mutex::new((caller, Instant::now())), cut: CancellationToken::new() }
    }

    fn lock(&self) -> MutexGuard<'_, (Caller, Instant)> {
        self.caller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn caller(&self) -> Caller {
        self.lock().0.clone()
    }

    fn age(&self) -> Duration {
        self.lock().1.elapsed()
    }
}

impl Guard {
    pub(crate) fn new(
        access: Option<proto::Link>,
        hosts: Hosts,
        pages: bool,
        metrics: &mut Registry,
    ) -> Self {
        let refused = Counter::default();
        metrics.sub_registry_with_prefix("access").register(
            "requests_refused",
            "Requests under a strange name, without a caller, or whose caller may not",
            refused.clone(),
        );
        let access = access.map(AccessServiceClient::new);
        Self(Arc::new(Inner { access, hosts, pages, known: Mutex::default(), refused }))
    }

    /// Asks again for callers that have something open, and forgets the others, until the end.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        while stop.run_until_cancelled(tokio::time::sleep(FRESH)).await.is_some() {
            let open: Vec<String> = {
                let mut known = self.0.lock();
                known.retain(|_, known| Arc::strong_count(known) > 1 || known.age() < KNOWN_FOR);
                let open = known.iter().filter(|(_, known)| Arc::strong_count(known) > 1);
                open.map(|(secret, _)| secret.clone()).collect()
            };
            for secret in open {
                // Whatever the outcome, it has taken effect.
                let _ = self.0.caller(&secret).await;
            }
        }
        Ok(())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose secret it is; `None` when it is nobody's.
    async fn caller(&self, secret: &str) -> Result<Option<Arc<Known>>, Status> {
        let Some(access) = &self.access else { return Ok(None) };
        let known = self.lock().get(secret).cloned();
        if let Some(known) = &known
            && known.age() < FRESH
        {
            return Ok(Some(known.clone()));
        }
        let request = v1::IdentifyRequest { secret: secret.to_owned() };
        let mut access = access.clone();
        let asked = tokio::time::timeout(ASK_TIMEOUT, access.identify(request)).await;
        let answer = asked.unwrap_or_else(|_| Err(Status::unavailable("nobody answers")));
        match (answer.and_then(|answer| read(answer.into_inner())), known) {
            (Ok(caller), Some(known)) => {
                *known.lock() = (caller, Instant::now());
                Ok(Some(known))
            }
            (Ok(caller), None) => {
                let mut all = self.lock();
                // Of two requests that asked at once, both use what the first found.
                if let Some(known) = all.get(secret) {
                    return Ok(Some(known.clone()));
                }
                let known = Arc::new(Known::new(caller));
                if all.len() < KNOWN_MAX {
                    all.insert(secret.to_owned(), known.clone());
                }
                Ok(Some(known))
            }
            (Err(status), known) if status.code() == Code::Unauthenticated => {
                self.lock().remove(secret);
                if let Some(known) = known {
                    tracing::info!(token.id = known.caller().id, "a caller lost its rights");
                    known.cut.cancel();
                }
                Ok(None)
            }
            // Not asked successfully: who was known stays so for a while.
            (Err(_), Some(known)) if known.age() < KNOWN_FOR => Ok(Some(known)),
            (Err(status), _) => Err(Status::unavailable(format!(
                "who asks cannot be found out: {}",
                status.message()
            ))),
        }
    }
}

fn read(answer: v1::IdentifyResponse) -> Result<Caller, Status> {
    let grant = answer.grant.parse();
    let grant = grant.map_err(|e| Status::internal(format!("identify: grant: {e}")))?;
    Ok(Caller { id: answer.id, name: answer.name, grant })
}

/// The middleware around everything that is served.
pub(crate) async fn check(
    State(guard): State<Guard>,
    mut request: Request,
    next: Next,
) -> Response {
    let inner = &*guard.0;
    let (policy, voice) = policy::of(request.method(), request.uri().path());
    let refuse = |refusal: Refusal, request: &Request| {
        inner.refused.inc();
        refusal::response(refusal, voice, request, inner.pages)
    };
    if let Err(host) = inner.hosts.check(&request) {
        return refuse(Refusal::Stranger(host), &request);
    }
    if voice == Voice::Grpc && !is_grpc(request.headers()) {
        return refuse(Refusal::NoCall, &request);
    }
    // Only this server says who asks.
    request.extensions_mut().remove::<Caller>();
    if inner.access.is_none() {
        return next.run(request).await;
    }
    let secret = secret(request.headers(), voice);
    let known = match &secret {
        Some(secret) => match inner.caller(secret).await {
            Ok(known) => known,
            Err(_) if policy == Policy::Open => None,
            Err(status) => return refuse(Refusal::Unknown(status), &request),
        },
        None => None,
    };
    let Some(known) = known else {
        if policy == Policy::Open {
            return next.run(request).await;
        }
        let refusal = if secret.is_some() { Refusal::Invalid } else { Refusal::Nobody };
        return refuse(refusal, &request);
    };
    let caller = known.caller();
    if !policy.allows(caller.grant) {
        return refuse(Refusal::NotAllowed(caller.grant), &request);
    }
    if voice == Voice::Grpc {
        name_actor(request.headers_mut(), &caller);
    }
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(CutOff::new(known.cut.clone(), known.clone()));
    // Somebody who leaves is gone at once, not when it is asked for the next time.
    let leaves = request.uri().path() == "/logout";
    let response = next.run(request).await;
    if leaves && let Some(secret) = &secret {
        inner.lock().remove(secret);
        known.cut.cancel();
    }
    match voice {
        Voice::Grpc => response.map(|body| Body::new(cut::Cut::new(body, known))),
        _ => response,
    }
}

/// A page elsewhere can make a browser POST text to us, and tonic would read it. It cannot make it say this
/// without asking first, which we do not answer.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with("application/grpc") && !headers.contains_key(ORIGIN)
}

/// What the caller proves itself with. Calls take no cookies: a browser sends those for whoever makes it.
fn secret(headers: &HeaderMap, voice: Voice) -> Option<String> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim().to_owned());
    }
    if voice == Voice::Grpc {
        return None;
    }
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|cookie| cookie.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        proto::SESSION_COOKIES.contains(&name).then(|| value.to_owned())
    });
    pairs.next()
}

/// Who the audit says that it was. A gateway that may do everything acts for the people who use it.
fn name_actor(headers: &mut HeaderMap, caller: &Caller) {
    let for_whom = headers.remove("muster-actor");
    let for_whom = for_whom.as_ref().and_then(|name| name.to_str().ok());
    let name = match for_whom {
        Some(name) if caller.grant == model::Grant::Admin => format!("{name} via {}", caller.name),
        _ => caller.name.clone(),
    };
    let visible = |c: &char| c.is_ascii_graphic() || *c == ' ';
    let name: String = name.chars().filter(visible).take(ACTOR_BYTES_MAX).collect();
    if let Ok(name) = HeaderValue::from_str(&name)
        && !name.is_empty()
    {
        headers.insert("muster-actor", name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (axum::http::HeaderName::from_static(name), value.parse().expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_secret_is_found_where_it_may_be() {
        fn check(pairs: &[(&'static str, &str)], voice: Voice, expected: Option<&str>) {
            let found = secret(&headers(pairs), voice);
            assert_eq!(found.as_deref(), expected, "{pairs:?}");
        }
        check(&[("authorization", "Bearer abc")], Voice::Grpc, Some("abc"));
        check(&[("authorization", "bearer  abc")], Voice::Json, Some("abc"));
        check(&[("authorization", "Basic abc")], Voice::Json, None);
        check(&[("cookie", "a=b; muster_session=abc; c")], Voice::Page, Some("abc"));
        check(&[("cookie", "__Host-muster_session=abc")], Voice::Page, Some("abc"));
        check(&[("cookie", "xmuster_session=abc")], Voice::Page, None);
        check(&[("cookie", "muster_session=abc")], Voice::Grpc, None);
        check(
            &[("authorization", "Bearer abc"), ("cookie", "muster_session=d")],
            Voice::Page,
            Some("abc"),
        );
        check(&[], Voice::Page, None);
    }

    #[test]
    fn a_page_elsewhere_cannot_make_a_call() {
        fn check(pairs: &[(&'static str, &str)], expected: bool) {
            assert_eq!(is_grpc(&headers(pairs)), expected, "{pairs:?}");
        }
        check(&[("content-type", "application/grpc")], true);
        check(&[("content-type", "application/grpc+proto")], true);
        check(&[("content-type", "text/plain")], false);
        check(&[("content-type", "text/plain; application/grpc")], false);
        check(&[], false);
        check(&[("content-type", "application/grpc"), ("origin", "http://evil.example")], false);
    }

    #[test]
    fn the_audit_names_who_it_really_was() {
        fn check(claimed: Option<&str>, grant: model::Grant, expected: &str) {
            let caller = Caller { id: "1".into(), name: "é gate".into(), grant };
            let mut headers = headers(&[]);
            if let Some(claimed) = claimed {
                headers.insert("muster-actor", claimed.parse().expect("a value"));
            }
            name_actor(&mut headers, &caller);
            assert_eq!(headers["muster-actor"], expected);
        }
        check(None, model::Grant::Admin, " gate");
        check(Some("ann"), model::Grant::Admin, "ann via  gate");
        check(Some("ann"), model::Grant::Read, " gate");
    }
}
