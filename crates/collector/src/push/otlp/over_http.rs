//! OTLP by HTTP: a request as Protobuf or as JSON, with gzip or without, and the answer in the same encoding.

use std::io::Read as _;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use prost::Message;
use serde::de::DeserializeOwned;
use serde_json::json;
use tonic::{Code, Status};

use super::wire::{ExportResponse, Refusal};
use super::{PATIENCE, REQUEST_BYTES_MAX};

type Response = http::Response<tonic::body::Body>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Option<Self> {
        match super::kind(headers).split(';').next().map(str::trim) {
            Some("application/x-protobuf") => Some(Self::Protobuf),
            Some("application/json") => Some(Self::Json),
            _ => None,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    /// What is wrong, as `google.rpc.Status`.
    fn refuse(self, status: StatusCode, code: Code, why: &str) -> Response {
        let body = match self {
            Self::Protobuf => {
                Refusal { code: code as i32, message: why.to_owned() }.encode_to_vec()
            }
            Self::Json => json!({ "code": code as i32, "message": why }).to_string().into_bytes(),
        };
        send(status, self.kind(), body)
    }
}

/// The message in the body of a request; else the answer that says why there is none.
pub(super) async fn read<M>(
    request: http::Request<Incoming>,
) -> Result<(M, Encoding), Box<Response>>
where
    M: Message + Default + DeserializeOwned,
{
    if request.method() != Method::POST {
        return Err(plain(StatusCode::METHOD_NOT_ALLOWED, "expected POST").into());
    }
    let (head, body) = request.into_parts();
    let Some(encoding) = Encoding::of(&head.headers) else {
        let hint = "expected content-type application/x-protobuf or application/json";
        return Err(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, hint).into());
    };
    let refuse =
        |status, why: &str| Err(encoding.refuse(status, Code::InvalidArgument, why).into());
    let collected = tokio::time::timeout(PATIENCE, Limited::new(body, REQUEST_BYTES_MAX).collect());
    let bytes = match collected.await {
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the request took too long"),
        Ok(Err(_)) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, "expected at most 4 MiB"),
        Ok(Ok(body)) => body.to_bytes(),
    };
    let packed = head.headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes());
    let bytes = match packed {
        None | Some(b"" | b"identity") => bytes,
        Some(b"gzip") => match unpacked(&bytes) {
            Some(bytes) => bytes,
            None => {
                return refuse(StatusCode::BAD_REQUEST, "expected gzip of at most 4 MiB unpacked");
            }
        },
        Some(_) => {
            let hint = "expected no content-encoding, or gzip";
            return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, hint);
        }
    };
    let message = match encoding {
        Encoding::Protobuf => M::decode(bytes).map_err(|error| error.to_string()),
        Encoding::Json => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
    };
    match message {
        Ok(message) => Ok((message, encoding)),
        Err(error) => {
            refuse(StatusCode::BAD_REQUEST, &format!("expected a message of OTLP: {error}"))
        }
    }
}

/// `None` when it is no gzip, or more than a request may have: a few bytes can unpack to gigabytes.
fn unpacked(bytes: &[u8]) -> Option<Bytes> {
    let mut out = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(bytes).take(REQUEST_BYTES_MAX as u64 + 1);
    reader.read_to_end(&mut out).ok()?;
    (out.len() <= REQUEST_BYTES_MAX).then(|| out.into())
}

/// `rejected` is the name that JSON has for how many were refused.
pub(super) fn respond(
    outcome: Result<ExportResponse, Status>,
    encoding: Encoding,
    rejected: &'static str,
) -> Response {
    let response = match outcome {
        Ok(response) => response,
        Err(status) => {
            let code = match status.code() {
                Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::BAD_REQUEST,
            };
            return encoding.refuse(code, status.code(), status.message());
        }
    };
    let body = match (encoding, &response.partial_success) {
        (Encoding::Protobuf, _) => response.encode_to_vec(),
        (Encoding::Json, None) => b"{}".to_vec(),
        (Encoding::Json, Some(partial)) => {
            // As text: it has 64 bits.
            let count = partial.rejected.to_string();
            let partial = json!({ rejected: count, "errorMessage": partial.error_message });
            json!({ "partialSuccess": partial }).to_string().into_bytes()
        }
    };
    send(StatusCode::OK, encoding.kind(), body)
}

/// For whoever speaks no OTLP.
pub(super) fn plain(code: StatusCode, why: &str) -> Response {
    send(code, "text/plain; charset=utf-8", format!("{why}\n").into_bytes())
}

fn send(code: StatusCode, kind: &'static str, body: Vec<u8>) -> Response {
    let mut response = http::Response::new(tonic::body::Body::new(Full::new(Bytes::from(body))));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
