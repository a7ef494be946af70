//! Opens a TCP connection or a Unix socket to an instance.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use super::race::race;
use crate::model::address::Address;
use crate::model::instance::Instance;
use crate::runtime::io::forward_io;
use crate::runtime::local_fault::is_local_fault;

/// Opens a connection to an instance: to its address, and to its alternates if that does not answer soon.
///
/// Addresses are tried in order, each 250 ms after the one before it or as soon as all before it have failed, as in RFC 8305
/// ("happy eyeballs"). The first connection wins. TCP connections have `TCP_NODELAY` set. There is no time limit; the
/// balancer's [`connect_timeout`](crate::ConfigBuilder::connect_timeout) is one.
///
/// # Errors
///
/// A [`SocketError`] with the cause for each address.
///
/// # Cancellation
///
/// Dropping the future closes what it has opened.
///
/// # Examples
///
/// ```no_run
/// use rolecall::{BalanceLayer, Instance, List, connect};
/// use tower::{Layer, service_fn};
/// # fn lines(_: connect::Socket) -> impl tower::Service<String, Response = String, Error = std::io::Error, Future: Send> + Clone + Send + Sync + 'static {
/// #     service_fn(|line: String| std::future::ready(Ok(line)))
/// # }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let list = List::from_addrs(["127.0.0.1:8001".parse()?])?;
/// let connector = service_fn(|instance: Instance| async move {
///     let socket = connect::dial(&instance).await?;
///     Ok::<_, connect::SocketError>(lines(socket))
/// });
/// let balance = BalanceLayer::new(list, "worker:lines")?.layer(connector);
/// # drop(balance);
/// # Ok(())
/// # }
/// ```
pub async fn dial(instance: &Instance) -> Result<Socket, SocketError> {
    race(instance.addresses(), dial_address)
        .await
        .map_err(SocketError::new)
}

/// Opens a connection to one address.
pub(crate) async fn dial_address(address: &Address) -> io::Result<Socket> {
    match address {
        Address::Tcp(addr) => {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok(Socket::Tcp(stream))
        }
        #[cfg(unix)]
        Address::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
        #[cfg(not(unix))]
        Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// An open connection to an instance, made by [`dial`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    #[cfg(unix)]
    Unix(UnixStream),
}

forward_io!(Socket {
    Tcp,
    #[cfg(unix)]
    Unix,
});

/// No address of an instance could be connected to; has the cause for each.
///
/// Its text names every address with its cause. Its [`source`](StdError::source) is the [`io::Error`] whose kind
/// [`kind`](Self::kind) returns: that of the first address, unless another one failed because this process lacks a
/// resource, such as file descriptors.
#[derive(Debug)]
pub struct SocketError {
    failures: Vec<(Address, io::Error)>,
    decisive: usize,
}

impl SocketError {
    pub(crate) fn new(failures: Vec<(&Address, io::Error)>) -> Self {
        let local = failures.iter().position(|(_, error)| is_local_fault(error));
        Self {
            decisive: local.unwrap_or_default(),
            failures: failures
                .into_iter()
                .map(|(address, error)| (address.clone(), error))
                .collect(),
        }
    }

    /// The kind of its source.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.decisive()
            .map_or(io::ErrorKind::Other, io::Error::kind)
    }

    /// Each address that was tried, and why it could not be connected to.
    pub fn failures(&self) -> impl Iterator<Item = (&Address, &io::Error)> {
        self.failures
            .iter()
            .map(|(address, error)| (address, error))
    }

    fn decisive(&self) -> Option<&io::Error> {
        self.failures.get(self.decisive).map(|(_, error)| error)
    }
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot connect to ")?;
        for (place, (address, error)) in self.failures().enumerate() {
            let joint = if place == 0 { "" } else { "; nor to " };
            // The cause of a single address is the source, and is not repeated.
            match self.failures.len() {
                1 => write!(f, "{address}")?,
                _ => write!(f, "{joint}{address}: {error}")?,
            }
        }
        Ok(())
    }
}

impl StdError for SocketError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.decisive().map(|error| error as _)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::timeout;

    use super::*;

    /// Refuses connections: nobody listens there any more.
    async fn refusing() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        listener.local_addr().unwrap()
    }

    /// An address of this family that answers no connection request: its queue is full. The sockets keep it so.
    async fn silent(
        socket: TcpSocket,
        at: SocketAddr,
    ) -> (SocketAddr, Vec<TcpStream>, TcpListener) {
        socket.bind(at).unwrap();
        let listener = socket.listen(1).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(connected) =
            timeout(Duration::from_millis(300), TcpStream::connect(addr)).await
        {
            queued.push(connected.unwrap());
        }
        (addr, queued, listener)
    }

    #[tokio::test]
    async fn an_alternate_is_used_where_the_address_is_silent() {
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        let is_there = TcpListener::bind(v6).await.is_ok();
        let (socket, at) = if is_there {
            (TcpSocket::new_v6().unwrap(), v6)
        } else {
            (
                TcpSocket::new_v4().unwrap(),
                (Ipv4Addr::LOCALHOST, 0).into(),
            )
        };
        let (silent, _queued, _listener) = silent(socket, at).await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let answering = listener.local_addr().unwrap();
        let instance = Instance::new("a", silent).with_alternates([answering]);
        let dialled = timeout(Duration::from_secs(20), dial(&instance))
            .await
            .unwrap();
        let Ok(Socket::Tcp(stream)) = dialled else {
            panic!("no TCP connection: {dialled:?}");
        };
        assert_eq!(stream.peer_addr().unwrap(), answering);
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn an_error_names_every_address_with_its_cause() {
        let (first, second) = (refusing().await, refusing().await);
        let alone = dial(&Instance::new("a", first)).await.unwrap_err();
        assert_eq!(alone.to_string(), format!("cannot connect to {first}"));
        let nowhere = Address::unix("/nowhere/rolecall.sock").unwrap();
        let alternates = [Address::from(second), nowhere];
        let error = dial(&Instance::new("a", first).with_alternates(alternates)).await;
        let error = error.unwrap_err();
        let text = error.to_string();
        let refused = "Connection refused (os error 111)";
        let says = format!(
            "cannot connect to {first}: {refused}; nor to {second}: {refused}; nor to unix:/nowhere/rolecall.sock: No such file"
        );
        assert!(text.starts_with(&says), "{text}");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(error.failures().count(), 3);
    }

    #[test]
    fn a_fault_of_this_process_decides() {
        let addresses: [Address; 2] = [([10, 0, 0, 7], 80).into(), ([10, 0, 0, 8], 80).into()];
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let no_files = io::Error::from_raw_os_error(24);
        let error = SocketError::new(vec![(&addresses[0], refused), (&addresses[1], no_files)]);
        assert!(is_local_fault(&error));
    }
}
