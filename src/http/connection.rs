//! The service of one instance: what [`Connector`](super::Connector) makes and the balancer clones for each request.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tower_service::Service;

use super::address;
use super::error::{BodyError, CallError};
use super::http2::call::Call;
use super::{http1, http2};
use crate::error::BoxError;

/// The connections to one instance, as a service.
///
/// Clones share the connections. [`poll_ready`](Service::poll_ready) claims one, and opens one if none is open, so a lost
/// instance shows there, before a request is given away:
/// - HTTP/1.1: the idle connection used last, else a new one or whichever is free before that is open. After the end of the
///   response's body it is idle again. A body dropped before its end closes its connection.
/// - HTTP/2: a stream of a connection, which all requests share. Up to
///   [`max_connections`](super::Connector::http2_max_connections) are opened, if the streams of those that are there are used
///   up; beyond that it waits for a stream. When the instance goes away (`GOAWAY`), or a connection is old, the next one is
///   opened. When the last connection is lost, it fails, for good: the balancer dials anew.
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
/// the URI, else the address of the instance, or what [`Connector::host`](super::Connector::host) says. The authority of the
/// URI does not decide where the request goes.
/// Over HTTP/2, the bodies of a `CONNECT` request and of its response are the two directions of the tunnel. It ends when the
/// body of the response does. With a [`Protocol`](super::Protocol) as an extension of the request, such as `websocket`, it is an
/// extended `CONNECT` (RFC 8441), and fails with an instance that does not take them.
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
    Http1(http1::checkout::Checkout<B>),
    Http2(http2::pool::Checkout),
}

impl<B> Connection<B> {
    pub(super) fn http1(pool: Arc<http1::pool::Pool<B>>) -> Self {
        let protocol = Protocol::Http1(http1::checkout::Checkout::new(pool));
        Self { protocol }
    }

    pub(super) fn http2(pool: Arc<http2::pool::Pool>) -> Self {
        let protocol = Protocol::Http2(http2::pool::Checkout::new(pool));
        Self { protocol }
    }
}

impl<B> Service<Request<B>> for Connection<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<IncomingBody>;
    type Error = CallError;
    type Future = ConnectionFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        match &mut self.protocol {
            Protocol::Http1(checkout) => checkout.poll_ready(cx),
            Protocol::Http2(checkout) => checkout.poll_ready(cx),
        }
        .map_err(CallError::connect)
    }

    fn call(&mut self, mut request: Request<B>) -> ConnectionFuture {
        let exchange = match &mut self.protocol {
            Protocol::Http1(checkout) => {
                let pool = checkout.pool();
                if pool.fallback().lacks_tls_for(request.uri()) {
                    let error = CallError::no_tls(pool.addr());
                    return ConnectionFuture::of(Exchange::Refused(Some(error)));
                }
                Exchange::Http1(checkout.send(request))
            }
            Protocol::Http2(checkout) => {
                let pool = checkout.pool();
                if pool.fallback().lacks_tls_for(request.uri()) {
                    let error = CallError::no_tls(pool.addr());
                    return ConnectionFuture::of(Exchange::Refused(Some(error)));
                }
                address::for_http2(&mut request, pool.fallback());
                match checkout.take() {
                    Some(slot) => Exchange::Http2(Call::send(slot, request)),
                    None => {
                        let pool = Arc::clone(checkout.pool());
                        let checkout = http2::pool::Checkout::new(pool);
                        Exchange::Waiting(Box::pin(claim_and_send(checkout, request)))
                    }
                }
            }
        };
        ConnectionFuture::of(exchange)
    }
}

/// For a call that was not waited for to be ready.
async fn claim_and_send<B>(
    mut checkout: http2::pool::Checkout,
    request: Request<B>,
) -> Result<Response<http2::call::Received>, CallError>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let slot = loop {
        let ready = poll_fn(|cx| checkout.poll_ready(cx)).await;
        ready.map_err(CallError::connect)?;
        if let Some(slot) = checkout.take() {
            break slot;
        }
    };
    Call::send(slot, request).await
}

/// The response of a [`Connection`].
///
/// # Cancellation
///
/// Dropped before the response it closes its HTTP/1.1 connection, and resets its HTTP/2 stream.
#[must_use = "futures do nothing unless polled"]
pub struct ConnectionFuture {
    exchange: Exchange,
}

enum Exchange {
    Http1(BoxFuture<'static, Result<Response<http1::connection::Received>, CallError>>),
    Http2(Call),
    /// For a stream of HTTP/2.
    Waiting(BoxFuture<'static, Result<Response<http2::call::Received>, CallError>>),
    Refused(Option<CallError>),
}

impl ConnectionFuture {
    fn of(exchange: Exchange) -> Self {
        Self { exchange }
    }
}

impl Future for ConnectionFuture {
    type Output = Result<Response<IncomingBody>, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.exchange {
            Exchange::Http1(response) => {
                let response = ready!(response.as_mut().poll(cx))?;
                Poll::Ready(Ok(response.map(IncomingBody::from)))
            }
            Exchange::Http2(call) => {
                let response = ready!(Pin::new(call).poll(cx))?;
                Poll::Ready(Ok(response.map(IncomingBody::from)))
            }
            Exchange::Waiting(call) => {
                let response = ready!(call.as_mut().poll(cx))?;
                Poll::Ready(Ok(response.map(IncomingBody::from)))
            }
            Exchange::Refused(error) => {
                // It is not polled again after it was ready.
                error
                    .take()
                    .map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
            }
        }
    }
}

impl fmt::Debug for ConnectionFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionFuture").finish_non_exhaustive()
    }
}

impl<B> Clone for Connection<B> {
    fn clone(&self) -> Self {
        match &self.protocol {
            Protocol::Http1(checkout) => Self::http1(Arc::clone(checkout.pool())),
            Protocol::Http2(checkout) => Self::http2(Arc::clone(checkout.pool())),
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

/// The body of a response, as it comes from an instance.
///
/// # Errors
///
/// A [`BodyError`], after which it has ended: the connection or the stream was lost, or the body of the request failed.
///
/// # Cancellation
///
/// Dropped before its end it closes its HTTP/1.1 connection, and resets its HTTP/2 stream; the body of the request is dropped
/// too. At its end the body of the request is dropped if it was not sent yet: an instance that has answered does not need it.
/// The HTTP/2 stream is reset then, without an error, and the HTTP/1.1 connection is closed.
pub struct IncomingBody {
    body: Incoming,
}

enum Incoming {
    Http1(http1::connection::Received),
    Http2(http2::call::Received),
}

impl From<http1::connection::Received> for IncomingBody {
    fn from(body: http1::connection::Received) -> Self {
        let body = Incoming::Http1(body);
        Self { body }
    }
}

impl From<http2::call::Received> for IncomingBody {
    fn from(body: http2::call::Received) -> Self {
        let body = Incoming::Http2(body);
        Self { body }
    }
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().body {
            Incoming::Http1(body) => Pin::new(body).poll_frame(cx),
            Incoming::Http2(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Incoming::Http1(body) => body.is_end_stream(),
            Incoming::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Incoming::Http1(body) => body.size_hint(),
            Incoming::Http2(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for IncomingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingBody").finish_non_exhaustive()
    }
}
