use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Sleep, sleep};

use super::connection::GuardedConnection;
use super::event::GuardEvent;
use super::gate::Gate;
use super::live::Origin;
use super::peer::Peer;
use super::proxy::{self, HeaderError, Source};
#[cfg(unix)]
use super::socket_file::SocketFile;
use super::watched::WatchedGate;
use crate::balance::socket::Socket;
use crate::model::address::Address;
use crate::runtime::clock;

/// The pause after accepting failed, doubled each time in a row, as in Go's `net/http`. The cause is mostly the limit on open
/// files, which gets better as other connections end.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The number of PROXY headers awaited at once. A proxy sends the header in its first packet, so more are unusual.
const HEADERS_AT_ONCE: usize = 1024;

/// The number of connections denied before the listener yields. It takes about 100 µs, no longer than the requests that the
/// same thread serves.
const DENIED_AT_ONCE: u32 = 16;

/// A listener that hands out admitted connections. Made by [`Guard::wrap`](super::Guard::wrap).
///
/// A denied connection is closed before a byte is read. A [trusted proxy](super::Guard::trust_proxy) has three seconds to send
/// the PROXY header, while other connections are accepted.
///
/// It is a stream of connections that never fails and never ends. With the feature `axum`, `axum::serve` takes it. With the
/// feature `tonic`, `serve_with_incoming` of tonic's server takes it.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "axum")]
/// # fn serve(listener: rolecall::guard::Listener) {
/// let app = axum::Router::new().route("/", axum::routing::get(async || "hello"));
/// let serving = axum::serve(listener, app);
/// # let _ = serving;
/// # }
/// ```
pub struct Listener {
    gate: Arc<WatchedGate>,
    listener: Accepting,
    headers: FuturesUnordered<BoxFuture<'static, Headed>>,
    pause: Option<Pin<Box<Sleep>>>,
    next_pause: Duration,
    failure_told: Option<Instant>,
    /// Dropped after the listener.
    #[cfg(unix)]
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum Accepting {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// What the system handed out.
enum Accepted {
    Tcp(TcpStream, SocketAddr),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A proxy's connection, and what its header said.
struct Headed {
    io: TcpStream,
    proxy: SocketAddr,
    source: Result<Source, HeaderError>,
}

impl Listener {
    pub(super) fn tcp(gate: Arc<WatchedGate>, listener: TcpListener) -> Self {
        Self::new(gate, Accepting::Tcp(listener))
    }

    #[cfg(unix)]
    pub(super) fn unix(gate: Arc<WatchedGate>, listener: UnixListener) -> Self {
        Self::new(gate, Accepting::Unix(listener))
    }

    fn new(gate: Arc<WatchedGate>, listener: Accepting) -> Self {
        Self {
            gate,
            listener,
            headers: FuturesUnordered::new(),
            pause: None,
            next_pause: FIRST_PAUSE,
            failure_told: None,
            #[cfg(unix)]
            file: None,
        }
    }

    /// Removes this file when it is dropped.
    #[cfg(unix)]
    pub(super) fn removing(mut self, file: SocketFile) -> Self {
        self.file = Some(file);
        self
    }

    /// The next admitted connection, and where it comes from.
    ///
    /// Failures of single connections are passed over. After a failure by the system's limits it tries again, at most a
    /// second later; see [`GuardEvent::AcceptFailed`].
    ///
    /// # Cancellation
    ///
    /// No connection is lost.
    ///
    /// # Panics
    ///
    /// Polled outside a tokio runtime with timers.
    pub async fn accept(&mut self) -> (GuardedConnection, Peer) {
        let connection = poll_fn(|cx| self.poll_accept(cx)).await;
        let peer = connection.peer();
        (connection, peer)
    }

    /// The address it listens at.
    ///
    /// # Errors
    ///
    /// Those of the system, and [`InvalidInput`](io::ErrorKind::InvalidInput) for a Unix socket whose path is no
    /// [`Address`].
    pub fn local_addr(&self) -> io::Result<Address> {
        match &self.listener {
            Accepting::Tcp(listener) => listener.local_addr().map(Address::from),
            #[cfg(unix)]
            Accepting::Unix(listener) => {
                let addr = listener.local_addr()?;
                let path = addr.as_pathname().unwrap_or(std::path::Path::new(""));
                Address::unix(path)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
            }
        }
    }

    pub(super) fn gate(&self) -> &Gate {
        self.gate.gate()
    }

    pub(super) fn watched(&self) -> &Arc<WatchedGate> {
        &self.gate
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<GuardedConnection> {
        self.gate.start();
        for _ in 0..DENIED_AT_ONCE {
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
                Ok(Accepted::Tcp(io, peer)) => {
                    self.next_pause = FIRST_PAUSE;
                    if self.is_proxy(peer) {
                        self.await_header(io, peer);
                    } else if let Some(accepted) =
                        self.admit(Socket::Tcp(io), Peer::Tcp(peer), Origin::Peer)
                    {
                        return Poll::Ready(accepted);
                    }
                }
                #[cfg(unix)]
                Ok(Accepted::Unix(io)) => {
                    self.next_pause = FIRST_PAUSE;
                    // Who cannot be named is denied.
                    let Ok(caller) = io.peer_cred() else { continue };
                    let peer = Peer::Uid(caller.uid());
                    if let Some(accepted) = self.admit(Socket::Unix(io), peer, Origin::Peer) {
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

    fn admit(&self, io: Socket, peer: Peer, origin: Origin) -> Option<GuardedConnection> {
        let live = self.gate().admit(peer, origin)?;
        Some(GuardedConnection::new(io, live, Arc::clone(&self.gate)))
    }

    fn admit_headed(&self, headed: Headed) -> Option<GuardedConnection> {
        let Headed { io, proxy, source } = headed;
        let io = Socket::Tcp(io);
        match source {
            Ok(Source::Client(client)) => self.admit(io, Peer::Tcp(client), Origin::Peer),
            Ok(Source::Proxy) => self.admit(io, Peer::Tcp(proxy), Origin::Proxy),
            Err(error) => {
                self.gate().refuse_header(proxy.ip().to_canonical(), error);
                None
            }
        }
    }

    fn is_proxy(&self, peer: SocketAddr) -> bool {
        let ip = peer.ip().to_canonical();
        self.gate().proxies.load().contains(&ip)
    }

    fn await_header(&mut self, io: TcpStream, proxy: SocketAddr) {
        if self.headers.len() >= HEADERS_AT_ONCE {
            let ip = proxy.ip().to_canonical();
            self.gate().refuse_header(ip, HeaderError::TooMany);
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
            let event = GuardEvent::AcceptFailed { error, retry_in };
            self.gate().journal.tell(event);
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

impl Accepting {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        match self {
            Self::Tcp(listener) => {
                let accepted = listener.poll_accept(cx);
                accepted.map_ok(|(io, peer)| Accepted::Tcp(io, peer))
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let accepted = listener.poll_accept(cx);
                accepted.map_ok(|(io, _)| Accepted::Unix(io))
            }
        }
    }
}

/// Admitted connections. It never ends, and yields no error.
impl Stream for Listener {
    type Item = io::Result<GuardedConnection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut()
            .poll_accept(cx)
            .map(|connection| Some(Ok(connection)))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
