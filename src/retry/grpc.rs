//! What gRPC says of retries, by its proposal A6.

use std::time::{Duration, Instant};

use http::Request;
use http::header::{CONTENT_TYPE, HeaderMap};

use super::mark;
use crate::grpc::deadline;
use crate::grpc::first_message::HoldHead;
use crate::http::ReplayBody;

const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";
const PUSHBACK: &str = "grpc-retry-pushback-ms";

pub(super) fn is_call(headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE);
    content.is_some_and(|content| content.as_bytes().starts_with(b"application/grpc"))
}

/// Lets the caller see nothing before the first message, if the call can then still be made again.
pub(super) fn hold_head(mut request: Request<ReplayBody>) -> Request<ReplayBody> {
    let is_marked = is_call(request.headers()) && mark::is_idempotent(&request, false);
    if is_marked && request.body().read_ahead() {
        request.extensions_mut().insert(HoldHead);
    }
    request
}

/// When the caller's time is over.
pub(super) fn deadline(headers: &HeaderMap, now: Instant) -> Option<Instant> {
    now.checked_add(deadline::limit(headers)?)
}

/// Tells the next instance what time is left, if the caller set a limit, and how many had the call before.
pub(super) fn prepare(headers: &mut HeaderMap, attempts: u32, left: Option<Duration>) {
    if attempts > 0 {
        headers.insert(PREVIOUS_ATTEMPTS, attempts.into());
    }
    if let Some(left) = left.filter(|_| deadline::limit(headers).is_some()) {
        deadline::set_limit(headers, left);
    }
}

/// What a server wants of those that would call again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushback {
    None,
    After(Duration),
    Never,
}

/// A longer one is as good as none: the caller has its error now.
const LONGEST_PUSHBACK: u32 = 60_000;

pub(super) fn pushback(headers: &HeaderMap) -> Pushback {
    let Some(asked) = headers.get(PUSHBACK) else {
        return Pushback::None;
    };
    let millis = asked
        .to_str()
        .ok()
        .and_then(|text| text.parse::<u32>().ok())
        .filter(|millis| *millis <= LONGEST_PUSHBACK);
    millis.map_or(Pushback::Never, |millis| {
        Pushback::After(Duration::from_millis(millis.into()))
    })
}
