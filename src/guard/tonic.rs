//! A guard's connection as tonic's server takes it.

use tonic::transport::server::{Connected, TcpConnectInfo};

use super::connection::GuardedConnection;
use crate::balance::socket::Socket;

/// `Server::builder().add_service(..).serve_with_incoming(listener)` serves admitted connections only.
///
/// `Request::remote_addr` is the address of the [peer](GuardedConnection::peer), and none over a Unix socket.
impl Connected for GuardedConnection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        let local_addr = match self.get_ref() {
            Socket::Tcp(stream) => stream.local_addr().ok(),
            #[cfg(unix)]
            Socket::Unix(_) => None,
        };
        TcpConnectInfo {
            local_addr,
            remote_addr: self.peer().addr(),
        }
    }
}
