//! The service of one instance: what [`Connector`](super::Connector) makes and the balancer clones for each request.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tower_service::Service;

use super::checkout::Checkout;
use super::error::CallError;
use super::http1::Lane;
use super::http2::Share;
use super::line::{Fate, Transport, Unanswered};
use super::pool::Pool;
use crate::error::BoxError;

/// The connections to one instance, as a service.
///
/// Clones share the connections. [`poll_ready`](Service::poll_ready) claims one, and opens one if none is open, so a lost
/// instance shows there, before a request is given away:
/// - HTTP/1.1: the idle connection used last, else a new one or whichever is free before that is open. After the end of the
///   response's body it is idle again. A body dropped before its end closes its connection.
/// - HTTP/2: the one connection for all. When the instance has closed it, it is opened again.
///
/// A request whose idle connection turns out closed before anything was written is sent on another one. Otherwise a request is
/// sent once. [`CallError::was_sent`] is false if the instance certainly did not act on it: [`Resend`](super::Resend) sends
/// such a request once more.
///
/// `call` without `poll_ready` before is no mistake: the response future claims by itself.
///
/// # Request
///
/// The URI may be a mere path (`/hello`). `Host`, or `:authority` in HTTP/2, is the caller's `Host`, else the authority of
/// the URI, else the address of the instance, or whom [`Connector::host`](super::Connector::host) says. The authority of the URI does not decide where the request goes.
/// A `https` URI fails without TLS, and nothing is sent; any other scheme goes over TLS if the connector has it.
///
/// # Cancellation
///
/// A clone dropped with a connection it did not use gives it back. A response future dropped before the response closes its
/// HTTP/1.1 connection, and resets its HTTP/2 stream. When the last clone is dropped, dials under way are aborted, idle
/// connections close, and those with a request in flight close after it.
pub struct Connection<B> {
    protocol: Protocol<B>,
}

enum Protocol<B> {
    Http1(Checkout<Lane<B>>),
    Http2(Checkout<Share<B>>),
}

impl<B> Connection<B> {
    pub(super) fn http1(pool: Arc<Pool<Lane<B>>>) -> Self {
        Self {
            protocol: Protocol::Http1(Checkout::new(pool)),
        }
    }

    pub(super) fn http2(pool: Arc<Pool<Share<B>>>) -> Self {
        Self {
            protocol: Protocol::Http2(Checkout::new(pool)),
        }
    }
}

impl<B> Service<Request<B>> for Connection<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Incoming>;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<Response<Incoming>, CallError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        match &mut self.protocol {
            Protocol::Http1(checkout) => checkout.poll_ready(cx),
            Protocol::Http2(checkout) => checkout.poll_ready(cx),
        }
        .map_err(CallError::connect)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match &mut self.protocol {
            Protocol::Http1(checkout) => Box::pin(exchange(checkout.split(), request)),
            Protocol::Http2(checkout) => Box::pin(exchange(checkout.split(), request)),
        }
    }
}

async fn exchange<L: Transport>(
    mut checkout: Checkout<L>,
    request: Request<L::Body>,
) -> Result<Response<Incoming>, CallError> {
    let pool = checkout.pool();
    let addr = pool.addr();
    if pool.fallback().lacks_tls_for(request.uri()) {
        return Err(CallError::no_tls(addr));
    }
    let mut request = L::prepare(request, checkout.pool().fallback());
    loop {
        let grant = checkout.take().await.map_err(CallError::connect)?;
        let is_fresh = grant.fresh;
        let Unanswered { error, fate } = match grant.line.send(request, checkout.pool()).await {
            Ok(response) => return Ok(response),
            Err(unanswered) => unanswered,
        };
        match fate {
            // It had ended while it was idle. Each of these leaves the pool, so the loop ends.
            Fate::Unsent(unsent) if !is_fresh => request = *unsent,
            Fate::Unsent(_) => return Err(CallError::unsent(addr, error)),
            Fate::Refused => return Err(CallError::refused(addr, error)),
            Fate::GoAway { graceful } => return Err(CallError::go_away(addr, error, graceful)),
            Fate::Sent => return Err(CallError::sent(addr, error)),
        }
    }
}

impl<B> Clone for Connection<B> {
    fn clone(&self) -> Self {
        Self {
            protocol: match &self.protocol {
                Protocol::Http1(checkout) => Protocol::Http1(checkout.clone()),
                Protocol::Http2(checkout) => Protocol::Http2(checkout.clone()),
            },
        }
    }
}

impl<B> fmt::Debug for Connection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut connection = f.debug_struct("Connection");
        match &self.protocol {
            Protocol::Http1(checkout) => connection.field("http1", checkout.pool()),
            Protocol::Http2(checkout) => connection.field("http2", checkout.pool()),
        }
        .finish()
    }
}
