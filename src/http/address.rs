//! The request's target, `Host` and version, as the protocol of the connection wants them.
//!
//! A caller says whom it means by `Host`, by the authority of the URI, or not at all: then the instance's address is used.

use std::net::SocketAddr;

use http::header::{HOST, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Version};

/// The authority of requests that name none.
#[derive(Debug)]
pub(super) struct Fallback {
    host: HeaderValue,
    authority: Authority,
}

impl Fallback {
    pub(super) fn new(addr: SocketAddr) -> Self {
        let text = addr.to_string();
        Self {
            host: HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("localhost")),
            authority: text.parse().unwrap_or(Authority::from_static("localhost")),
        }
    }
}

/// A target in origin form (that of `CONNECT` is the authority), and a `Host`.
pub(super) fn for_http1<B>(request: &mut Request<B>, fallback: &Fallback) {
    if request.version() != Version::HTTP_10 {
        *request.version_mut() = Version::HTTP_11;
    }
    if !request.headers().contains_key(HOST) {
        let host = named(request.uri())
            .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
            .unwrap_or_else(|| fallback.host.clone());
        request.headers_mut().insert(HOST, host);
    }
    if request.method() != Method::CONNECT && request.uri().authority().is_some() {
        *request.uri_mut() = Uri::from(path(request.uri()));
    }
}

/// A scheme and an authority in the target, and no `Host`: RFC 9113, 8.3.1.
pub(super) fn for_http2<B>(request: &mut Request<B>, fallback: &Fallback) {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(HOST);
    if request.method() == Method::CONNECT {
        return;
    }
    let authority = host
        .and_then(|host| Authority::try_from(host.as_bytes()).ok())
        .or_else(|| named(request.uri()))
        .unwrap_or_else(|| fallback.authority.clone());
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(request.uri().scheme().cloned().unwrap_or(Scheme::HTTP));
    parts.authority = Some(authority);
    parts.path_and_query = Some(path(request.uri()));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// The authority of a URI without the user information, which is no part of `Host` or `:authority`.
fn named(uri: &Uri) -> Option<Authority> {
    let authority = uri.authority()?;
    match authority.as_str().rsplit_once('@') {
        None => Some(authority.clone()),
        Some((_, host)) => host.parse().ok(),
    }
}

fn path(uri: &Uri) -> PathAndQuery {
    uri.path_and_query()
        .filter(|path| !path.as_str().is_empty())
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"))
}
