//! A socket that notices in time that its peer is gone.
//!
//! The kernel knows that a peer closed a connection before the event loop has told the connection's task, under load long
//! before. A request written in between is lost: nobody can say whether it was acted on. So a connection that was silent for
//! a round trip is looked up in the kernel, once, before it takes a request: when it is claimed, so that a lost instance shows
//! before the request is given away, or else when hyper reads before it takes the request, so that hyper finds the end and
//! gives the request back. For one that was heard of more recently, what the event loop knows is enough. The round trip is
//! that of the connection's last exchange, at least [`RECENT`] and at most [`LONG`]: the peer may close while a request is on
//! its way as well, so a shorter silence adds little to what can be lost.
//!
//! A peer that closes says why before: by the `GOAWAY` that tells which requests it did not act on, by an early response. A
//! write that fails since then would end the connection with that unread. So its failure is told when all is read.

use std::any::Any;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::stream::Stream;
use crate::runtime::clock;
use crate::runtime::lock::lock;

/// A peer that was heard of within this time is not looked up in the kernel.
///
/// It is about a round trip in a data centre: a close that is still on its way cannot be seen by any look, so a look more
/// often than that hardly finds more. Between requests that follow each other a connection rests for some ten microseconds.
/// Five looks at each took 2 of the 12 µs that an HTTP/1.1 request takes.
const RECENT: Duration = Duration::from_micros(500);

/// A peer that was not heard of for this time is looked up, however long its last response took.
const LONG: Duration = Duration::from_millis(2);

/// The socket, for the connection's task.
pub(super) struct Socket {
    // Hardly ever contended: probes look at idle connections, or pass over locked ones.
    watched: Arc<Mutex<Watched>>,
    /// Whether something was written since the last news of the peer.
    awaits_answer: bool,
    /// Why nothing can be written any more.
    write_error: Option<io::Error>,
    /// Told of the first bytes.
    greeting: Option<Greeter>,
    writes: Writes,
    lifetime: Lifetime,
}

/// The first bytes of the peer: enough of an HTTP/2 frame to tell its type.
pub(super) type Greeting = [u8; 4];

/// Collects the first bytes, however few come at once, for the dial that waits for them.
struct Greeter {
    told: oneshot::Sender<io::Result<Greeting>>,
    bytes: Vec<u8>,
}

/// A look at the socket, for others. It does not keep the socket open.
#[derive(Clone)]
pub(super) struct Probe {
    watched: Weak<Mutex<Watched>>,
}

/// A stream, and when its peer was last known to be there.
struct Watched {
    stream: Stream,
    /// When it was last read or looked up.
    heard: Instant,
    last_read: Instant,
    /// When it was claimed for a request first since it was read.
    claimed: Option<Instant>,
    /// How long it may be silent before it is looked up.
    patience: Duration,
}

impl Watched {
    /// Looks for something to read, as [`Stream::peek`] does, before a request is sent. Unless the event loop knows of
    /// something, the kernel is asked only if the connection had no requests yet, or nothing was heard for a round trip.
    fn claim(&mut self, had_requests: bool) -> io::Result<Option<usize>> {
        let now = clock::now();
        self.claimed.get_or_insert(now);
        self.look(had_requests, now)
    }

    fn look(&mut self, had_requests: bool, now: Instant) -> io::Result<Option<usize>> {
        if !self.stream.has_event() {
            let silence = now.saturating_duration_since(self.heard);
            if had_requests && silence < self.patience {
                return Ok(None);
            }
            self.heard = now;
        }
        self.stream.peek()
    }

    /// Notes that it was read.
    fn note_read(&mut self) {
        let now = clock::now();
        self.heard = now;
        self.last_read = now;
        if let Some(claimed) = self.claimed.take() {
            let took = now.saturating_duration_since(claimed);
            self.patience = took.clamp(RECENT, LONG);
        }
    }
}

impl Socket {
    pub(super) fn new(stream: Stream) -> Self {
        let now = clock::now();
        Self {
            watched: Arc::new(Mutex::new(Watched {
                stream,
                heard: now,
                last_read: now,
                claimed: None,
                patience: RECENT,
            })),
            awaits_answer: false,
            write_error: None,
            greeting: None,
            writes: Writes::default(),
            lifetime: Lifetime::default(),
        }
    }

