//! A socket that notices in time that its peer is gone.
//!
//! That a peer closed a connection is known to the kernel before the event loop has told the connection's task, under load
//! long before. A request written in between is lost: nobody can say whether it was acted on. So the kernel is asked twice.
//! Before an idle connection is claimed, so that a lost instance shows before the request is given away. And when hyper
//! looks for news before it takes a request, so that it finds the end and gives the request back.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::pool::lock;

/// The socket, for the connection's task.
pub(super) struct Socket {
    // Hardly ever contended: probes look at idle connections, or pass over locked ones.
    stream: Arc<Mutex<TcpStream>>,
    /// Whether something was written since the last news of the peer.
    awaits_answer: bool,
    /// Told of the first bytes.
    greeting: Option<oneshot::Sender<Greeting>>,
}

/// The first bytes of the peer, as far as they came at once: enough of an HTTP/2 frame to tell its type.
pub(super) type Greeting = [u8; 4];

/// A look at the socket, for others. It does not keep the socket open.
#[derive(Clone)]
pub(super) struct Probe {
    stream: Weak<Mutex<TcpStream>>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream: Arc::new(Mutex::new(stream)),
            awaits_answer: false,
            greeting: None,
        }
    }

    /// The first that the peer says; an error, if it closes without a word.
    pub(super) fn greeting(&mut self) -> oneshot::Receiver<Greeting> {
        let (told, greeting) = oneshot::channel();
        self.greeting = Some(told);
        greeting
    }

    pub(super) fn probe(&self) -> Probe {
        Probe {
            stream: Arc::downgrade(&self.stream),
        }
    }
}

impl Probe {
    /// Whether the connection is open with nothing to read, as one that is idle has to be.
    pub(super) fn is_idle(&self) -> bool {
        let stream = self.stream.upgrade();
        stream.is_some_and(|stream| matches!(peek(&lock(&stream)), Ok(None)))
    }

    /// Whether the connection ended with nothing left to read. One that is being read is not asked: its task will know.
    pub(super) fn is_closed(&self) -> bool {
        self.stream.upgrade().is_none_or(|stream| {
            let unread = stream.try_lock().map(|stream| peek(&stream));
            matches!(unread, Ok(Ok(Some(0)) | Err(_)))
        })
    }
}

/// How many bytes, at most one, can be read now: zero at the end of the stream, `None` if that is still open.
fn peek(stream: &TcpStream) -> io::Result<Option<usize>> {
    match SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// At the end of the stream nobody is greeted.
fn greet(told: oneshot::Sender<Greeting>, bytes: &[u8]) {
    if let Some(first) = bytes.first_chunk() {
        // The dial may be over.
        let _ = told.send(*first);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            stream,
            awaits_answer,
            greeting,
        } = self.get_mut();
        let mut stream = lock(stream);
        let before = buf.filled().len();
        let read = Pin::new(&mut *stream).poll_read(cx, buf);
        if read.is_ready() {
            *awaits_answer = false;
            if let Some(told) = greeting.take() {
                greet(told, &buf.filled()[before..]);
            }
        } else if !*awaits_answer && peek(&stream)? == Some(0) {
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.awaits_answer = true;
        Pin::new(&mut *lock(&self.stream)).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.awaits_answer = true;
        Pin::new(&mut *lock(&self.stream)).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.stream).is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.stream)).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.stream)).poll_shutdown(cx)
    }
}
