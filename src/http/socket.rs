//! A socket that notices in time that its peer is gone.
//!
//! That a peer closed a connection is known to the kernel before the event loop has told the connection's task, under load
//! long before. A request written in between is lost: nobody can say whether it was acted on. So the kernel is asked twice.
//! Before an idle connection is claimed, so that a lost instance shows before the request is given away. And when hyper
//! looks for news before it takes a request, so that it finds the end and gives the request back.
//!
//! A peer that closes says why before: by the `GOAWAY` that tells which requests it did not act on, by an early response. A
//! write that fails since then would end the connection with that unread. So its failure is told when all is read.

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
    /// Why nothing can be written any more.
    write_error: Option<io::Error>,
    /// Told of the first bytes.
    greeting: Option<Greeter>,
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
    stream: Weak<Mutex<Stream>>,
}

impl Socket {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream: Arc::new(Mutex::new(stream)),
            awaits_answer: false,
            write_error: None,
            greeting: None,
        }
    }

    /// The first that the peer says; an error, if it closes without a word.
    pub(super) fn greeting(&mut self) -> oneshot::Receiver<io::Result<Greeting>> {
        let (told, greeting) = oneshot::channel();
        let bytes = Vec::new();
        self.greeting = Some(Greeter { told, bytes });
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
            stream,
            awaits_answer,
            write_error,
            greeting,
        } = self.get_mut();
        let mut stream = lock(stream);
        let before = buf.filled().len();
        let mut read = stream.poll_read(cx, buf);
        // What is there to read may be known to the kernel only.
        if read.is_pending()
            && write_error.is_some()
            && !matches!(stream.peek(), Ok(Some(1..)))
            && let Some(error) = write_error.take()
        {
            read = Poll::Ready(Err(error));
        }
        if let Poll::Ready(read) = read {
            *awaits_answer = false;
            return Poll::Ready(match greeting.take() {
                Some(greeter) => greeter.read(read, &buf.filled()[before..], greeting),
                None => read,
            });
        }
        if !*awaits_answer && stream.peek()? == Some(0) {
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
            match write(lock(&self.stream).writer(), cx) {
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
        lock(&self.stream).writer().is_write_vectored()
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

    #[tokio::test]
    async fn what_a_peer_said_last_is_read_though_nothing_can_be_written() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (dialled, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
        let mut socket = Socket::new(Stream::Plain(dialled.unwrap()));
        let (mut peer, _) = accepted.unwrap();
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
