//! The files of `web/static`, inside the binary.
//!
//! All of them share one version, a hash over everything, which is part of their path: modules that
//! import each other by relative paths stay in one version, and a browser may keep them for ever.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::OnceLock;

use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::RustEmbed;

use crate::gateway::Shared;

#[derive(RustEmbed)]
#[folder = "../../web/static"]
struct Folder;

#[derive(Debug)]
pub(crate) struct Assets {
    version: String,
    files: BTreeMap<String, Asset>,
}

#[derive(Debug)]
struct Asset {
    content_type: &'static str,
    etag: HeaderValue,
    plain: Bytes,
    /// Made when first asked for; `None` when it would not be smaller.
    gzip: OnceLock<Option<Bytes>>,
}

impl Assets {
    pub(crate) fn embedded() -> Self {
        let mut files = BTreeMap::new();
        let mut all = Hash::default();
        for path in Folder::iter() {
            let Some(file) = Folder::get(&path) else { continue };
            let hash = file.metadata.sha256_hash();
            all.add(path.as_bytes());
            all.add(&hash);
            let etag = format!("\"{}\"", hex(&hash[..8]));
            let Ok(etag) = HeaderValue::try_from(etag) else { continue };
            let plain = match file.data {
                std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
            };
            let content_type = content_type(&path);
            files.insert(
                path.into_owned(),
                Asset { content_type, etag, plain, gzip: OnceLock::new() },
            );
        }
        Self { version: hex(&all.0.to_be_bytes()), files }
    }

    /// Part of every asset's path; changes whenever any of them does.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }
}

pub(crate) async fn serve(
    State(shared): State<Shared>,
    Path((version, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let Some(asset) = shared.assets.files.get(&path) else {
        return (StatusCode::NOT_FOUND, "no such file\n").into_response();
    };
    // A page from before an update asks for an older version: it gets what there is, not to be kept.
    let keep = if version == shared.assets.version {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    respond(asset, keep, &headers)
}

/// Browsers ask for it whatever the page says.
pub(crate) async fn favicon(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    match shared.assets.files.get("favicon.svg") {
        Some(asset) => respond(asset, "public, max-age=86400", &headers),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn respond(asset: &Asset, keep: &'static str, headers: &HeaderMap) -> Response {
    let mut response = Response::default();
    let known = headers.get(IF_NONE_MATCH).is_some_and(|etag| *etag == asset.etag);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        let accepts_gzip = headers
            .get(ACCEPT_ENCODING)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.split(',').any(|coding| coding.trim().starts_with("gzip")));
        let gzip = if accepts_gzip { asset.gzip() } else { None };
        if gzip.is_some() {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        *response.body_mut() = gzip.unwrap_or_else(|| asset.plain.clone()).into();
    }
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    out.insert(ETAG, asset.etag.clone());
    out.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    out.insert(VARY, HeaderValue::from_static("accept-encoding"));
    response
}

impl Asset {
    fn gzip(&self) -> Option<Bytes> {
        self.gzip
            .get_or_init(|| {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
                encoder.write_all(&self.plain).ok()?;
                let small = encoder.finish().ok()?;
                (small.len() < self.plain.len()).then(|| small.into())
            })
            .clone()
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("md" | "txt") => "text/plain; charset=utf-8",
        _ if path.ends_with("LICENSE") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// FNV-1a: the files' own SHA-256 go in, so this need only tell versions apart.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_sent_small_and_not_sent_again() {
        let assets = Assets::embedded();
        let asset = &assets.files["vendor/uplot/uPlot.iife.min.js"];
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("br, gzip"));
        let first = respond(asset, "no-cache", &headers);
        assert_eq!(first.headers()[CONTENT_ENCODING], "gzip");
        assert!(asset.gzip().is_some_and(|gzip| gzip.len() < 23_000));

        headers.insert(IF_NONE_MATCH, first.headers()[ETAG].clone());
        assert_eq!(respond(asset, "no-cache", &headers).status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn every_asset_has_a_content_type() {
        for (path, asset) in &Assets::embedded().files {
            assert_ne!(asset.content_type, "application/octet-stream", "{path}");
        }
    }
}
