//! What the pool keeps: the sending half of one connection, and how one is opened.

use std::net::SocketAddr;
use std::sync::Weak;

use http::{Request, Response};
use hyper::body::Incoming;

use super::address::Fallback;
use super::age::Age;
use super::error::ConnectError;
use super::pool::{Limits, Pool};
use super::stream::Stream;

/// The sending half of one connection. Dropping the last half of a connection ends it.
pub(super) trait Line: Sized {
    /// Whether many requests use one connection at a time.
    const SHARED: bool;

    /// Whether a request can be sent now.
    fn is_ready(&self) -> bool;

    /// The same, asked of the kernel too, which knows of a loss before hyper does.
    fn is_alive(&self) -> bool;

    /// How its connection stands in its life.
    fn age(&self) -> &Age;

    /// Another half of the same connection, if it is one for many.
    fn share(&self) -> Option<Self>;
}

/// How lines are opened and used, for bodies that can be sent.
pub(super) trait Transport: Line + Send + 'static {
    /// The body of the requests.
    type Body: Send + 'static;

    /// What TLS calls the protocol: RFC 7301.
    const ALPN: &[&'static str];

    /// Makes a line of a connection to `addr`, which runs in the background and gives freed lines back to `home`.
    fn open(
        stream: Stream,
        addr: SocketAddr,
        limits: Limits,
        home: Weak<Pool<Self>>,
    ) -> impl Future<Output = Result<Self, ConnectError>> + Send;

    /// Gives the request the target form, `Host` and version of the protocol.
    fn prepare(request: Request<Self::Body>, authority: &Fallback) -> Request<Self::Body>;

    /// Sends one request. After the head of the response the line goes back to the pool, once it can take another one.
    ///
    /// Whoever waits for the response does not hold the sending half of a connection that has ended: a request that is
    /// handed over in the very moment of the end comes back only when the last of them is gone.
    fn send(
        self,
        request: Request<Self::Body>,
        pool: &Pool<Self>,
    ) -> impl Future<Output = Result<Response<Incoming>, Unanswered<Self::Body>>> + Send;
}

/// A request without a response.
pub(super) struct Unanswered<B> {
    pub(super) error: hyper::Error,
    pub(super) fate: Fate<B>,
}

/// What became of it.
pub(super) enum Fate<B> {
    /// Nothing of it was written: its connection had ended.
    Unsent(Box<Request<B>>),
    /// The instance refused its HTTP/2 stream (`REFUSED_STREAM`) and did not act on it.
    Refused,
    /// The instance closes its HTTP/2 connection (`GOAWAY`) and did not act on it.
    GoAway {
        /// Whether it closes without naming an error.
        graceful: bool,
    },
    Sent,
}

/// Notes the end of a connection that runs in the background.
pub(super) fn log_end(addr: SocketAddr, ended: hyper::Result<()>) {
    match ended {
        Ok(()) => tracing::debug!(%addr, "connection closed"),
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(%addr, error, "connection lost");
        }
    }
}
