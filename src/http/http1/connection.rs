//! One HTTP/1.1 connection: how it is opened, a request over it, and its task.

use std::error::Error as StdError;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Instant;

use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::body::{Exchange, Outgoing, Received};
use crate::error::BoxError;
use crate::http::age::{Age, Aging};
use crate::http::error::ConnectError;
use crate::http::lock::lock;
use crate::http::settings::Http1;
use crate::http::socket::{Lifetime, Probe, Socket};
use crate::http::stream::Stream;
use crate::model::address::Address;

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
