//! Responses, with the headers that all of them have.

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::body::ConsoleBody;

pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const JSON: &str = "application/json";
pub(super) const EVENTS: &str = "text/event-stream";
const TEXT: &str = "text/plain; charset=utf-8";

/// For everything but the page, should a browser show it as one.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

pub(super) fn response(
    status: StatusCode,
    content_type: &'static str,
    body: ConsoleBody,
) -> Response<ConsoleBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(CONTENT_TYPE, content_type);
    set(CACHE_CONTROL, "no-store");
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(CONTENT_SECURITY_POLICY, NOTHING);
    // Not `no-referrer`: forms would then have the origin `null`, as those of strangers may have.
    set(REFERRER_POLICY, "same-origin");
    set(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    response
}

/// A sentence, for people and programs alike.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Response<ConsoleBody> {
    let mut text: String = text.into();
    text.push('\n');
    response(status, TEXT, ConsoleBody::whole(text))
}

pub(super) fn not_allowed(allowed: &'static str) -> Response<ConsoleBody> {
    let mut refused = text(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("this path takes {allowed}"),
    );
    let allowed = HeaderValue::from_static(allowed);
    refused.headers_mut().insert(ALLOW, allowed);
    refused
}

/// The text of a header, if it is there once and is ASCII.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok())?
}
