//! Extensions of [`http::Request`] by which a caller marks a single request.

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

/// The latest time at which an attempt may start: an extension of [`http::Request`], or of `tonic::Request`.
///
/// It does not end a running attempt. Use a timeout around all attempts for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deadline(Instant);

impl Deadline {
    /// At an instant of tokio's clock, which is the usual one unless it is paused.
    #[must_use]
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// A deadline this long from now; `None` if the clock cannot represent it.
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
