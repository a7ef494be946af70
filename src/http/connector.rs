//! Dials instances.

use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use super::address::{Fallback, Host};
use super::connection::Connection;
use super::dial::Peer;
use super::error::ConnectError;
use super::settings::Limits;
use super::tcp::TcpOptions;
#[cfg(feature = "tls")]
use super::tls::Tls;
use super::transport::{Custom, Transport};
use super::{http1, http2};
use crate::error::BoxError;
use crate::event::dial::DialError;
use crate::model::address::Address;
use crate::model::instance::Instance;
#[cfg(feature = "tls")]
use crate::model::name::Role;

/// The window of a stream and of a connection without a setting, and the largest one: RFC 9113, 6.9.
const MIN_WINDOW: u32 = 65_535;
const MAX_WINDOW: u32 = (1 << 31) - 1;
/// hyper panics below that.
const MIN_BUFFER: usize = 8192;

/// What a connector speaks.
#[derive(Debug, Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
    /// By ALPN; without TLS HTTP/1.1.
    Negotiated,
}

/// Makes a [`Connection`] to an instance: the connector for [`BalanceLayer`](crate::BalanceLayer).
///
/// A dial opens a TCP connection or a Unix socket to [`Instance::address`] or to an alternate, as [`connect::dial`](crate::connect::dial)
/// does, and does the handshakes of TLS and
/// of the protocol. With
/// HTTP/2 that is done when the instance has sent its settings. The connection serves the first request.
///
/// # Defaults
///
/// - [`http1`](Self::http1), [`http2`](Self::http2): what the instance chooses in the TLS handshake (ALPN), HTTP/2 preferred;
///   without TLS HTTP/1.1
/// - [`host`](Self::host): the caller's
/// - `tls` (feature `tls`): none
/// - [`tcp`](Self::tcp): those of [`TcpOptions`]
/// - [`connect_timeout`](Self::connect_timeout): 2 s
/// - [`idle_timeout`](Self::idle_timeout): 60 s
/// - [`max_idle`](Self::max_idle): 128 connections for each instance
/// - [`max_connection_age`](Self::max_connection_age): none
/// - [`http2_max_connections`](Self::http2_max_connections): 4
/// - [`http2_streams_per_connection`](Self::http2_streams_per_connection): what the instance takes
/// - [`http2_stream_window`](Self::http2_stream_window): 2 MiB
/// - [`http2_connection_window`](Self::http2_connection_window): 1 GiB
/// - [`http2_max_header_list_size`](Self::http2_max_header_list_size): 256 KiB
/// - [`http1_max_headers`](Self::http1_max_headers): 100
/// - [`http1_max_buffer`](Self::http1_max_buffer): about 400 KB
/// - [`http2_keep_alive_interval`](Self::http2_keep_alive_interval): 20 s
/// - [`http2_keep_alive_timeout`](Self::http2_keep_alive_timeout): 20 s
/// - [`http2_keep_alive_while_idle`](Self::http2_keep_alive_while_idle): off
///
/// # Errors
///
/// A dial that fails gives a [`DialError`] whose source is a [`ConnectError`], also outside a tokio runtime. The runtime has I/O and time enabled, as `#[tokio::main]` does.
///
/// # Cancellation
///
/// Dropping the future of a dial closes its socket.
pub struct Connector<B> {
    protocol: Protocol,
    host: Host,
    limits: Limits,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    transport: Transport,
    body: PhantomData<fn(B)>,
}

impl<B> Connector<B> {
    /// A connector with the defaults above.
    #[must_use]
    pub fn new() -> Self {
        Self {
            protocol: Protocol::Negotiated,
            host: Host::Caller,
            limits: Limits::default(),
            #[cfg(feature = "tls")]
            tls: None,
            transport: Transport::System(Arc::default()),
            body: PhantomData,
        }
    }

