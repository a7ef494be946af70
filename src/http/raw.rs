//! What a connection runs over: a socket of the system, or whatever a transport of the program gave.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::balance::socket::Socket;

pub(super) enum Raw {
    Socket(Socket),
    Custom(Box<dyn Io>),
}

pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Runs an expression for the reference to a socket of the system.
macro_rules! system_socket {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($stream) => $call,
            #[cfg(unix)]
            Socket::Unix($stream) => $call,
        }
    };
}

impl Raw {
    /// How many bytes of the peer's, at least, can be read now: zero at the end, `None` if there is nothing or nobody knows.
    pub(super) fn peek(&self) -> io::Result<Option<usize>> {
        let Self::Socket(socket) = self else {
            return Ok(None);
        };
        system_socket!(socket, stream => {
            would_block(SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]))
        })
    }

    /// Reads past tokio, whose one waker for reads is that of the connection's task. `None` if there is nothing or nobody
    /// knows.
    #[cfg(feature = "tls")]
    pub(super) fn read_now(
        &self,
        read: impl FnOnce(&mut dyn io::Read) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        let Self::Socket(socket) = self else {
            return Ok(None);
        };
        system_socket!(socket, stream => would_block(read(&mut &*SockRef::from(stream))))
    }

    /// Whether the event loop knows of something to read, or of the end, that no read has met yet. It takes no system call.
    pub(super) fn has_event(&self) -> bool {
        let Self::Socket(socket) = self else {
            return false;
        };
        system_socket!(socket, stream => stream.try_io(Interest::READABLE, || Ok(())).is_ok())
    }
}

fn would_block(read: io::Result<usize>) -> io::Result<Option<usize>> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

macro_rules! forwarded {
    ($raw:expr, $stream:ident => $call:expr) => {
        match $raw {
            Raw::Socket($stream) => $call,
            Raw::Custom($stream) => $call,
        }
    };
}

impl AsyncRead for Raw {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forwarded!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Raw {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        forwarded!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forwarded!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        forwarded!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forwarded!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forwarded!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
