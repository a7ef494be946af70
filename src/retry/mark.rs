//! What a caller says of a single request: extensions of [`http::Request`].

use std::time::{Duration, Instant};

use http::{Method, Request};

use crate::runtime::clock;

/// Whether a request that was sent may be sent again: an extension of [`http::Request`], or of `tonic::Request`.
///
/// ```
/// use rolecall::retry::Idempotent;
/// # fn mark(mut request: http::Request<()>) {
/// request.extensions_mut().insert(Idempotent(true));
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Idempotent(pub bool);

/// Until when an attempt may begin: an extension of [`http::Request`], or of `tonic::Request`.
///
/// It ends no attempt: that is for a time limit round all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deadline(Instant);

impl Deadline {
    /// At an instant of tokio's clock, which is the usual one unless it is paused.
    #[must_use]
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// In so long from now; none if that is beyond what the clock can tell.
    #[must_use]
    pub fn after(duration: Duration) -> Option<Self> {
        clock::now().checked_add(duration).map(Self)
    }

    pub(super) fn of<B>(request: &Request<B>) -> Option<Instant> {
        request.extensions().get().map(|Self(instant)| *instant)
    }
}

/// As marked, else by the method if methods count.
pub(super) fn is_idempotent<B>(request: &Request<B>, by_method: bool) -> bool {
    match request.extensions().get() {
        Some(Idempotent(marked)) => *marked,
        None => by_method && IDEMPOTENT.contains(request.method()),
    }
}

/// RFC 9110, section 9.2.2.
const IDEMPOTENT: [Method; 6] = [
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::TRACE,
    Method::PUT,
    Method::DELETE,
];
