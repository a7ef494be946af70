//! A proxy in front of a server, whose connections can be silenced: they stay open, and nothing comes through any more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) struct Proxy {
    address: SocketAddr,
    /// Connections with a lower number are silent.
    silent: watch::Sender<usize>,
    accepted: Arc<AtomicUsize>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (silent, silenced) = watch::channel(0);
        let accepted = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&accepted);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut passing = JoinSet::new();
            loop {
                let (caller, _) = listener.accept().await.unwrap();
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(&server).await else {
                    continue;
                };
                passing.spawn(pass(number, caller, server, silenced.clone()));
            }
        });
        Self {
            address,
            silent,
            accepted,
            _accepting: accepting,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// Nothing comes through the connections of now any more, in either direction. New ones work.
    pub(crate) fn silence(&self) {
        self.silent
            .send_replace(self.accepted.load(Ordering::SeqCst));
    }
}

async fn pass(
    number: usize,
    mut caller: TcpStream,
    mut server: TcpStream,
    mut silenced: watch::Receiver<usize>,
) {
    let (mut from_caller, mut to_caller) = caller.split();
    let (mut from_server, mut to_server) = server.split();
    let both = async {
        let there = async {
            let mut bytes = [0; 16 * 1024];
            while let Ok(length @ 1..) = from_caller.read(&mut bytes).await {
                to_server.write_all(&bytes[..length]).await?;
            }
            to_server.shutdown().await
        };
        let back = async {
            let mut bytes = [0; 16 * 1024];
            while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
                to_caller.write_all(&bytes[..length]).await?;
            }
            to_caller.shutdown().await
        };
        let _ = tokio::join!(there, back);
    };
    tokio::select! {
        () = both => return,
        _ = silenced.wait_for(|silent| number < *silent) => {}
    }
    // It holds both connections open until the proxy is dropped.
    std::future::pending().await
}