    /// Speaks HTTP/2, with prior knowledge (`h2c`) where it is not over TLS: the requests to an
    /// instance share one connection, or a few.
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.protocol = Protocol::Http2;
        self
    }

    /// Speaks HTTP/1.1 only: a connection for each request in flight.
    #[must_use]
    pub fn http1(mut self) -> Self {
        self.protocol = Protocol::Http1;
        self
    }

    /// Encrypts connections by TLS, and finds out who the instance is: see [`Tls`].
    ///
    /// The handshake is part of the dial, and of [`connect_timeout`](Self::connect_timeout). It offers `h2` and
    /// `http/1.1`, or the one that [`http2`](Self::http2) or [`http1`](Self::http1) asks for; an instance has to agree on `h2`. A server of TLS 1.3
    /// refuses the client's certificate after the handshake: a dial waits for that with HTTP/2, while with HTTP/1.1 the first
    /// request fails.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: impl Into<Tls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// Sets the options of TCP connections, such as keep-alive and the local address to dial from.
    #[must_use]
    pub fn tcp(mut self, options: TcpOptions) -> Self {
        self.transport = Transport::System(Arc::new(options));
        self
    }

    /// Opens the byte streams below HTTP and TLS by a service of yours, such as a SOCKS proxy or vsock, instead of TCP and Unix
    /// sockets. Replaces [`tcp`](Self::tcp).
    ///
    /// It is cloned and called for each [`Address`] that is dialled, alternates included, within the
    /// [`connect_timeout`](Self::connect_timeout). An error that is an [`io::Error`](std::io::Error) tells what it was; others
    /// count as a failed dial. A lost stream is noticed when it is read or written: unlike a socket of the system, it cannot be
    /// asked before a request is sent.
    ///
    /// ```
    /// use rolecall::http::{Body, Connector};
    /// use rolecall::Address;
    /// use tokio::net::TcpStream;
    /// use tower::service_fn;
    ///
    /// let connector = Connector::<Body>::new().with_transport(service_fn(|address: Address| async move {
    ///     match address.tcp() {
    ///         Some(addr) => TcpStream::connect(addr).await,
    ///         None => Err(std::io::ErrorKind::Unsupported.into()),
    ///     }
    /// }));
    /// # drop(connector);
    /// ```
    #[must_use]
    pub fn with_transport<T>(mut self, transport: T) -> Self
    where
        T: Service<Address> + Clone + Send + Sync + 'static,
        T::Response: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        T::Error: Into<BoxError>,
        T::Future: Send,
    {
        self.transport = Transport::Custom(Arc::new(Custom(transport)));
        self
    }

    /// The same, with this role as the name that instances prove, unless the program said another.
    #[cfg(feature = "tls")]
    pub(crate) fn or_role(mut self, role: &Role) -> Self {
        self.tls = self.tls.map(|tls| tls.or_role(role));
        self
    }

    fn peer(&self, instance: &Instance) -> Result<Peer, ConnectError> {
        let peer = Peer::new(instance, self.transport.clone());
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let expected = tls.expect(instance)?;
            return Ok(peer.tls(expected));
        }
        Ok(peer)
    }

    /// Whom the `Host` of requests names, or their `:authority` in HTTP/2.
    #[must_use]
    pub fn host(mut self, host: Host) -> Self {
        self.host = host;
        self
    }

    /// Limits the time to open one connection, handshake included. Any duration; zero fails every dial.
    ///
    /// A balancer limits the first dial of an instance by its own
    /// [`connect_timeout`](crate::ConfigBuilder::connect_timeout) too: the shorter one counts. The dials of more connections
    /// have this limit alone. `http::Client` and `grpc::Channel` set it to the balancer's.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.limits.connect_timeout = timeout;
        self
    }

    /// Closes an HTTP/1.1 connection that was idle for this long, at most a quarter later.
    ///
    /// Any duration, counted as at least 4 ms. Below the idle timeout of the instances it avoids requests that meet a
    /// connection in the moment it is closed.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.limits.http1.idle_timeout = timeout;
        self
    }

    /// Keeps at most this many idle HTTP/1.1 connections to each instance; what is freed beyond is closed.
    ///
    /// Zero opens a connection for every request. The number of connections in use is not limited here but by
    /// `BalanceConfig::max_in_flight`.
    #[must_use]
    pub fn max_idle(mut self, connections: usize) -> Self {
        self.limits.http1.max_idle = connections;
        self
    }

    /// Replaces a connection that is older than this, or up to a tenth less, by chance, so that connections that were opened
    /// together do not close together.
    ///
    /// Any duration, counted as at least 100 ms. An old connection is closed after what is in flight on it, once there is
    /// another one, which is opened for that and takes the requests from then on. As long as none can be opened, the old one
    /// serves, and another is tried about once in a second. Only if TLS is why, since one side does not trust the other any
    /// more, the old one is closed all the same, and the next request finds no connection. It brings callers back to instances
    /// behind an address that is shared, and to certificates and rules that changed.
    #[must_use]
    pub fn max_connection_age(mut self, age: Duration) -> Self {
        self.limits.max_age = Some(age.max(Duration::from_millis(100)));
        self
    }

    /// Opens at most this many HTTP/2 connections to each instance; counted as at least 1.
    ///
    /// The next one is opened when the streams of those that are there are used up. Then requests wait for a stream.
    #[must_use]
    pub fn http2_max_connections(mut self, connections: usize) -> Self {
        self.limits.http2.max_connections = connections.max(1);
        self
    }

    /// Uses at most this many streams of an HTTP/2 connection at a time, or what the instance takes, if that is less.
    ///
    /// Counted as at least 1. By default it is what the instance takes (`SETTINGS_MAX_CONCURRENT_STREAMS`).
    #[must_use]
    pub fn http2_streams_per_connection(mut self, streams: usize) -> Self {
        self.limits.http2.streams_per_connection = Some(streams.max(1));
        self
    }

    /// Limits what an instance may send on one HTTP/2 stream before it is read, in bytes: 65 535 to 2³¹ − 1, other values are
    /// cut to that.
    #[must_use]
    pub fn http2_stream_window(mut self, bytes: u32) -> Self {
        self.limits.http2.stream_window = bytes.clamp(MIN_WINDOW, MAX_WINDOW);
        self
    }

    /// The same for all streams of one HTTP/2 connection. Keep it far above a stream's: once it is used up by responses that
    /// nobody reads, all other responses of the instance wait.
    #[must_use]
    pub fn http2_connection_window(mut self, bytes: u32) -> Self {
        self.limits.http2.connection_window = bytes.clamp(MIN_WINDOW, MAX_WINDOW);
        self
    }

    /// Limits the head of an HTTP/2 response, and its trailers: the sum of names and values and of 32 bytes for each.
    ///
    /// A response beyond that fails, is charged to no instance ([`CallError::is_callers`](super::CallError::is_callers)), and
    /// leaves the connection open. For trailers it is [`BodyError::is_callers`](super::BodyError::is_callers).
    ///
    /// The instance is told four times this limit, since what exceeds the announced one in trailers is cut without an error: a
    /// single field of trailers that is larger than three times the limit may be missing.
    #[must_use]
    pub fn http2_max_header_list_size(mut self, bytes: u32) -> Self {
        self.limits.http2.max_header_list_size = bytes;
        self
    }

    /// Limits the number of headers of an HTTP/1.1 response. Beyond the default, each response allocates room for so many.
    ///
    /// A response with more fails, is charged to no instance ([`CallError::is_callers`](super::CallError::is_callers)), and
    /// its connection is closed.
    #[must_use]
    pub fn http1_max_headers(mut self, headers: usize) -> Self {
        self.limits.http1.max_headers = Some(headers);
        self
    }

    /// Limits the head of an HTTP/1.1 response, and what is read ahead of its body, in bytes; at least 8192.
    ///
    /// A response beyond that fails as one with too many [headers](Self::http1_max_headers) does.
    #[must_use]
    pub fn http1_max_buffer(mut self, bytes: usize) -> Self {
        self.limits.http1.max_buffer = Some(bytes.max(MIN_BUFFER));
        self
    }

    /// Pings an HTTP/2 connection with a request in flight on which nothing came for this long. `None`: never.
    ///
    /// Any duration, counted as at least 1 ms. It finds a lost network or machine where requests have no time limit of their
    /// own. Servers may close the connection of a client that pings too often: grpc-go allows one ping in 5 minutes unless told
    /// otherwise, so for its long silent streams set more than that, or the server's `MinTime`.
    #[must_use]
    pub fn http2_keep_alive_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        let interval = interval.into();
        self.limits.http2.keep_alive.interval =
            interval.map(|interval| interval.max(Duration::from_millis(1)));
        self
    }

    /// Closes an HTTP/2 connection whose ping was not answered for this long: what is in flight on it fails. Any duration.
    #[must_use]
    pub fn http2_keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.limits.http2.keep_alive.timeout = timeout;
        self
    }

    /// Whether an HTTP/2 connection without a request in flight is pinged too.
    #[must_use]
    pub fn http2_keep_alive_while_idle(mut self, enabled: bool) -> Self {
        self.limits.http2.keep_alive.while_idle = enabled;
        self
    }
}

