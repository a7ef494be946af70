//! One HTTP/2 connection: how it is opened, what its streams share, and its task.

use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::keep_alive::KeepAlive;
use crate::error::BoxError;
use crate::http::age::{Age, Aging};
use crate::http::error::{CallError, ConnectError, Mismatch};
use crate::http::settings::Http2;
use crate::http::socket::{Greeting, Probe, Socket, Writes};
use crate::http::stream::Stream;
use crate::model::address::Address;

/// The type of a server's first frame: RFC 9113, 3.4. Without it nobody knows that an HTTP/2 server is there.
const SETTINGS: u8 = 4;
/// How many streams are opened before the server has said how many it takes: what RFC 9113, 6.5.2 advises it to take at least.
const STREAMS: usize = 100;
/// How much of a request body a stream buffers before it waits for the connection, in bytes: as hyper does.
const SEND_BUFFER: usize = 1 << 20;
/// How many times our limit of header fields h2 takes. Beyond its own limit it cuts trailers without a word, so it has to pass on
/// more than we accept.
const HEADROOM: u32 = 4;

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

/// A connection, as its pool and its streams hold it. It is closed when the last of them drops it.
pub(in crate::http) struct Connection {
    /// Cloned for each use: a sender waits for the stream that it opened last, and a shared one would for that of another call.
    sender: SendRequest<Bytes>,
    /// How many streams are open or reserved.
    streams: AtomicUsize,
    /// How many the server takes at a time.
    limit: AtomicUsize,
    /// Woken when a stream ends.
    freed: Arc<Notify>,
    addr: Address,
    /// How large the header fields of a response, and its trailers, may be, in bytes as counted by RFC 9113, 6.5.2.
    header_limit: usize,
    owner: Arc<dyn Owner>,
    probe: Probe,
    writes: Writes,
    age: Age,
    /// Whether a ping was not answered.
    is_silent: AtomicBool,
    /// Where its task runs, and request bodies are sent.
    runtime: Handle,
}

/// What a look at a connection finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// The server said `GOAWAY`, or no stream number is left: it takes no more streams, and finishes those in flight.
    Closing,
    Lost,
}

/// What the task of a connection tells its pool.
pub(super) trait Owner: Send + Sync + 'static {
    /// The connection is old. Told about once in a second until it is closed.
    fn aged(&self);
    /// The connection takes no more streams.
    fn ended(&self);
    /// Whether the instance has an open connection.
    fn has_open(&self) -> bool;
}

impl Connection {
    /// Opens a connection over `stream` and runs it in the background. It is there when the server has sent its settings.
    pub(super) async fn open(
        stream: Stream,
        addr: Address,
        settings: &Http2,
        aging: Aging,
        freed: Arc<Notify>,
        owner: impl Owner,
    ) -> Result<Arc<Self>, ConnectError> {
        let runtime = Handle::try_current().map_err(|_| ConnectError::no_runtime(addr.clone()))?;
        let owner: Arc<dyn Owner> = Arc::new(owner);
        let mut socket = Socket::new(stream);
        let greeting = socket.greeting();
        let (probe, writes) = (socket.probe(), socket.writes());
        let (sender, mut running) = h2::client::Builder::new()
            .enable_push(false)
            .initial_max_send_streams(STREAMS)
            .initial_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .max_header_list_size(settings.max_header_list_size.saturating_mul(HEADROOM))
            .max_send_buffer_size(SEND_BUFFER)
            .handshake(socket)
            .await
            .map_err(|error| ConnectError::handshake(addr.clone(), plain(error)))?;
        let connection = Arc::new(Self {
            sender,
            streams: AtomicUsize::new(0),
            limit: AtomicUsize::new(STREAMS),
            freed,
            addr: addr.clone(),
            header_limit: usize::try_from(settings.max_header_list_size).unwrap_or(usize::MAX),
            owner: Arc::clone(&owner),
            probe,
            writes,
            age: aging.age(),
            is_silent: AtomicBool::new(false),
            runtime,
        });
        let pings = running.ping_pong();
        let task = Task {
            running,
            connection: Arc::downgrade(&connection),
            aging,
            keep_alive: pings.and_then(|pings| KeepAlive::new(settings.keep_alive, pings)),
            owner,
        };
        connection.runtime.spawn(task.run(addr.clone()));
        match greeting.await {
            Ok(Ok([_, _, _, SETTINGS])) => Ok(connection),
            Ok(Ok(other)) => Err(ConnectError::protocol(addr, mismatch(other))),
            Ok(Err(error)) => Err(ConnectError::io(addr, error)),
            Err(_) => Err(ConnectError::protocol(addr, Mismatch::Silent)),
        }
    }

    /// Whether it takes streams, as far as it is known without waiting.
    pub(super) fn state(&self) -> State {
        let mut cx = Context::from_waker(Waker::noop());
        match self.sender.clone().poll_ready(&mut cx) {
            Poll::Ready(Err(error)) if is_closing(&error) => State::Closing,
            Poll::Ready(Err(_)) => State::Lost,
            Poll::Ready(Ok(())) | Poll::Pending if self.is_closed() => State::Lost,
            Poll::Ready(Ok(())) | Poll::Pending => State::Open,
        }
    }

