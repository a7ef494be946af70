//! A socket that notices in time that its peer is gone.
//!
//! That a peer closed a connection is known to the kernel before the event loop has told the connection's task, under load
//! long before. A request written in between is lost: nobody can say whether it was acted on. So the kernel is asked twice.
//! Before an idle connection is claimed, so that a lost instance shows before the request is given away. And when hyper
//! looks for news before it takes a request, so that it finds the end and gives the request back.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::pool::lock;
use super::stream::Stream;

/// The socket, for the connection's task.
pub(super) struct Socket {
    // Hardly ever contended: probes look at idle connections, or pass over locked ones.
    stream: Arc<Mutex<Stream>>,
    /// Whether something was written since the last news of the peer.
    awaits_answer: bool,
    /// Told of the first bytes.
    greeting: Option<oneshot::Sender<io::Result<Greeting>>>,
}

/// The first bytes of the peer, as far as they came at once: enough of an HTTP/2 frame to tell its type.
pub(super) type Greeting = [u8; 4];

/// A look at the socket, for others. It does not keep the socket open.
#[derive(Clone)]
pub(super) struct Probe {
    stream: Weak<Mutex<Stream>>,
}

impl Socket {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream: Arc::new(Mutex::new(stream)),
            awaits_answer: false,
            greeting: None,
        }
    }

    /// The first that the peer says; an error, if it closes without a word.
    pub(super) fn greeting(&mut self) -> oneshot::Receiver<io::Result<Greeting>> {
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
        stream.is_some_and(|stream| matches!(lock(&stream).peek(), Ok(None)))
    }

    /// Whether the connection ended with nothing left to read. One that is being read is not asked: its task will know.
    pub(super) fn is_closed(&self) -> bool {
        self.stream.upgrade().is_none_or(|stream| {
            let unread = stream.try_lock().map(|mut stream| stream.peek());
            matches!(unread, Ok(Ok(Some(0)) | Err(_)))
        })
    }
}

/// At the end of the stream nobody is greeted. An error is for the dial, which can tell of it; the task has its kind.
fn greet(
    told: oneshot::Sender<io::Result<Greeting>>,
    read: io::Result<()>,
    bytes: &[u8],
) -> io::Result<()> {
    let kind = read.as_ref().err().map(io::Error::kind);
    let greeting = read.map(|()| bytes.first_chunk().copied());
    if let Some(greeting) = greeting.transpose() {
        // The dial may be over.
        let _ = told.send(greeting);
    }
    kind.map_or(Ok(()), |kind| Err(kind.into()))
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
        let read = stream.poll_read(cx, buf);
        if let Poll::Ready(read) = read {
            *awaits_answer = false;
            return Poll::Ready(match greeting.take() {
                Some(told) => greet(told, read, &buf.filled()[before..]),
                None => read,
            });
        }
        if !*awaits_answer && stream.peek()? == Some(0) {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.awaits_answer = true;
        lock(&self.stream).writer().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.awaits_answer = true;
        lock(&self.stream).writer().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.stream).writer().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.stream).writer().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.stream).writer().poll_shutdown(cx)
    }
}
