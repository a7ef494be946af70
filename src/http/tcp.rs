//! Options of the TCP connections to instances.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

/// Probes without an answer after which a connection is closed.
#[cfg(not(windows))]
const PROBES: u32 = 3;

/// Options of the TCP connections to instances, see [`Connector::tcp`](super::Connector::tcp).
///
/// Options that the system does not have are ignored, unless said otherwise.
///
/// ```
/// use rolecall::http::{Client, TcpOptions};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tcp = TcpOptions::new().keep_alive(Duration::from_secs(5));
/// let client: Client = Client::builder(rolecall::Registry::new(), "worker:http").tcp(tcp).build()?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TcpOptions {
    nodelay: bool,
    keep_alive: Option<Duration>,
    user_timeout: Option<Duration>,
    local_address: Option<IpAddr>,
    interface: Option<String>,
}

impl TcpOptions {
    /// The defaults: `TCP_NODELAY`, keep-alive after 15 s, a user timeout of 30 s, and the system's choice of local address
    /// and interface.
    #[must_use]
    pub fn new() -> Self {
        Self {
            nodelay: true,
            keep_alive: Some(Duration::from_secs(15)),
            user_timeout: Some(Duration::from_secs(30)),
            local_address: None,
            interface: None,
        }
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`). Without it a request may wait 40 ms for an acknowledgement.
    #[must_use]
    pub fn nodelay(mut self, enabled: bool) -> Self {
        self.nodelay = enabled;
        self
    }

    /// Probes a connection that was silent for this long, and again after each such time. After three probes without an
    /// answer it is closed. `None`: never. Systems count whole seconds, and at least one.
    #[must_use]
    pub fn keep_alive(mut self, idle: impl Into<Option<Duration>>) -> Self {
        let idle = idle.into();
        self.keep_alive = idle.map(|idle| idle.max(Duration::from_secs(1)));
        self
    }

    /// Closes a connection on which data stays unacknowledged for this long (`TCP_USER_TIMEOUT`, Linux and Android).
    /// `None`: the system's limit, often 15 minutes. Counted in milliseconds, and as at least one.
    ///
    /// It finds a host or network that is lost while a request is sent. Keep-alive finds one that is lost before.
    #[must_use]
    pub fn user_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = timeout.into();
        self.user_timeout = timeout.map(|timeout| timeout.max(Duration::from_millis(1)));
        self
    }

    /// Dials from this ip, where it is of the instance's family: the one that guards know the caller by. `None`: the system's
    /// choice.
    ///
    /// It takes no port of its own: each instance has all ports of the ip. A dial from an ip that this machine does not have
    /// fails, and so does one from a loopback ip to another host.
    #[must_use]
    pub fn local_address(mut self, ip: impl Into<Option<IpAddr>>) -> Self {
        self.local_address = ip.into();
        self
    }

    /// Sends by this network interface only, such as `eth1` (`SO_BINDTODEVICE`). Linux and Android; elsewhere, and for an
    /// interface that does not exist, dials fail.
    #[must_use]
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.interface = Some(name.into());
        self
    }

    /// The local ip of dials to this address.
    pub(super) fn local_address_for(&self, addr: SocketAddr) -> Option<IpAddr> {
        self.local_address
            .filter(|ip| ip.is_ipv4() == addr.is_ipv4())
    }

    pub(super) async fn connect(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        self.socket(addr)?.connect(addr).await
    }

    fn socket(&self, addr: SocketAddr) -> io::Result<TcpSocket> {
        let socket = match addr {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_nodelay(self.nodelay)?;
        let options = SockRef::from(&socket);
        if let Some(idle) = self.keep_alive {
            let keep_alive = TcpKeepalive::new().with_time(idle).with_interval(idle);
            #[cfg(not(windows))]
            let keep_alive = keep_alive.with_retries(PROBES);
            options.set_tcp_keepalive(&keep_alive)?;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        options.set_tcp_user_timeout(self.user_timeout)?;
        if let Some(interface) = &self.interface {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            options.bind_device(Some(interface.as_bytes()))?;
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("this system cannot bind a socket to the interface {interface:?}"),
            ));
        }
        if let Some(ip) = self.local_address_for(addr) {
            // A port that `bind` chooses is taken for all destinations: an ip then has 28 000 of them, instead of as many
            // for each instance. So the system chooses it when the socket connects.
            #[cfg(any(target_os = "linux", target_os = "android"))]
            nix::sys::socket::setsockopt(
                &socket,
                nix::sys::socket::sockopt::IpBindAddressNoPort,
                &true,
            )?;
            socket.bind(SocketAddr::new(ip, 0))?;
        }
        Ok(socket)
    }
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn a_local_address_takes_no_port_before_it_connects() {
        for ip in [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()] {
            let options = TcpOptions::new().local_address(ip);
            let socket = options.socket(SocketAddr::new(ip, 80)).unwrap();
            assert_eq!(socket.local_addr().unwrap(), SocketAddr::new(ip, 0));
        }
    }

    #[test]
    fn options_are_those_of_the_socket() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 80));
        let second = Duration::from_secs(1);
        let socket = TcpOptions::new().socket(addr).unwrap();
        let has = SockRef::from(&socket);
        assert!(socket.nodelay().unwrap() && has.keepalive().unwrap());
        assert_eq!(has.tcp_keepalive_time().unwrap(), 15 * second);
        assert_eq!(has.tcp_keepalive_interval().unwrap(), 15 * second);
        assert_eq!(has.tcp_keepalive_retries().unwrap(), PROBES);
        assert_eq!(has.tcp_user_timeout().unwrap(), Some(30 * second));

        let options = TcpOptions::new().keep_alive(None).user_timeout(None);
        let socket = options.nodelay(false).socket(addr).unwrap();
        let has = SockRef::from(&socket);
        assert!(!socket.nodelay().unwrap() && !has.keepalive().unwrap());
        assert_eq!(has.tcp_user_timeout().unwrap(), None);

        let options = TcpOptions::new().keep_alive(Duration::ZERO).interface("lo");
        let socket = options.socket(addr).unwrap();
        let has = SockRef::from(&socket);
        assert_eq!(has.tcp_keepalive_time().unwrap(), second);
        assert_eq!(has.device().unwrap().as_deref(), Some(&b"lo"[..]));
        let options = TcpOptions::new().interface("no such");
        options.socket(addr).map(drop).unwrap_err();
    }
}