    /// The first that the peer says; an error, if it closes without a word.
    pub(super) fn greeting(&mut self) -> oneshot::Receiver<io::Result<Greeting>> {
        let (told, greeting) = oneshot::channel();
        let bytes = Vec::new();
        self.greeting = Some(Greeter { told, bytes });
        greeting
    }

    /// Counts the writes, for others.
    pub(super) fn writes(&self) -> Writes {
        self.writes.clone()
    }

    /// What is to be kept until the socket is closed.
    pub(super) fn lifetime(&self) -> Lifetime {
        self.lifetime.clone()
    }

    pub(super) fn probe(&self) -> Probe {
        Probe {
            watched: Arc::downgrade(&self.watched),
        }
    }
}

/// How often a socket was written to.
#[derive(Clone, Default)]
pub(super) struct Writes(Arc<AtomicU64>);

impl Writes {
    /// If it did not change since something was queued to be written, nothing of that has left.
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn note(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Keeps a value until a socket is closed: the load of a connection that is not HTTP any more.
#[derive(Clone, Default)]
pub(super) struct Lifetime(Arc<Mutex<Kept>>);

#[derive(Default)]
enum Kept {
    #[default]
    Nothing,
    Value(#[expect(dead_code, reason = "it is kept to be dropped")] Box<dyn Any + Send>),
    /// The socket is closed.
    Closed,
}

impl Lifetime {
    pub(super) fn keep(&self, value: impl Any + Send) {
        let mut kept = lock(&self.0);
        if !matches!(*kept, Kept::Closed) {
            let before = std::mem::replace(&mut *kept, Kept::Value(Box::new(value)));
            // Dropped without the lock, as is a value that comes too late.
            drop(kept);
            drop(before);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut kept = lock(&self.lifetime.0);
        let value = std::mem::replace(&mut *kept, Kept::Closed);
        drop(kept);
        drop(value);
    }
}

impl Probe {
    /// When something was read last.
    pub(super) fn last_read(&self) -> Instant {
        let watched = self.watched.upgrade();
        watched.map_or_else(clock::now, |watched| lock(&watched).last_read)
    }

    /// Whether the connection is open with nothing to read, as an idle one has to be. One that had no request yet is always
    /// looked up: servers that accept and close at once are not heard of otherwise.
    pub(super) fn is_idle(&self, had_requests: bool) -> bool {
        let watched = self.watched.upgrade();
        watched.is_some_and(|watched| matches!(lock(&watched).claim(had_requests), Ok(None)))
    }

    /// Whether the connection ended with nothing left to read. One that is being read is not asked: its task will know.
    pub(super) fn is_closed(&self, had_requests: bool) -> bool {
        self.watched.upgrade().is_none_or(|watched| {
            let watched = watched.try_lock();
            let unread = watched.map(|mut watched| watched.claim(had_requests));
            matches!(unread, Ok(Ok(Some(0)) | Err(_)))
        })
    }
}

impl Greeter {
    /// Passes on what was read. On an error the dial gets it whole, and the connection's task one of the same kind.
    ///
    /// At the end of the stream the greeter is dropped: the dial learns that the peer closed.
    fn read(
        mut self,
        read: io::Result<()>,
        bytes: &[u8],
        place: &mut Option<Self>,
    ) -> io::Result<()> {
        // The dial may be over, so that nobody receives what is sent.
        if let Err(error) = read {
            let kind = error.kind();
            let _ = self.told.send(Err(error));
            return Err(kind.into());
        }
        let missing = size_of::<Greeting>() - self.bytes.len();
        self.bytes.extend(bytes.iter().take(missing));
        match self.bytes.first_chunk() {
            Some(greeting) => drop(self.told.send(Ok(*greeting))),
            None if !bytes.is_empty() => *place = Some(self),
            None => {}
        }
        Ok(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            watched,
            awaits_answer,
            write_error,
            greeting,
            ..
        } = self.get_mut();
        let mut watched = lock(watched);
        let before = buf.filled().len();
        let mut read = watched.stream.poll_read(cx, buf);
        // What is there to read may be known to the kernel only.
        if read.is_pending()
            && write_error.is_some()
            && !matches!(watched.stream.peek(), Ok(Some(1..)))
            && let Some(error) = write_error.take()
        {
            read = Poll::Ready(Err(error));
        }
        if let Poll::Ready(read) = read {
            *awaits_answer = false;
            watched.note_read();
            return Poll::Ready(match greeting.take() {
                Some(greeter) => greeter.read(read, &buf.filled()[before..], greeting),
                None => read,
            });
        }
        if !*awaits_answer
            && watched.claimed.is_some()
            && watched.look(true, clock::now())? == Some(0)
        {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

impl Socket {
    /// Writes by `write`, or says that it did: so many bytes, or whatever is asked for.
    fn poll_written<T>(
        &mut self,
        cx: &mut Context<'_>,
        all: T,
        write: impl FnOnce(Pin<&mut (dyn AsyncWrite + Unpin)>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.write_error.is_none() {
            self.writes.note();
            match write(lock(&self.watched).stream.writer(), cx) {
                Poll::Ready(Err(error)) => self.write_error = Some(error),
                written => return written,
            }
            // To read.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(all))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.awaits_answer = true;
        self.poll_written(cx, buf.len(), |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.awaits_answer = true;
        let all = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_written(cx, all, |stream, cx| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.watched).stream.writer().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_written(cx, (), |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_written(cx, (), |stream, cx| stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::balance::connect;
    use crate::http::stream::Raw;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (dialled, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
        (
            Socket::new(Stream::Plain(Raw::Socket(connect::Socket::Tcp(
                dialled.unwrap(),
            )))),
            accepted.unwrap().0,
        )
    }

    /// Closes a connection so that only the kernel knows: the event loop has no turn before the test goes on.
    fn close(peer: TcpStream) {
        drop(peer.into_std().unwrap());
    }

    #[tokio::test]
    async fn the_kernel_is_asked_once_and_only_after_a_silence() {
        let (mut socket, mut peer) = pair().await;
        let probe = socket.probe();
        peer.write_all(b"hello").await.unwrap();
        let read = socket.read(&mut [0; 64]).await;
        assert_eq!(read.unwrap(), 5);
        close(peer);
        // As if it were heard of just now, however slow this machine is.
        lock(&socket.watched).heard = clock::now() + RECENT;
        assert!(probe.is_idle(true), "it was heard of just now");
        assert!(!probe.is_closed(true));
        assert!(!probe.is_idle(false), "it had no request yet");

        let (socket, peer) = pair().await;
        let probe = socket.probe();
        lock(&socket.watched).heard = clock::now() - RECENT;
        assert!(probe.is_idle(true), "it is open");
        close(peer);
        let looked = lock(&socket.watched).heard;
        lock(&socket.watched).heard = looked + 2 * RECENT;
        assert!(probe.is_idle(true), "it was looked up just now");
        lock(&socket.watched).heard = looked - RECENT;
        assert!(!probe.is_idle(true));
    }

    #[tokio::test]
    async fn a_silence_no_longer_than_the_last_exchange_is_none() {
        for (took, patience) in [
            (Duration::ZERO, RECENT),
            (RECENT * 3, RECENT * 3),
            (LONG * 10, LONG),
        ] {
            let (mut socket, mut peer) = pair().await;
            socket.write_all(b"ask").await.unwrap();
            lock(&socket.watched).claimed = Some(clock::now() - took);
            peer.write_all(b"answer").await.unwrap();
            socket.read_exact(&mut [0; 6]).await.unwrap();
            let found = lock(&socket.watched).patience;
            assert!(found >= patience && found <= LONG, "{found:?} of {took:?}");
        }
    }

    #[tokio::test]
    async fn what_the_event_loop_knows_is_found_without_a_silence() {
        let (socket, peer) = pair().await;
        close(peer);
        while !lock(&socket.watched).stream.has_event() {
            tokio::task::yield_now().await;
        }
        lock(&socket.watched).heard = clock::now() + RECENT;
        assert!(!socket.probe().is_idle(true));
    }

    #[tokio::test]
    async fn what_a_peer_said_last_is_read_though_nothing_can_be_written() {
        let (mut socket, mut peer) = pair().await;
        // What the peer has not read when it closes has it reset the connection.
        socket.write_all(b"unread").await.unwrap();
        peer.readable().await.unwrap();
        peer.write_all(b"bye").await.unwrap();
        drop(peer);
        // Before the event loop can tell that there is something to read.
        while socket.write_error.is_none() {
            assert_eq!(socket.write(b"more").await.unwrap(), 4);
        }
        socket.flush().await.unwrap();
        let mut last = [0; 3];
        socket.read_exact(&mut last).await.unwrap();
        assert_eq!(&last, b"bye");
        let end = socket.read(&mut last).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
}
