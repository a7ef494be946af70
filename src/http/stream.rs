//! A TCP connection, plain or encrypted, at which others than its task may have a look.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
#[cfg(feature = "tls")]
use std::task::Waker;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
#[cfg(feature = "tls")]
use tokio_rustls::client::TlsStream;

use crate::balance::socket::Socket;
use crate::runtime::io::forward_io;

pub(super) enum Stream {
    Plain(Raw),
    #[cfg(feature = "tls")]
    Tls {
        stream: Box<TlsStream<Raw>>,
        /// The task that waits for something to read.
        reader: Option<Waker>,
    },
}

impl Stream {
    /// How many bytes of the peer's, at least, can be read now: zero at the end of the stream, `None` if that is still open.
    pub(super) fn peek(&mut self) -> io::Result<Option<usize>> {
        match self {
            Self::Plain(stream) => stream.peek(),
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

    /// Whether the event loop knows of something to read, or of the end, that no read has met yet. It takes no system call.
    pub(super) fn has_event(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.has_event(),
            #[cfg(feature = "tls")]
            Self::Tls { stream, .. } => stream.get_ref().0.has_event(),
        }
    }

    /// Whether both sides agreed on this protocol in the TLS handshake (ALPN).
    #[cfg(feature = "tls")]
    pub(super) fn has_agreed_on(&self, protocol: &str) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls { stream, .. } => {
                stream.get_ref().1.alpn_protocol() == Some(protocol.as_bytes())
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
impl From<TlsStream<Raw>> for Stream {
    fn from(stream: TlsStream<Raw>) -> Self {
        Self::Tls {
            stream: Box::new(stream),
            reader: None,
        }
    }
}

/// Reads what is there into the session, since only that can tell the end of the stream from a ticket for the next one.
/// Tokio is passed over, whose one waker for reads is that of the connection's task.
#[cfg(feature = "tls")]
fn peek_within(stream: &mut TlsStream<Raw>) -> io::Result<Option<usize>> {
    let (stream, session) = stream.get_mut();
    loop {
        let state = session.process_new_packets().map_err(invalid)?;
        match state.plaintext_bytes_to_read() {
            0 if state.peer_has_closed() => return Ok(Some(0)),
            0 => {}
            bytes => return Ok(Some(bytes)),
        }
        match stream.read_now(|mut socket| session.read_tls(&mut socket))? {
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

/// What a connection runs over: a socket of the system, or whatever a transport of the program gave.
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

forward_io!(Raw { Socket, Custom });

#[cfg(test)]
#[cfg(feature = "tls")]
mod tests {
    use std::sync::Arc;

    use rcgen::CertifiedKey;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector, server};

    use super::*;

    const NAME: &str = "a.test";

    async fn pair() -> (Stream, server::TlsStream<TcpStream>) {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots);
        let connector = TlsConnector::from(Arc::new(config.with_no_client_auth()));
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![cert.der().clone()], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (dialled, accepted) = tokio::join!(
            TcpStream::connect(listener.local_addr().unwrap()),
            listener.accept()
        );
        let (accepted, _) = accepted.unwrap();
        accepted.set_nodelay(true).unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let (client, server) = tokio::join!(
            connector.connect(name, Raw::Socket(Socket::Tcp(dialled.unwrap()))),
            acceptor.accept(accepted)
        );
        (Stream::from(client.unwrap()), server.unwrap())
    }

    #[tokio::test]
    async fn tickets_are_nothing_to_read_and_data_is() {
        let (mut stream, mut server) = pair().await;
        assert!(matches!(stream.peek(), Ok(None)));
        server.write_all(b"four").await.unwrap();
        assert!(matches!(stream.peek(), Ok(Some(4))));
        assert!(matches!(stream.peek(), Ok(Some(4))), "it is still there");
    }

    #[tokio::test]
    async fn an_end_without_a_word_is_an_error() {
        let (mut stream, mut server) = pair().await;
        server.shutdown().await.unwrap();
        assert!(matches!(stream.peek(), Ok(Some(0))));

        let (mut stream, server) = pair().await;
        drop(server);
        let error = stream.peek().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
