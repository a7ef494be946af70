use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Guard;
use super::peers::AllowList;

/// A connection that a guard admitted: the socket itself, of which nothing but a PROXY header was read.
///
/// If the guard was [asked](Guard::cut_off) for that, reading and writing fail with
/// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) once the peer is admitted no longer.
pub struct Connection {
    io: TcpStream,
    live: Arc<Live>,
    /// Keeps the guard watching for as long as there is somebody to cut off.
    guard: Guard,
}

impl Connection {
    /// `None` for a stranger.
    pub(super) fn admit(
        guard: &Guard,
        io: TcpStream,
        peer: SocketAddr,
        origin: Origin,
    ) -> Option<Self> {
        let gate = guard.gate();
        let is_admitted = || origin == Origin::Proxy || gate.admits(peer.ip());
        if !is_admitted() {
            gate.refuse(peer.ip().to_canonical());
            return None;
        }
        let live = Arc::new(Live {
            peer,
            origin,
            number: gate.count_admitted(),
            is_cut: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            relay: AtomicWaker::new(),
        });
        gate.opened(&live);
        // It may have left before it was among those that are cut off for that.
        if gate.cuts_off() && !is_admitted() {
            live.cut();
        }
        let guard = guard.clone();
        Some(Self { io, live, guard })
    }

    /// Where it comes from: the client's address, if a trusted proxy passed it on.
    pub fn peer_addr(&self) -> SocketAddr {
        self.live.peer
    }

    /// Ends when it is cut off.
    pub(super) fn until_cut(&self) -> impl Future<Output = ()> + Send + use<> {
        let live = Arc::clone(&self.live);
        poll_fn(move |cx| {
            live.relay.register(cx.waker());
            match live.check() {
                Ok(()) => Poll::Pending,
                Err(_) => Poll::Ready(()),
            }
        })
    }

    /// The socket, for its options.
    pub fn get_ref(&self) -> &TcpStream {
        &self.io
    }

    /// Does something with the socket, unless the connection is cut off.
    fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        waker: impl Fn(&Live) -> &AtomicWaker,
        act: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        self.live.check()?;
        let result = act(Pin::new(&mut self.io), cx);
        if result.is_pending() {
            waker(&self.live).register(cx.waker());
            // It may have been cut off before there was a waker.
            self.live.check()?;
        }
        result
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.guard.gate().closed(&self.live);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(cx, |live| &live.reader, |io, cx| io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, |live| &live.writer, |io, cx| io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(
            cx,
            |live| &live.writer,
            |io, cx| io.poll_write_vectored(cx, bufs),
        )
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer_addr", &self.live.peer)
            .finish_non_exhaustive()
    }
}

/// Whose connection it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// That of the peer whose address it has.
    Peer,
    /// A trusted proxy's own.
    Proxy,
}

/// The guard's side of an open connection.
pub(super) struct Live {
    peer: SocketAddr,
    origin: Origin,
    number: u64,
    is_cut: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
    /// Whoever waits for nothing else of it, such as a relay whose other side takes no more.
    relay: AtomicWaker,
}

impl Live {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn ip(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    pub(super) fn is_stranger_to(&self, list: &AllowList) -> bool {
        self.origin == Origin::Peer && list.find(self.ip()).is_none()
    }

    /// Cuts it off. Whether it was not yet.
    pub(super) fn cut(&self) -> bool {
        let is_news = !self.is_cut.swap(true, SeqCst);
        self.reader.wake();
        self.writer.wake();
        self.relay.wake();
        is_news
    }

    fn check(&self) -> io::Result<()> {
        if self.is_cut.load(SeqCst) {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the peer left the boundary",
            ));
        }
        Ok(())
    }
}
