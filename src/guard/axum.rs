//! A guard's listener as axum takes it.

use std::io;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;

use super::connection::GuardedConnection;
use super::listener::Listener;
use super::peer::Peer;

/// `axum::serve(listener, app)` serves admitted connections only.
impl axum::serve::Listener for Listener {
    type Io = GuardedConnection;
    type Addr = Peer;

    async fn accept(&mut self) -> (GuardedConnection, Peer) {
        Listener::accept(self).await
    }

    /// The TCP address; an error for a Unix socket.
    fn local_addr(&self) -> io::Result<Peer> {
        let addr = Listener::local_addr(self)?.tcp();
        addr.map(Peer::Tcp)
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }
}

/// For `into_make_service_with_connect_info::<Peer>()`.
impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        *stream.remote_addr()
    }
}
