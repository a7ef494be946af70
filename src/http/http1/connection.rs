//! One HTTP/1.1 connection: how it is opened, its task, a request over it, and the two bodies of that exchange. HTTP/1.1 can
//! end neither body before its time but by closing the connection.

use std::error::Error as StdError;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use crate::error::BoxError;
use crate::http::age::{Age, Aging};
use crate::http::error::{BodyError, ConnectError};
use crate::http::settings::Http1;
use crate::http::socket::{Lifetime, Probe, Socket};
use crate::http::stream::Stream;
use crate::model::address::Address;
use crate::runtime::lock::lock;
use crate::runtime::panic::caught;

/// The sending half of a connection, for one request at a time. The connection is closed when it is dropped, after what is in
/// flight.
pub(in crate::http) struct Connection<B> {
    sender: SendRequest<Outgoing<B>>,
    link: Arc<Link<B>>,
}

/// What a connection shares with its task.
struct Link<B> {
    /// Where the sender lies from the head of a response until hyper is ready for the next request, which the task is the
    /// first to see.
    busy: Mutex<Option<SendRequest<Outgoing<B>>>>,
    exchange: Arc<Exchange>,
    probe: Probe,
    lifetime: Lifetime,
    age: Age,
}

/// What the task of a connection tells its pool.
pub(super) trait Owner<B>: Send + Sync + 'static {
    /// The connection can take another request.
    fn freed(&self, connection: Connection<B>);
    /// The connection is old. Told about once in a second until it is closed.
    fn aged(&self);
}

/// The head of a response.
pub(super) struct Answered<B> {
    pub(super) response: Response<Received>,
    /// The connection, if it can take another request already; else its owner gets it later.
    pub(super) freed: Option<Connection<B>>,
}

/// A request without a response.
pub(super) struct Unanswered<B> {
    pub(super) error: hyper::Error,
    /// The request, if nothing of it was written.
    pub(super) unsent: Option<Request<B>>,
    /// Whether its body failed.
    pub(super) is_request_body: bool,
}

impl<B> Connection<B> {
    /// Whether a request can be sent now.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// The same, asked of the kernel too if the connection was silent for a while.
    pub(super) fn is_alive(&self) -> bool {
        self.sender.is_ready() && self.link.probe.is_idle(self.age().is_used())
    }

    /// When something was read last: it is idle since then, at most.
    pub(super) fn last_read(&self) -> Instant {
        self.link.probe.last_read()
    }

    pub(super) fn age(&self) -> &Age {
        &self.link.age
    }
}

impl<B> Connection<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Opens a connection over `stream` and runs it in the background.
    pub(super) async fn open(
        stream: Stream,
        addr: Address,
        settings: &Http1,
        aging: Aging,
        owner: impl Owner<B>,
    ) -> Result<Self, ConnectError> {
        let failed = |error| ConnectError::handshake(addr.clone(), Box::new(error));
        let socket = Socket::new(stream);
        let link = Arc::new(Link {
            busy: Mutex::new(None),
            exchange: Arc::default(),
            probe: socket.probe(),
            lifetime: socket.lifetime(),
            age: aging.age(),
        });
        let mut builder = http1::Builder::new();
        if let Some(headers) = settings.max_headers {
            builder.max_headers(headers);
        }
        if let Some(bytes) = settings.max_buffer {
            builder.max_buf_size(bytes);
        }
        let (mut sender, connection) = builder
            .handshake(TokioIo::new(socket))
            .await
            .map_err(failed)?;
        let running = run(connection.with_upgrades(), link.clone(), aging, owner);
        let addr = addr.clone();
        tokio::spawn(async move {
            match running.await {
                Ok(()) => tracing::debug!(%addr, "connection closed"),
                Err(error) => {
                    let error: &dyn StdError = &error;
                    tracing::debug!(%addr, error, "connection lost");
                }
            }
        });
        sender.ready().await.map_err(failed)?;
        Ok(Self { sender, link })
    }

    /// Sends one request, before the future is polled.
    ///
    /// Whoever waits for the response does not hold the sender of a connection that has ended: a request that is handed over in
    /// the very moment of the end comes back only when the last sender is gone.
    pub(super) fn send(
        self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Answered<B>, Unanswered<B>>> + Send + use<B> {
        let Self { mut sender, link } = self;
        link.age.note_use();
        let is_connect = request.method() == Method::CONNECT;
        let mut number = 0;
        let request = request.map(|body| {
            let (body, its_number) = Outgoing::new(body, &link.exchange);
            number = its_number;
            body
        });
        let sending = sender.try_send_request(request);
        async move {
            let mut sending = pin!(sending);
            let mut sender = Some(sender);
            let sent = poll_fn(|cx| {
                let sent = sending.as_mut().poll(cx);
                if sent.is_pending()
                    && let Some(waits) = &mut sender
                    && let Poll::Ready(Err(_)) = waits.poll_ready(cx)
                {
                    sender = None;
                    return sending.as_mut().poll(cx);
                }
                sent
            });
            let mut response = sent.await.map_err(|mut error| {
                let unsent = error.take_message();
                Unanswered {
                    unsent: unsent.map(|request| request.map(Outgoing::into_inner)),
                    error: error.into_error(),
                    is_request_body: link.exchange.has_failed(),
                }
            })?;
            let status = response.status();
            if status == StatusCode::SWITCHING_PROTOCOLS || is_connect && status.is_success() {
                response.extensions_mut().insert(link.lifetime.clone());
            }
            let exchange = Arc::clone(&link.exchange);
            let mut freed = None;
            if let Some(sender) = sender {
                let mut busy = lock(&link.busy);
                if sender.is_ready() {
                    drop(busy);
                    freed = Some(Self { sender, link });
                } else if !sender.is_closed() {
                    *busy = Some(sender);
                }
            }
            let response = response.map(|body| Received::new(body, exchange, number));
            Ok(Answered { response, freed })
        }
    }
}

/// Runs a connection until it is closed: by the instance, by the loss of its sender, or by a response that ended before its
/// request.
async fn run<B, C>(
    connection: C,
    link: Arc<Link<B>>,
    mut aging: Aging,
    owner: impl Owner<B>,
) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    poll_fn(|cx| {
        if link.exchange.is_cut_off(cx.waker()) {
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        let freed = lock(&link.busy).take_if(|sender| sender.is_ready());
        if let Some(sender) = freed {
            let link = Arc::clone(&link);
            owner.freed(Connection { sender, link });
        }
        while aging.poll(cx).is_ready() {
            owner.aged();
        }
        Poll::Pending
    })
    .await
}

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
