//! Opens one connection, within the connect timeout.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Weak;

use http::uri::Scheme;
use tokio::net::{TcpSocket, TcpStream};

use super::error::ConnectError;
use super::line::{Line, Transport};
use super::pool::{Limits, Pool};
use super::stream::Stream;
#[cfg(feature = "tls")]
use super::tls::Expected;

/// Whom a pool dials.
#[derive(Clone)]
pub(super) struct Peer {
    addr: SocketAddr,
    /// The ip that it is dialled from; `None`: the system's choice.
    pub(super) from: Option<IpAddr>,
    #[cfg(feature = "tls")]
    tls: Option<Expected>,
}

impl Peer {
    pub(super) fn plain(addr: SocketAddr) -> Self {
        Self {
            addr,
            from: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(addr: SocketAddr, expected: Expected) -> Self {
        let tls = Some(expected);
        Self {
            tls,
            ..Self::plain(addr)
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The scheme of requests that have none.
    pub(super) fn scheme(&self) -> Scheme {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return Scheme::HTTPS;
        }
        Scheme::HTTP
    }

    async fn tcp(&self) -> io::Result<TcpStream> {
        let from = self.from.filter(|ip| ip.is_ipv4() == self.addr.is_ipv4());
        let Some(ip) = from else {
            return TcpStream::connect(self.addr).await;
        };
        let socket = match ip {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.bind(SocketAddr::new(ip, 0))?;
        socket.connect(self.addr).await
    }

    async fn reach<L: Transport>(&self) -> Result<Stream, ConnectError> {
        let stream = self
            .tcp()
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|error| ConnectError::io(self.addr, error))?;
        #[cfg(feature = "tls")]
        if let Some(expected) = &self.tls {
            let stream = expected.handshake(stream, self.addr, L::ALPN).await?;
            return Ok(Stream::from(stream));
        }
        Ok(Stream::Plain(stream))
    }
}

/// Connects to `peer` and shakes hands; freed lines come back to `home`.
pub(super) async fn connect<L: Transport>(
    peer: &Peer,
    limits: Limits,
    home: Weak<Pool<L>>,
) -> Result<L, ConnectError> {
    let addr = peer.addr;
    let opening = async {
        let stream = peer.reach::<L>().await?;
        L::open(stream, addr, limits, home).await
    };
    let limit = limits.connect_timeout;
    let line = tokio::time::timeout(limit, opening)
        .await
        .unwrap_or_else(|_| Err(ConnectError::timed_out(addr, limit)))?;
    tracing::debug!(%addr, "connected");
    Ok(line)
}

/// One dial for the claims that wait in a pool. They are also told when the runtime drops it.
pub(super) struct Dial<L: Line> {
    pool: Weak<Pool<L>>,
    peer: Peer,
    ended: bool,
}

impl<L: Line> Dial<L> {
    pub(super) fn new(pool: Weak<Pool<L>>, peer: Peer) -> Self {
        Self {
            pool,
            peer,
            ended: false,
        }
    }

    fn end(&mut self, result: Result<L, ConnectError>) {
        self.ended = true;
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        pool.dialled();
        match result {
            Ok(line) => pool.deliver(line, true),
            Err(error) => pool.fail(&error),
        }
    }
}

impl<L: Transport> Dial<L> {
    pub(super) async fn run(mut self, limits: Limits) {
        let result = connect(&self.peer, limits, self.pool.clone()).await;
        self.end(result);
    }
}

impl<L: Line> Drop for Dial<L> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Err(ConnectError::no_runtime(self.peer.addr)));
        }
    }
}
