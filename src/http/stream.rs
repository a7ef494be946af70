//! A TCP connection, plain or encrypted, at which others than its task may have a look.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
#[cfg(feature = "tls")]
use std::task::Waker;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(feature = "tls")]
use tokio_rustls::client::TlsStream;

pub(super) enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls {
        stream: Box<TlsStream<TcpStream>>,
        /// The task that waits for something to read.
        reader: Option<Waker>,
    },
}

impl Stream {
    /// How many bytes of the peer's, at least, can be read now: zero at the end of the stream, `None` if that is still open.
    pub(super) fn peek(&mut self) -> io::Result<Option<usize>> {
        match self {
            Self::Plain(stream) => {
                would_block(SockRef::from(&*stream).peek(&mut [MaybeUninit::uninit()]))
            }
            #[cfg(feature = "tls")]
            Self::Tls { stream, reader } => {
                let found = peek_within(stream);
                // What was taken from the kernel is no event for the task any more.
                if !matches!(found, Ok(None))
                    && let Some(reader) = reader.take()
                {
                    reader.wake();
                }
                found
            }
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Self::Tls { stream, reader } => {
                let read = Pin::new(stream.as_mut()).poll_read(cx, buf);
                if read.is_pending() {
                    // Of an error that a look found first, only the session still knows.
                    let session = stream.get_mut().1;
                    session.process_new_packets().map_err(invalid)?;
                    *reader = Some(cx.waker().clone());
                }
                read
            }
        }
    }

    pub(super) fn writer(&mut self) -> Pin<&mut (dyn AsyncWrite + Unpin)> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            #[cfg(feature = "tls")]
            Self::Tls { stream, .. } => Pin::new(stream.as_mut()),
        }
    }
}

#[cfg(feature = "tls")]
impl From<TlsStream<TcpStream>> for Stream {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        Self::Tls {
            stream: Box::new(stream),
            reader: None,
        }
    }
}

/// Reads what is there into the session, since only that can tell the end of the stream from a ticket for the next one.
/// Tokio is passed over, whose one waker for reads is that of the connection's task.
#[cfg(feature = "tls")]
fn peek_within(stream: &mut TlsStream<TcpStream>) -> io::Result<Option<usize>> {
    let (stream, session) = stream.get_mut();
    let socket = SockRef::from(&*stream);
    loop {
        let state = session.process_new_packets().map_err(invalid)?;
        match state.plaintext_bytes_to_read() {
            0 if state.peer_has_closed() => return Ok(Some(0)),
            0 => {}
            bytes => return Ok(Some(bytes)),
        }
        match would_block(session.read_tls(&mut &*socket))? {
            None => return Ok(None),
            // Without a word that it ends, anybody may have cut it.
            Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(_) => {}
        }
    }
}

#[cfg(feature = "tls")]
fn invalid(error: tokio_rustls::rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn would_block(read: io::Result<usize>) -> io::Result<Option<usize>> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
