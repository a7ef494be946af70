//! A TCP relay in front of a server that does not know the guard.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::GuardedConnection;
use super::event::GuardEvent;
use super::listener::Listener;
use super::proxy;
use super::watched::WatchedGate;
use crate::balance::socket::Socket;
use crate::runtime::clock;

/// The time that the server may take to accept. It is short because the server is near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A peer that vanished without a word is found out by the system within two minutes: 60 s of silence, then probes that
/// nobody answers, every 10 s.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);

/// Relays admitted connections to a server that does not know the guard. Made by [`Guard::forward`](super::Guard::forward).
///
/// Bytes are relayed in both directions, as fast as the slower side reads. If one side ends its direction, the other direction
/// stays open. TCP keep-alive is on for both sides, so a peer that vanished is noticed after two minutes.
///
/// # Defaults
///
/// No PROXY header, no idle timeout.
///
/// # Examples
///
/// ```no_run
/// # async fn forward(guard: rolecall::guard::Guard) -> std::io::Result<()> {
/// use std::time::Duration;
/// use tokio::net::TcpListener;
///
/// let listener = TcpListener::bind("10.0.0.7:5432").await?;
/// let forwarder = guard.forward(listener, ([127, 0, 0, 1], 5432).into());
/// let forwarder = forwarder.idle_timeout(Duration::from_secs(3600));
/// tokio::spawn(forwarder.run());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Forwarder {
    listener: Listener,
    addr: SocketAddr,
    options: Options,
}

#[derive(Clone, Copy, Debug, Default)]
struct Options {
    proxy_header: bool,
    idle_timeout: Option<Duration>,
}

impl Forwarder {
    pub(super) fn new(listener: Listener, addr: SocketAddr) -> Self {
        Self {
            listener,
            addr,
            options: Options::default(),
        }
    }

    /// Sends the server a PROXY header (version 2) with the address of the peer, before anything else.
    ///
    /// The server must expect the header, and accept it only from this forwarder.
    #[must_use]
    pub fn proxy_header(mut self, send: bool) -> Self {
        self.options.proxy_header = send;
        self
    }

    /// Closes a connection that was idle in both directions for this long. Any duration above zero.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.idle_timeout = Some(timeout);
        self
    }

    /// Accepts and relays.
    ///
    /// # Cancellation
    ///
    /// The future never resolves. Dropping it closes the listener and all relayed connections.
    ///
    /// # Panics
    ///
    /// Polled outside a tokio runtime with timers.
    pub async fn run(self) -> Infallible {
        let Self {
            mut listener,
            addr,
            options,
        } = self;
        // Its tasks end with it.
        let mut relays = JoinSet::new();
        loop {
            let (connection, _) = listener.accept().await;
            let (gate, cut) = (Arc::clone(listener.watched()), connection.until_cut());
            relays.spawn(async move {
                // While the server takes nothing, nothing is read from the peer either, which would tell of its end.
                select(pin!(cut), pin!(relay(gate, connection, addr, options))).await;
            });
            while relays.try_join_next().is_some() {}
        }
    }
}

async fn relay(
    gate: Arc<WatchedGate>,
    connection: GuardedConnection,
    addr: SocketAddr,
    options: Options,
) {
    // As on a direct connection, small messages are the business of the two ends. What the system refuses, it does without.
    if let Socket::Tcp(stream) = connection.get_ref() {
        let _ = stream.set_nodelay(true);
        keep_alive(stream);
    }
    let server = match connect(addr, &connection, options).await {
        Ok(server) => server,
        Err(error) => {
            let error = Arc::new(error);
            let event = GuardEvent::ForwardFailed { addr, error };
            if let Some(ip) = connection.peer().ip() {
                let journal = &gate.gate().journal;
                journal.tell_of_forward(ip.to_canonical(), event, clock::now());
            }
            return;
        }
    };
    let activity = Activity::default();
    let (mut connection, mut server) = (activity.of(connection), activity.of(server));
    let copying = pin!(copy_bidirectional(&mut connection, &mut server));
    match select(copying, pin!(activity.idle(options.idle_timeout))).await {
        Either::Left((Ok(_), _)) => {}
        Either::Left((Err(error), _)) => {
            tracing::trace!(target: "rolecall", %addr, %error, "relay ended");
        }
        Either::Right(_) => {
            tracing::debug!(target: "rolecall", %addr, "relay closed: idle timeout");
        }
    }
}

async fn connect(
    addr: SocketAddr,
    connection: &GuardedConnection,
    options: Options,
) -> io::Result<TcpStream> {
    let connecting = async {
        let mut server = TcpStream::connect(addr).await?;
        server.set_nodelay(true)?;
        keep_alive(&server);
        if options.proxy_header {
            let local = match connection.get_ref() {
                Socket::Tcp(stream) => Some(stream.local_addr()?),
                #[cfg(unix)]
                Socket::Unix(_) => None,
            };
            let addresses = connection.peer().addr().zip(local);
            server.write_all(&proxy::header(addresses)).await?;
        }
        Ok(server)
    };
    timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn keep_alive(stream: &TcpStream) {
    let keep_alive = TcpKeepalive::new()
        .with_time(KEEP_ALIVE_AFTER)
        .with_interval(KEEP_ALIVE_EVERY);
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&keep_alive) {
        tracing::debug!(target: "rolecall", %error, "no TCP keep-alive");
    }
}

/// When bytes were last relayed, in milliseconds since the first read.
#[derive(Clone, Default)]
struct Activity(Arc<Passed>);

#[derive(Default)]
struct Passed {
    began: OnceLock<Instant>,
    last: AtomicU64,
}

impl Activity {
    fn of<IO>(&self, io: IO) -> Active<IO> {
        Active {
            io,
            activity: self.clone(),
        }
    }

    fn now(&self) -> Duration {
        let now = clock::now();
        now.saturating_duration_since(*self.0.began.get_or_init(|| now))
    }

    fn note(&self) {
        let now = u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX);
        self.0.last.store(now, Relaxed);
    }

    /// Resolves once nothing was relayed for this long.
    async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return pending().await;
        };
        self.note();
        loop {
            let last = Duration::from_millis(self.0.last.load(Relaxed));
            let idle = self.now().saturating_sub(last);
            match limit.checked_sub(idle).filter(|rest| !rest.is_zero()) {
                Some(rest) => sleep(rest).await,
                None => return,
            }
        }
    }
}

/// Notes reads and writes, so that a slow reader on the other side does not count as idle.
struct Active<IO> {
    io: IO,
    activity: Activity,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Active<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        self.activity.note();
        Poll::Ready(read)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Active<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        self.activity.note();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
