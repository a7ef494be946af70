use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::live::Live;
use super::peer::Peer;
use super::watched::WatchedGate;
use crate::balance::socket::Socket;

/// A connection that a guard admitted. Nothing but a PROXY header was read from it.
///
/// If its boundary is [revoked](super::Guard::revoke), reads and writes fail with
/// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted). With [`cut_off`](super::Guard::cut_off) they also fail once the peer
/// has left.
pub struct GuardedConnection {
    io: Socket,
    live: Arc<Live>,
    /// Keeps the guard's watcher running while this connection may have to be closed.
    gate: Arc<WatchedGate>,
}

impl GuardedConnection {
    pub(super) fn new(io: Socket, live: Arc<Live>, gate: Arc<WatchedGate>) -> Self {
        Self { io, live, gate }
    }

    /// The peer's address or user id.
    pub fn peer(&self) -> Peer {
        self.live.peer()
    }

    /// Resolves when the guard closes the connection.
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
    pub fn get_ref(&self) -> &Socket {
        &self.io
    }

    /// Runs `poll` on the socket, unless the guard has closed the connection.
    fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        waker: impl Fn(&Live) -> &AtomicWaker,
        act: impl FnOnce(Pin<&mut Socket>, &mut Context<'_>) -> Poll<io::Result<R>>,
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

impl Drop for GuardedConnection {
    fn drop(&mut self) {
        self.gate.gate().closed(&self.live);
    }
}

impl AsyncRead for GuardedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(cx, |live| &live.reader, |io, cx| io.poll_read(cx, buf))
    }
}

impl AsyncWrite for GuardedConnection {
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

impl fmt::Debug for GuardedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedConnection")
            .field("peer", &self.live.peer())
            .finish_non_exhaustive()
    }
}