impl<B> Service<Instance> for Connector<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Connection<B>;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Connection<B>, DialError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, instance: Instance) -> Self::Future {
        let (peer, host, limits) = (self.peer(&instance), self.host.clone(), self.limits);
        let protocol = self.protocol;
        Box::pin(async move {
            let peer = peer?;
            let is_http2 = match protocol {
                Protocol::Http1 => false,
                Protocol::Http2 => true,
                Protocol::Negotiated => peer.negotiate(limits.connect_timeout).await?,
            };
            let fallback = Fallback::new(&peer.addr(), &host, peer.scheme());
            Ok(match is_http2 {
                true => Connection::http2(http2::pool::Pool::open(peer, fallback, limits).await?),
                false => Connection::http1(http1::pool::Pool::open(peer, fallback, limits).await?),
            })
        })
    }
}

impl<B> Clone for Connector<B> {
    fn clone(&self) -> Self {
        Self {
            host: self.host.clone(),
            transport: self.transport.clone(),
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
            ..*self
        }
    }
}

impl<B> Default for Connector<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> std::fmt::Debug for Connector<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut connector = f.debug_struct("Connector");
        connector
            .field("protocol", &self.protocol)
            .field("host", &self.host)
            .field("transport", &self.transport)
            .field("limits", &self.limits);
        #[cfg(feature = "tls")]
        connector.field("tls", &self.tls);
        connector.finish()
    }
}
