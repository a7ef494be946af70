//! A worker on a cluster: its guard knows the pods, the platform registers it, and a drain waits for its callers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rolecall::{BalanceLayer, Instance, Registration, Worker};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Mutex, Notify};
use tokio::time;
use tower::{Layer, Service, service_fn};

use super::stand_in::{Slice, endpoint, pod};
use super::{DEADLINE, cluster, server};

const WORKER: [u8; 4] = [127, 0, 0, 1];
const CALLER: [u8; 4] = [127, 0, 0, 9];
const STRANGER: [u8; 4] = [127, 0, 0, 77];

async fn dial(from: [u8; 4], to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

#[tokio::test]
async fn a_worker_is_guarded_by_the_pods_and_drains_by_its_endpoint() {
    let server = server().await;
    server.put(pod("shop", "worker-1", "Running", &["127.0.0.1"]));
    server.put(pod("shop", "caller-1", "Running", &["127.0.0.9"]));
    let cluster = cluster(&server);
    let of = |role: &str, id: &str, ip: [u8; 4]| {
        let registration = Registration::new(role).id(id).boundary("shop");
        Worker::new(cluster.clone(), registration, ip.into()).unwrap()
    };

    let worker = of("worker", "worker-1", WORKER);
    let mut listener = worker.listen_at("http", (WORKER, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().tcp().unwrap();
    // Answers a byte with it, and 9 when it is told to.
    let go = Arc::new(Notify::new());
    let serving = tokio::spawn({
        let go = Arc::clone(&go);
        async move {
            loop {
                let (mut connection, _) = listener.accept().await;
                let go = Arc::clone(&go);
                tokio::spawn(async move {
                    while let Ok(byte) = connection.read_u8().await {
                        if byte == 9 {
                            go.notified().await;
                        }
                        connection.write_u8(byte).await?;
                    }
                    io::Result::Ok(())
                });
            }
        }
    });
    let slice = |terminating: bool| {
        let mut endpoint = endpoint("worker-1", "127.0.0.1");
        endpoint["conditions"] =
            json!({ "ready": !terminating, "serving": true, "terminating": terminating });
        let slice = Slice::new("shop", "worker", "a").port("http", address.port());
        slice.endpoints([endpoint])
    };
    server.put(slice(false).into());

    let mut stranger = dial(STRANGER, address).await.unwrap();
    let read = time::timeout(DEADLINE, stranger.read(&mut [0])).await;
    let is_closed = read
        .expect("it is turned away")
        .map_or(true, |read| read == 0);
    assert!(is_closed, "a stranger was served");

    let layer: BalanceLayer = of("caller", "caller-1", CALLER)
        .balance("worker:http")
        .unwrap();
    let connector = service_fn(|instance: Instance| async move {
        let connection = dial(CALLER, instance.address().tcp().unwrap()).await?;
        let connection = Arc::new(Mutex::new(connection));
        Ok::<_, io::Error>(service_fn(move |byte: u8| {
            let connection = Arc::clone(&connection);
            async move {
                let mut connection = connection.lock().await;
                connection.write_u8(byte).await?;
                connection.read_u8().await
            }
        }))
    });
    let mut balance = layer.layer(connector);
    assert_eq!(
        time::timeout(DEADLINE, balance.call(7))
            .await
            .unwrap()
            .unwrap(),
        7
    );

    let in_flight = tokio::spawn(balance.call(9));
    while balance
        .control()
        .status()
        .members
        .iter()
        .all(|member| member.in_flight == 0)
    {
        time::sleep(Duration::from_millis(1)).await;
    }
    server.put(slice(true).into());
    let drain = tokio::spawn({
        let worker = worker.clone();
        async move { worker.drain(DEADLINE).await }
    });
    time::timeout(DEADLINE, async {
        while balance.control().status().usable > 0 {
            time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("callers hear that it terminates");
    assert!(!drain.is_finished(), "a request is in flight");
    go.notify_one();
    assert_eq!(
        in_flight.await.unwrap().unwrap(),
        9,
        "what is in flight finishes"
    );
    let drained = time::timeout(DEADLINE / 2, drain)
        .await
        .expect("its connection is closed");
    assert_eq!(drained.unwrap().unwrap().open, 0);
    serving.abort();
}
