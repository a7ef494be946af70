//! The two bodies of an exchange. HTTP/1.1 can end neither before its time but by closing the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::error::BoxError;
use crate::http::error::BodyError;
use crate::runtime::panic::caught;

/// What the bodies of a connection's exchanges share with its task.
///
/// A response may be read while the next request is on its way already: hyper takes that one as soon as it has read the
/// response itself. So requests are numbered.
#[derive(Default)]
pub(super) struct Exchange {
    /// How many requests there were: the number of the last one.
    requests: AtomicU64,
    /// The request whose body is not finished; 0 if there is none.
    uploading: AtomicU64,
    is_cut_off: AtomicBool,
    /// Whether the body of the request failed.
    has_failed: AtomicBool,
    task: AtomicWaker,
}

impl Exchange {
    /// Whether the response ended before the request did. The instance may still wait for the rest of the request, so no other
    /// one can follow on this connection, which is closed.
    pub(super) fn is_cut_off(&self, task: &Waker) -> bool {
        self.task.register(task);
        self.is_cut_off.load(Ordering::Acquire)
    }

    /// Whether the body of the last request failed.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    fn response_ended(&self, request: u64) {
        if self.uploading.load(Ordering::Acquire) == request {
            self.is_cut_off.store(true, Ordering::Release);
            self.task.wake();
        }
    }
}

/// The body of a request, until all of it was read.
pub(in crate::http) struct Outgoing<B> {
    body: B,
    uploading: Option<Uploading>,
}

struct Uploading {
    exchange: Arc<Exchange>,
    request: u64,
}

impl Drop for Uploading {
    fn drop(&mut self) {
        let order = Ordering::AcqRel;
        let uploading = &self.exchange.uploading;
        // The next request may upload already.
        let _ = uploading.compare_exchange(self.request, 0, order, Ordering::Relaxed);
    }
}

impl<B: Body> Outgoing<B> {
    /// The body, and the number of its request.
    pub(super) fn new(body: B, exchange: &Arc<Exchange>) -> (Self, u64) {
        exchange.has_failed.store(false, Ordering::Relaxed);
        let request = exchange.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let uploading = (!body.is_end_stream()).then(|| {
            exchange.uploading.store(request, Ordering::Release);
            let exchange = Arc::clone(exchange);
            Uploading { exchange, request }
        });
        (Self { body, uploading }, request)
    }
}

impl<B> Outgoing<B> {
    /// The body of a request that was not sent.
    pub(super) fn into_inner(self) -> B {
        self.body
    }
}

impl<B> Body for Outgoing<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.get_mut();
        let body = Pin::new(&mut this.body);
        let frame = match caught(|| body.poll_frame(cx)) {
            Ok(frame) => ready!(frame).map(|frame| frame.map_err(Into::into)),
            Err(panicked) => Some(Err(panicked.into())),
        };
        if let (Some(Err(_)), Some(uploading)) = (&frame, &this.uploading) {
            uploading.exchange.has_failed.store(true, Ordering::Release);
        }
        if !matches!(frame, Some(Ok(_))) || this.body.is_end_stream() {
            this.uploading = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response. Dropped before its end it closes the connection.
pub(in crate::http) struct Received {
    body: Incoming,
    /// `None` at the end.
    exchange: Option<Arc<Exchange>>,
    request: u64,
}

impl Received {
    /// The response's body, of the request of this number.
    pub(super) fn new(body: Incoming, exchange: Arc<Exchange>, request: u64) -> Self {
        let ends = body.is_end_stream();
        let mut received = Self {
            body,
            exchange: Some(exchange),
            request,
        };
        if ends {
            received.end();
        }
        received
    }

    fn end(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.response_ended(self.request);
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let exchange = this.exchange.as_ref();
        let is_request_body = exchange.is_some_and(|exchange| exchange.has_failed());
        if !matches!(frame, Some(Ok(_))) || this.body.is_end_stream() {
            this.end();
        }
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| match is_request_body {
                true => BodyError::request(error.into()),
                false => BodyError::response(error.into()),
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.end();
    }
}