    fn is_closed(&self) -> bool {
        self.probe.is_closed(self.age.is_used())
    }

    pub(super) fn age(&self) -> &Age {
        &self.age
    }

    pub(super) fn addr(&self) -> Address {
        self.addr.clone()
    }

    pub(super) fn header_limit(&self) -> usize {
        self.header_limit
    }

    /// Whether the server takes an extended `CONNECT`: RFC 8441.
    pub(super) fn takes_extended_connect(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    pub(super) fn has_room(&self, most: usize) -> bool {
        self.streams() < self.limit.load(Ordering::Relaxed).min(most)
    }

    /// Takes one of its streams, if fewer than the server and `most` allow are in use.
    pub(super) fn reserve(self: &Arc<Self>, most: usize) -> Option<Slot> {
        let most = self.limit.load(Ordering::Relaxed).min(most);
        let more = |streams| (streams < most).then_some(streams + 1);
        let order = Ordering::Relaxed;
        self.streams.fetch_update(order, order, more).ok()?;
        Some(Slot(Arc::clone(self)))
    }
}

/// One of the streams of a connection, reserved or in use.
pub(in crate::http) struct Slot(Arc<Connection>);

/// A stream on which a request was begun.
pub(super) struct Begun {
    pub(super) response: ResponseFuture,
    pub(super) body: SendStream<Bytes>,
    /// How often the socket was written to before.
    writes: u64,
}

impl Slot {
    pub(super) fn connection(&self) -> &Connection {
        &self.0
    }

    /// Begins a request; `ends` says that it has no body.
    pub(super) fn begin(&self, head: Request<()>, ends: bool) -> Result<Begun, h2::Error> {
        self.0.age.note_use();
        let writes = self.0.writes.count();
        let (response, body) = self.0.sender.clone().send_request(head, ends)?;
        Ok(Begun {
            response,
            body,
            writes,
        })
    }
}

impl Begun {
    pub(super) fn writes(&self) -> u64 {
        self.writes
    }
}

impl Connection {
    /// Whether nothing was written since `writes` were counted: what was begun since then has not left.
    pub(super) fn has_written_nothing_since(&self, writes: u64) -> bool {
        self.writes.count() == writes
    }

    /// A request was not sent. Others may go on while the instance has another connection.
    pub(super) fn unsent(&self, cause: BoxError) -> CallError {
        match self.owner.has_open() {
            true => CallError::unsent_on_one(self.addr(), cause),
            false => CallError::unsent(self.addr(), cause),
        }
    }

    /// What ended a stream: a failure of the connection as the I/O error that it is.
    pub(super) fn cause(&self, error: h2::Error) -> BoxError {
        if self.is_silent.load(Ordering::Relaxed) && error.is_io() {
            return Box::new(Silent);
        }
        plain(error)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_one();
    }
}

/// An I/O error as such, since h2 does not tell of it as its source.
fn plain(error: h2::Error) -> BoxError {
    if error.is_io()
        && let Some(error) = error.get_io()
    {
        return Box::new(std::io::Error::new(error.kind(), error.to_string()));
    }
    Box::new(error)
}

/// Whether an error says that a connection takes no more streams, but finishes those that it has.
fn is_closing(error: &h2::Error) -> bool {
    let is_used_up = !error.is_io() && error.reason().is_none();
    error.is_go_away() && error.is_remote() || is_used_up
}

/// A connection that runs.
struct Task {
    running: h2::client::Connection<Socket, Bytes>,
    connection: Weak<Connection>,
    aging: Aging,
    keep_alive: Option<KeepAlive>,
    owner: Arc<dyn Owner>,
}

impl Task {
    async fn run(mut self, addr: Address) {
        let ended = poll_fn(|cx| self.poll(cx)).await;
        // With it go its socket, and the streams that are left.
        drop(self.running);
        match ended {
            Ok(()) => tracing::debug!(%addr, "connection closed"),
            Err(error) => {
                let error: &dyn StdError = &*error;
                tracing::debug!(%addr, error, "connection lost");
            }
        }
        self.owner.ended();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let connection = self.connection.upgrade();
        if let (Some(keep_alive), Some(connection)) = (&mut self.keep_alive, &connection) {
            let last_read = connection.probe.last_read();
            let is_idle = connection.streams() == 0;
            if keep_alive.poll(cx, last_read, is_idle).is_ready() {
                connection.is_silent.store(true, Ordering::Relaxed);
                return Poll::Ready(Err(Box::new(Silent)));
            }
        }
        if let Poll::Ready(ended) = Pin::new(&mut self.running).poll(cx) {
            return Poll::Ready(ended.map_err(plain));
        }
        if let Some(connection) = connection {
            let limit = self.running.max_concurrent_send_streams();
            let before = connection.limit.swap(limit, Ordering::Relaxed);
            if limit > before {
                connection.freed.notify_waiters();
            }
        }
        while self.aging.poll(cx).is_ready() {
            self.owner.aged();
        }
        Poll::Pending
    }
}

/// A ping was not answered in time.
#[derive(Debug)]
struct Silent;

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keep-alive ping timed out")
    }
}

impl StdError for Silent {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        None
    }
}
