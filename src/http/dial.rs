//! Opens one connection, within the connect timeout.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Weak;
use std::time::Duration;

use http::uri::Scheme;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use super::error::{ConnectError, Step};
use super::line::{Line, Transport};
use super::pool::{Limits, Pool};
use super::stream::Stream;
#[cfg(feature = "tls")]
use super::tls::Expected;
use crate::runtime::clock;

/// Where a pool connects.
#[derive(Clone)]
pub(super) struct Peer {
    addr: SocketAddr,
    /// The local ip to dial from; `None`: the system's choice.
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

    async fn tcp(&self, from: Option<IpAddr>) -> io::Result<TcpStream> {
        let socket = match self.addr {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(ip) = from {
            bind(&socket, ip)?;
        }
        socket.set_nodelay(true)?;
        socket.connect(self.addr).await
    }

    async fn reach<L: Transport>(
        &self,
        by: Instant,
        limit: Duration,
    ) -> Result<Stream, ConnectError> {
        let from = self.from.filter(|ip| ip.is_ipv4() == self.addr.is_ipv4());
        let stream = timeout_at(by, self.tcp(from))
            .await
            .map_err(|_| ConnectError::timed_out(self.addr, Step::Connect, limit))?
            .map_err(|error| ConnectError::connect(self.addr, from, error))?;
        #[cfg(feature = "tls")]
        if let Some(expected) = &self.tls {
            let handshake = expected.handshake(stream, self.addr, L::ALPN);
            let stream = timeout_at(by, handshake)
                .await
                .map_err(|_| ConnectError::timed_out(self.addr, Step::Tls, limit))??;
            return Ok(Stream::from(stream));
        }
        Ok(Stream::Plain(stream))
    }
}

/// Binds a socket to a local ip, without a port where the system can choose that when it connects.
///
/// A port that `bind` chooses is taken for all destinations: an ip then has 28 000 of them, instead of as many for each
/// instance.
fn bind(socket: &TcpSocket, ip: IpAddr) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    nix::sys::socket::setsockopt(
        socket,
        nix::sys::socket::sockopt::IpBindAddressNoPort,
        &true,
    )?;
    socket.bind(SocketAddr::new(ip, 0))
}

/// Connects to `peer` and shakes hands; freed lines come back to `home`.
pub(super) async fn connect<L: Transport>(
    peer: &Peer,
    limits: Limits,
    home: Weak<Pool<L>>,
) -> Result<L, ConnectError> {
    let (addr, limit) = (peer.addr, limits.connect_timeout);
    // Beyond what the clock can count a limit is none.
    let now = Instant::from_std(clock::now());
    let by = now.checked_add(limit).unwrap_or_else(|| now + LONGEST);
    let stream = peer.reach::<L>(by, limit).await?;
    let line = timeout_at(by, L::open(stream, addr, limits, home))
        .await
        .unwrap_or_else(|_| Err(ConnectError::timed_out(addr, Step::Http, limit)))?;
    tracing::debug!(%addr, "connected");
    Ok(line)
}

/// A year: what a longer connect timeout is cut to.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

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

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tests {
    use super::*;

    #[test]
    fn a_local_address_takes_no_port_before_it_connects() {
        let socket = TcpSocket::new_v4().unwrap();
        bind(&socket, [127, 0, 0, 1].into()).unwrap();
        assert_eq!(socket.local_addr().unwrap().port(), 0);
        let socket = TcpSocket::new_v6().unwrap();
        bind(&socket, std::net::Ipv6Addr::LOCALHOST.into()).unwrap();
        assert_eq!(socket.local_addr().unwrap().port(), 0);
    }
}
