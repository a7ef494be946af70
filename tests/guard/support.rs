use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures::{Stream, StreamExt};
use rolecall::guard::{Guard, GuardEvent, Peer};
use rolecall::{Boundary, Lease, Registrar, Registration, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Far more than anything here takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const FRIEND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 8));
pub(crate) const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
pub(crate) const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 10));

pub(crate) fn boundary(name: &str) -> Boundary {
    Boundary::new(name).unwrap()
}

pub(crate) async fn register(registry: &Registry, boundary: &str, ip: IpAddr) -> Lease {
    let here = Registration::new("worker").boundary(boundary).peer_ip(ip);
    registry.register(here).await.unwrap()
}

pub(crate) async fn in_time<F: Future>(what: F) -> F::Output {
    timeout(PATIENCE, what).await.expect("in time")
}

/// Waits for the first event that is one of these.
pub(crate) async fn event(
    events: &mut (impl Stream<Item = GuardEvent> + Unpin),
    mut wanted: impl FnMut(&GuardEvent) -> bool,
) -> GuardEvent {
    in_time(async {
        loop {
            let event = events.next().await.expect("the guard lives");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}

pub(crate) async fn peers_changed(events: &mut (impl Stream<Item = GuardEvent> + Unpin)) {
    event(events, |event| {
        matches!(event, GuardEvent::PeersChanged { .. })
    })
    .await;
}

/// Waits until this address is admitted, or is so no longer.
pub(crate) async fn until(
    guard: &Guard,
    events: &mut (impl Stream<Item = GuardEvent> + Unpin),
    ip: IpAddr,
    admitted: bool,
) {
    while guard.admits(ip) != admitted {
        peers_changed(events).await;
    }
}

/// A guarded server that greets whoever sends a byte, for as long as it sends some, and tells who came.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) came: mpsc::UnboundedReceiver<Peer>,
    accepting: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(guard: &Guard) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::on(guard, listener)
    }

    pub(crate) fn on(guard: &Guard, listener: TcpListener) -> Self {
        let addr = listener.local_addr().unwrap();
        let mut listener = guard.wrap(listener);
        let (tell, came) = mpsc::unbounded_channel();
        let accepting = tokio::spawn(async move {
            loop {
                let (mut connection, from) = listener.accept().await;
                let _ = tell.send(from);
                tokio::spawn(async move {
                    while let Ok(1..) = connection.read(&mut [0; 64]).await {
                        if connection.write_all(b"hello").await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self {
            addr,
            came,
            accepting,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Connects from this address.
pub(crate) async fn connect(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = match from {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }
    .unwrap();
    socket.bind((from, 0).into()).unwrap();
    in_time(socket.connect(to)).await.unwrap()
}

/// Sends this and reads a greeting; an error or `UnexpectedEof` where there is none.
pub(crate) async fn greet(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    in_time(async {
        stream.write_all(bytes).await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"hello");
        Ok(())
    })
    .await
}

pub(crate) async fn is_served(from: IpAddr, to: SocketAddr) -> bool {
    greet(&mut connect(from, to).await, b"x").await.is_ok()
}
