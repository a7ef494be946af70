//! HTTP/2 with prior knowledge: all requests share one connection.

use std::error::Error as _;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Weak;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::address::{self, Fallback};
use super::age::{Age, Aging};
use super::error::{ConnectError, Mismatch};
use super::line::{Fate, Line, Transport, Unanswered, log_end};
use super::pool::{Limits, Pool};
use super::socket::{Greeting, Probe, Socket};
use super::stream::Stream;
use crate::error::BoxError;

/// The type of a server's first frame: RFC 9113, 3.4. Without it nobody knows that an HTTP/2 server is there.
const SETTINGS: u8 = 4;

/// What a server speaks whose first bytes are no HTTP/2 settings.
fn mismatch(greeting: Greeting) -> Mismatch {
    // The types of TLS records: RFC 8446, 5.1. All have the major version 3.
    const TLS_RECORDS: std::ops::RangeInclusive<u8> = 20..=24;
    match greeting {
        [b'H', b'T', b'T', b'P'] => Mismatch::Http1,
        [record, 3, ..] if TLS_RECORDS.contains(&record) => Mismatch::Tls,
        _ => Mismatch::Unknown,
    }
}

/// How a connection is asked whether it lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeepAlive {
    /// After so long without a frame; `None`: never.
    pub(super) interval: Option<Duration>,
    pub(super) timeout: Duration,
    pub(super) while_idle: bool,
}

/// A sending half of one HTTP/2 connection.
pub(super) struct Share<B> {
    sender: SendRequest<B>,
    probe: Probe,
    age: Age,
}

impl<B> Line for Share<B> {
    const SHARED: bool = true;

    fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    fn is_alive(&self) -> bool {
        self.is_ready() && !self.probe.is_closed(self.age.is_used())
    }

    fn age(&self) -> &Age {
        &self.age
    }

    fn share(&self) -> Option<Self> {
        Some(Self {
            sender: self.sender.clone(),
            probe: self.probe.clone(),
            age: self.age.clone(),
        })
    }
}

impl<B> Transport for Share<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Body = B;

    const ALPN: &[&'static str] = &["h2"];

    async fn open(
        stream: Stream,
        addr: SocketAddr,
        limits: Limits,
        home: Weak<Pool<Self>>,
    ) -> Result<Self, ConnectError> {
        let mut socket = Socket::new(stream);
        let greeting = socket.greeting();
        let probe = socket.probe();
        let io = TokioIo::new(socket);
        let KeepAlive {
            interval,
            timeout,
            while_idle,
        } = limits.keep_alive;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(interval)
            .keep_alive_timeout(timeout)
            .keep_alive_while_idle(while_idle)
            .handshake(io)
            .await
            .map_err(|error| ConnectError::handshake(addr, error))?;
        let aging = Aging::new(limits.max_age);
        let age = aging.age();
        let running = run(connection, aging, home.clone());
        tokio::spawn(async move {
            log_end(addr, running.await);
            if let Some(pool) = home.upgrade() {
                pool.retain(|line| line.is_ready());
            }
        });
        match greeting.await {
            Ok(Ok([_, _, _, SETTINGS])) => Ok(Self { sender, probe, age }),
            Ok(Ok(other)) => Err(ConnectError::protocol(addr, mismatch(other))),
            Ok(Err(error)) => Err(ConnectError::io(addr, error)),
            Err(_) => Err(ConnectError::protocol(addr, Mismatch::Silent)),
        }
    }

    fn prepare(mut request: Request<B>, fallback: &Fallback) -> Request<B> {
        address::for_http2(&mut request, fallback);
        request
    }

    fn send(
        mut self,
        request: Request<B>,
        _pool: &Pool<Self>,
    ) -> impl Future<Output = Result<Response<Incoming>, Unanswered<B>>> + Send {
        self.age.note_use();
        let sending = self.sender.try_send_request(request);
        async move {
            let mut error = match sending.await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let unsent = error.take_message();
            let error = error.into_error();
            let fate = unsent.map_or_else(|| fate(&error), |unsent| Fate::Unsent(Box::new(unsent)));
            Err(Unanswered { error, fate })
        }
    }
}

/// Runs a connection until it is closed: by the instance, or by the loss of its last sender. Once it is old it has that lost.
async fn run<L, C>(connection: C, mut aging: Aging, home: Weak<Pool<L>>) -> hyper::Result<()>
where
    L: Transport,
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        while aging.poll(cx).is_ready()
            && let Some(pool) = home.upgrade()
        {
            pool.renew();
        }
        Poll::Pending
    })
    .await
}

/// What the instance says of a request that it did not answer: RFC 9113, 8.7. It did not act on one whose stream it refused,
/// nor on those after the last stream that its `GOAWAY` names.
fn fate<B>(error: &hyper::Error) -> Fate<B> {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    match cause.filter(|error: &&h2::Error| error.is_remote()) {
        Some(error) if error.is_go_away() => Fate::GoAway {
            graceful: error.reason() == Some(h2::Reason::NO_ERROR),
        },
        Some(error) if error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM) => {
            Fate::Refused
        }
        _ => Fate::Sent,
    }
}
