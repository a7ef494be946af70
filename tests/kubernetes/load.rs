//! Requests go on whatever happens to the API server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rolecall::{BalanceLayer, Instance};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time;
use tower::{Layer, Service, service_fn};

use super::stand_in::{ApiServer, Cut, Mode, Slice, endpoint};
use super::{DEADLINE, cluster, server};

/// How long each fault lasts: `ROLECALL_OUTAGE_SECONDS`, 3 unless that says otherwise.
fn outage() -> Duration {
    let seconds = std::env::var("ROLECALL_OUTAGE_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|s| s.parse().ok()).unwrap_or(3))
}

const WORKERS: u8 = 4;

/// Four workers and a fifth that is not announced: one port at as many addresses of the loopback, as pods have.
struct Workers {
    port: u16,
    served: [Arc<AtomicUsize>; WORKERS as usize + 1],
    serving: JoinSet<()>,
}

impl Workers {
    async fn start() -> Self {
        'port: loop {
            let first = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let port = first.local_addr().unwrap().port();
            let mut listeners = vec![first];
            for n in 2..=WORKERS + 1 {
                match TcpListener::bind(SocketAddr::from(([127, 0, 0, n], port))).await {
                    Ok(listener) => listeners.push(listener),
                    Err(_) => continue 'port,
                }
            }
            let served: [Arc<AtomicUsize>; WORKERS as usize + 1] = Default::default();
            let mut serving = JoinSet::new();
            for (listener, served) in listeners.into_iter().zip(served.clone()) {
                serving.spawn(serve(listener, served));
            }
            return Self {
                port,
                served,
                serving,
            };
        }
    }

    fn slice(&self, workers: u8) -> Slice {
        let endpoints =
            (1..=workers).map(|n| endpoint(&format!("pod-{n}"), &format!("127.0.0.{n}")));
        let slice = Slice::new("shop", "worker", "a").port("http", self.port);
        slice.endpoints(endpoints)
    }

    fn served(&self) -> Vec<usize> {
        self.served
            .iter()
            .map(|n| n.load(Ordering::Relaxed))
            .collect()
    }
}

async fn serve(listener: TcpListener, served: Arc<AtomicUsize>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let served = Arc::clone(&served);
        tokio::spawn(async move {
            let byte = stream.read_u8().await?;
            served.fetch_add(1, Ordering::Relaxed);
            stream.write_u8(byte).await
        });
    }
}

async fn request(address: SocketAddr) -> io::Result<u8> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_u8(7).await?;
    stream.read_u8().await
}

/// What happens to the API server, and is over after a while.
async fn begin(fault: &str, server: &mut ApiServer) {
    match fault {
        "killed" | "replaced by an empty one" => server.kill().await,
        "stopped" => server.set_mode(Mode::Stopped),
        "answering garbage" => server.set_mode(Mode::Garbage),
        "answering empty lists" => server.set_mode(Mode::Empty),
        other => panic!("what is {other}?"),
    }
    server.cut_watches(Cut::Broken);
    if fault == "replaced by an empty one" {
        server.lose_data();
        server.come_back().await.unwrap();
    }
}

async fn end(fault: &str, server: &mut ApiServer) {
    match fault {
        "killed" => server.come_back().await.unwrap(),
        _ => server.set_mode(Mode::Serving),
    }
}

#[tokio::test]
async fn no_request_fails_whatever_the_api_server_does() {
    let workers = Workers::start().await;
    let mut server = server().await;
    server.put(workers.slice(WORKERS).into());
    let connector = service_fn(|instance: Instance| async move {
        let address = instance.address().tcp().unwrap();
        Ok::<_, io::Error>(service_fn(move |(): ()| request(address)))
    });
    let layer = BalanceLayer::new(cluster(&server), "shop/worker:http").unwrap();
    let balance = layer.layer(connector);
    balance.control().wait_usable(DEADLINE).await.unwrap();

    let (sent, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let load = tokio::spawn({
        let (sent, failed) = (Arc::clone(&sent), Arc::clone(&failed));
        let balance = balance.clone();
        async move {
            let mut ticks = time::interval(Duration::from_millis(2));
            loop {
                ticks.tick().await;
                let (mut balance, failed) = (balance.clone(), Arc::clone(&failed));
                sent.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    if let Err(error) = balance.call(()).await {
                        eprintln!("failed: {error}");
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
    });
    let faults = [
        "killed",
        "stopped",
        "answering garbage",
        "answering empty lists",
        "replaced by an empty one",
    ];
    for fault in faults {
        let sent_before = sent.load(Ordering::Relaxed);
        begin(fault, &mut server).await;
        time::sleep(outage()).await;
        let status = balance.control().status();
        assert!(
            status.members.len() >= usize::from(WORKERS),
            "somebody left while the server was {fault}: {status:?}"
        );
        end(fault, &mut server).await;
        // News is heard again: a fifth comes, and goes.
        let fifth = workers.served()[4];
        server.put(workers.slice(WORKERS + 1).into());
        let heard = time::timeout(DEADLINE, async {
            while workers.served()[4] == fifth {
                time::sleep(Duration::from_millis(5)).await;
            }
        });
        heard
            .await
            .unwrap_or_else(|_| panic!("nothing was heard after the server was {fault}"));
        server.put(workers.slice(WORKERS).into());
        let count = sent.load(Ordering::Relaxed) - sent_before;
        println!("{fault}: {count} requests");
        assert_eq!(
            failed.load(Ordering::Relaxed),
            0,
            "of {count} while the server was {fault}"
        );
    }
    load.abort();
    assert_eq!(
        workers.serving.len(),
        usize::from(WORKERS) + 1,
        "a worker has died"
    );
}
