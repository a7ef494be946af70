//! A relay in front of a server that knows nothing of it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Connection, Event, Guard, Listener};
use crate::runtime::clock;

/// How long the server may take to accept; it is near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn forward(mut listener: Listener, addr: SocketAddr) -> Infallible {
    // Its tasks end with it.
    let mut relays = JoinSet::new();
    loop {
        let (connection, _) = listener.accept().await;
        let (guard, cut) = (listener.guard().clone(), connection.until_cut());
        relays.spawn(async move {
            // While the server takes nothing, nothing is read from the friend either, which would tell of its end.
            select(pin!(cut), pin!(relay(guard, connection, addr))).await;
        });
        while relays.try_join_next().is_some() {}
    }
}

/// Passes bytes on in both directions, as fast as the slower side takes them; the end of one direction is passed on and
/// leaves the other open.
async fn relay(guard: Guard, mut friend: Connection, addr: SocketAddr) {
    let mut server = match connect(addr).await {
        Ok(server) => server,
        Err(error) => {
            let error = Arc::new(error);
            let event = Event::ForwardFailed { addr, error };
            let ip = friend.peer_addr().ip().to_canonical();
            guard
                .gate()
                .journal
                .tell_of_forward(ip, event, clock::now());
            return;
        }
    };
    // As on a direct connection, small messages are the business of the two ends.
    let _ = friend.get_ref().set_nodelay(true);
    let result = copy_bidirectional(&mut friend, &mut server).await;
    if let Err(error) = result {
        tracing::trace!(target: "rolecall", %addr, %error, "relay ended");
    }
}

async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(addr));
    let server = connecting
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    server.set_nodelay(true)?;
    Ok(server)
}
