use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::future::BoxFuture;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

use super::connection::Origin;
use super::proxy::{self, Source};
use super::{Connection, Event, Guard, HeaderError};
use crate::runtime::clock;

/// Waits after accepting failed, doubled each time in a row, as Go's `net/http` does. What failed is mostly a limit on open
/// files, and the end of other connections is what helps.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// PROXY headers awaited at once; a proxy sends them with its first packet, so more are a sign of something else.
const HEADERS_AT_ONCE: usize = 1024;

/// Strangers turned away before others have their turn: with a hundred microseconds of them, the requests of friends that the
/// same thread serves wait no longer than for each other.
const STRANGERS_AT_ONCE: u32 = 16;

/// A listener that hands out the connections of friends. Made by [`Guard::wrap`].
///
/// A stranger's connection is closed before a byte of it is read. Of a proxy that was [named](Guard::trust_proxy) the PROXY
/// header is read, within three seconds, while others are accepted.
///
/// # Examples
///
/// Before axum, whose own trait for listeners a program implements for a type of its own:
///
/// ```
/// use rolecall::guard::{Connection, Listener};
/// use std::{io, net::SocketAddr};
///
/// struct Guarded(Listener);
///
/// impl axum::serve::Listener for Guarded {
///     type Io = Connection;
///     type Addr = SocketAddr;
///
///     async fn accept(&mut self) -> (Connection, SocketAddr) {
///         self.0.accept().await
///     }
///
///     fn local_addr(&self) -> io::Result<SocketAddr> {
///         self.0.local_addr()
///     }
/// }
///
/// # fn serve(listener: Listener) {
/// let app = axum::Router::new().route("/", axum::routing::get(async || "hello"));
/// let serving = axum::serve(Guarded(listener), app);
/// # let _ = serving;
/// # }
/// ```
pub struct Listener {
    guard: Guard,
    listener: TcpListener,
    headers: FuturesUnordered<BoxFuture<'static, Headed>>,
    pause: Option<Pin<Box<Sleep>>>,
    next_pause: Duration,
    failure_told: Option<Instant>,
}

/// A proxy's connection, and what its header said.
struct Headed {
    io: TcpStream,
    proxy: SocketAddr,
    source: Result<Source, HeaderError>,
}

impl Listener {
    pub(super) fn new(guard: Guard, listener: TcpListener) -> Self {
        Self {
            guard,
            listener,
            headers: FuturesUnordered::new(),
            pause: None,
            next_pause: FIRST_PAUSE,
            failure_told: None,
        }
    }

    /// The next connection of a friend, and where it comes from: the client's address, if a trusted proxy passed it on.
    ///
    /// Trouble with single connections is passed over, and after trouble with the system's limits it tries again, at most
    /// a second later; see [`Event::AcceptFailed`].
    ///
    /// # Cancellation
    ///
    /// No connection is lost.
    ///
    /// # Panics
    ///
    /// Polled outside a tokio runtime with timers.
    pub async fn accept(&mut self) -> (Connection, SocketAddr) {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The address it listens at.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The guard.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<(Connection, SocketAddr)> {
        self.guard.start();
        for _ in 0..STRANGERS_AT_ONCE {
            while let Poll::Ready(Some(headed)) = self.headers.poll_next_unpin(cx) {
                if let Some(accepted) = self.admit_headed(headed) {
                    return Poll::Ready(accepted);
                }
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok((io, peer)) => {
                    self.next_pause = FIRST_PAUSE;
                    if self.is_proxy(peer) {
                        self.await_header(io, peer);
                    } else if let Some(accepted) = self.admit(io, peer, Origin::Peer) {
                        return Poll::Ready(accepted);
                    }
                }
                Err(error) if is_of_connection(&error) => {}
                Err(error) => self.pause(error),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn admit(
        &self,
        io: TcpStream,
        peer: SocketAddr,
        origin: Origin,
    ) -> Option<(Connection, SocketAddr)> {
        let connection = Connection::admit(&self.guard, io, peer, origin)?;
        Some((connection, peer))
    }

    fn admit_headed(&self, headed: Headed) -> Option<(Connection, SocketAddr)> {
        let Headed { io, proxy, source } = headed;
        match source {
            Ok(Source::Client(client)) => self.admit(io, client, Origin::Peer),
            Ok(Source::Proxy) => self.admit(io, proxy, Origin::Proxy),
            Err(error) => {
                let ip = proxy.ip().to_canonical();
                self.guard.gate().refuse_header(ip, error);
                None
            }
        }
    }

    fn is_proxy(&self, peer: SocketAddr) -> bool {
        let ip = peer.ip().to_canonical();
        self.guard.gate().proxies.load().contains(&ip)
    }

    fn await_header(&mut self, io: TcpStream, proxy: SocketAddr) {
        if self.headers.len() >= HEADERS_AT_ONCE {
            let ip = proxy.ip().to_canonical();
            self.guard.gate().refuse_header(ip, HeaderError::TooMany);
            return;
        }
        self.headers.push(Box::pin(async move {
            let mut io = io;
            let source = proxy::read(&mut io).await;
            Headed { io, proxy, source }
        }));
    }

    fn pause(&mut self, error: io::Error) {
        let retry_in = self.next_pause;
        self.next_pause = LONGEST_PAUSE.min(retry_in * 2);
        self.pause = Some(Box::pin(sleep(retry_in)));
        let now = clock::now();
        let is_long_ago = |told| now.saturating_duration_since(told) >= LONGEST_PAUSE;
        if self.failure_told.is_none_or(is_long_ago) {
            self.failure_told = Some(now);
            let error = Arc::new(error);
            let event = Event::AcceptFailed { error, retry_in };
            self.guard.gate().journal.tell(event);
        }
    }
}

/// Whether the trouble is that of one connection, which ended before it was accepted.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
