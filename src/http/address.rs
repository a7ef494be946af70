//! The request's target, `Host` and version, as the protocol of the connection wants them.
//!
//! A caller says whom it means by `Host`, by the authority of the URI, or not at all: then the instance's address is used.

use std::net::SocketAddr;

use h2::ext::Protocol;
use http::header::{HOST, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Version};

use crate::model::address::Address;

/// Whom the `Host` of a request names, or its `:authority` in HTTP/2.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Host {
    /// The caller's `Host`, else the authority of the URI, else the address of the instance; `localhost` for a Unix socket.
    #[default]
    Caller,
    /// The address of the instance, or `localhost` for a Unix socket, whatever the caller says.
    Instance,
    /// Always this one, say the name that all instances of the target serve. User information in it is left out.
    Fixed(Authority),
}

/// The authority of requests that name none, or of all.
#[derive(Debug)]
pub(super) struct Fallback {
    host: HeaderValue,
    authority: Authority,
    is_for_all: bool,
    scheme: Scheme,
}

impl Fallback {
    pub(super) fn new(address: &Address, host: &Host, scheme: Scheme) -> Self {
        let authority = match host {
            Host::Fixed(authority) => without_user(authority),
            Host::Caller | Host::Instance => None,
        };
        let authority = authority.unwrap_or_else(|| of_address(address));
        Self {
            host: HeaderValue::from_str(authority.as_str()).expect("an authority is visible ASCII"),
            authority,
            is_for_all: !matches!(host, Host::Caller),
            scheme,
        }
    }
}

impl Fallback {
    /// Whether the caller asks for TLS, and the connection has none.
    pub(super) fn lacks_tls_for(&self, uri: &Uri) -> bool {
        self.scheme != Scheme::HTTPS && uri.scheme() == Some(&Scheme::HTTPS)
    }
}

/// A Unix socket is on this host.
fn of_address(address: &Address) -> Authority {
    let Some(addr) = address.tcp() else {
        return Authority::from_static("localhost");
    };
    // Anew, without the scope of an IPv6 address, which means nothing to the instance.
    let text = SocketAddr::new(addr.ip(), addr.port()).to_string();
    text.parse()
        .expect("an address and a port are an authority")
}

/// A target in origin form (that of `CONNECT` is the authority), and a `Host`.
pub(super) fn for_http1<B>(request: &mut Request<B>, fallback: &Fallback) {
    if request.version() != Version::HTTP_10 {
        *request.version_mut() = Version::HTTP_11;
    }
    let is_connect = request.method() == Method::CONNECT;
    if fallback.is_for_all && !is_connect {
        request.headers_mut().insert(HOST, fallback.host.clone());
    } else if !request.headers().contains_key(HOST) {
        let host = named(request.uri())
            .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
            .unwrap_or_else(|| fallback.host.clone());
        request.headers_mut().insert(HOST, host);
    }
    if !is_connect && request.uri().authority().is_some() {
        *request.uri_mut() = Uri::from(path(request.uri()));
    }
}

/// A scheme and an authority in the target, and no `Host`: RFC 9113, 8.3.1, and RFC 8441, 4. The target of a plain `CONNECT` is
/// the authority alone.
pub(super) fn for_http2<B>(request: &mut Request<B>, fallback: &Fallback) {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(HOST);
    let is_extended = request.extensions().get::<Protocol>().is_some();
    if request.method() == Method::CONNECT && !is_extended {
        return;
    }
    let callers = || {
        host.and_then(|host| Authority::try_from(host.as_bytes()).ok())
            .or_else(|| named(request.uri()))
    };
    let authority = (!fallback.is_for_all)
        .then(callers)
        .flatten()
        .unwrap_or_else(|| fallback.authority.clone());
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(fallback.scheme.clone());
    parts.authority = Some(authority);
    parts.path_and_query = Some(path(request.uri()));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

fn named(uri: &Uri) -> Option<Authority> {
    without_user(uri.authority()?)
}

/// User information is no part of `Host` or `:authority`.
fn without_user(authority: &Authority) -> Option<Authority> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fallback() -> Fallback {
        Fallback::new(&([127, 0, 0, 1], 80).into(), &Host::Caller, Scheme::HTTP)
    }

    fn request(method: Method, uri: &str) -> Request<()> {
        let request = Request::builder().method(method).uri(uri);
        request.body(()).unwrap()
    }

    #[test]
    fn http1_connect_keeps_its_authority() {
        let mut request = request(Method::CONNECT, "role:81");
        for_http1(&mut request, &fallback());
        assert_eq!(request.uri(), "role:81");
        assert_eq!(request.headers()[HOST], "role:81");
    }

    #[test]
    fn a_fixed_authority_is_for_all_but_connect() {
        let fixed = Host::Fixed("me:pw@role:81".parse().unwrap());
        let fallback = Fallback::new(&([127, 0, 0, 1], 80).into(), &fixed, Scheme::HTTP);
        let mut mine = request(Method::GET, "http://other/a");
        mine.headers_mut().insert(HOST, "mine".parse().unwrap());
        for_http1(&mut mine, &fallback);
        assert_eq!(
            (mine.uri().path(), &mine.headers()[HOST]),
            ("/a", &"role:81".parse().unwrap())
        );
        for_http2(&mut mine, &fallback);
        assert_eq!(mine.uri(), "http://role:81/a");
        let mut tunnel = request(Method::CONNECT, "other:82");
        for_http1(&mut tunnel, &fallback);
        assert_eq!(
            (tunnel.uri().to_string(), &tunnel.headers()[HOST]),
            ("other:82".into(), &"other:82".parse().unwrap())
        );
    }

    #[test]
    fn http1_keeps_the_asterisk_and_version_1_0() {
        let mut request = request(Method::OPTIONS, "*");
        *request.version_mut() = Version::HTTP_10;
        for_http1(&mut request, &fallback());
        assert_eq!(request.uri(), "*");
        assert_eq!(request.version(), Version::HTTP_10);
        assert_eq!(request.headers()[HOST], "127.0.0.1:80");
    }

    #[test]
    fn http2_passes_over_a_host_that_is_no_authority() {
        let mut request = request(Method::GET, "/a");
        let host = HeaderValue::from_bytes(b"not an\xffauthority").unwrap();
        request.headers_mut().insert(HOST, host);
        for_http2(&mut request, &fallback());
        assert_eq!(request.uri(), "http://127.0.0.1:80/a");
        assert!(!request.headers().contains_key(HOST));
    }

    #[test]
    fn an_ipv6_instance_is_named_in_brackets_without_its_scope() {
        let fallback = Fallback::new(
            &"[fe80::1%3]:80".parse().unwrap(),
            &Host::Caller,
            Scheme::HTTP,
        );
        let mut request = request(Method::GET, "/a");
        for_http1(&mut request, &fallback);
        assert_eq!(request.headers()[HOST], "[fe80::1]:80");
        for_http2(&mut request, &fallback);
        assert_eq!(request.uri(), "http://[fe80::1]:80/a");
    }
}
