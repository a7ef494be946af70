//! Connections that get too old.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rolecall::{BalanceLayer, Event, Instance, List, http};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower::{Layer, ServiceExt};

use crate::support::{
    Client, Gate, Server, body, connector, get, hello, request, spawn_get, until, within,
};

const AGE: Duration = Duration::from_millis(100);

async fn aging(addr: SocketAddr, http2: bool) -> Client {
    let connector = connector(http2).max_connection_age(AGE);
    connector.oneshot(Instance::new("a", addr)).await.unwrap()
}

#[tokio::test]
async fn an_old_connection_makes_way_for_another_and_no_request_fails() {
    for http2 in [false, true] {
        let server = Server::start(hello).await;
        let list = List::from_addrs([server.addr]).unwrap();
        let client = BalanceLayer::new(list, "worker:http")
            .unwrap()
            .classify(http::HttpClassifier::new())
            .layer(connector(http2).max_connection_age(AGE));
        let mut events = client.control().events();
        let calls = (0..4).map(|_| async {
            while server.accepted() < 20 {
                let response = client.clone().oneshot(request("/")).await;
                body(response.expect("no request fails")).await;
                tokio::task::yield_now().await;
            }
        });
        within(futures::future::join_all(calls)).await;
        let member = client.control().status().members.remove(0);
        assert_eq!(member.failures, 0);
        while let Some(Some(event)) = events.next().now_or_never() {
            let is_loss = matches!(event, Event::ConnectionLost { .. });
            assert!(!is_loss, "it is always connected");
        }
        until(|| server.open() <= 4).await;
    }
}

#[tokio::test]
async fn what_is_in_flight_on_an_old_connection_is_finished() {
    for http2 in [false, true] {
        let gate = Gate::new();
        let server = Server::start(gate.handler()).await;
        let client = aging(server.addr, http2).await;
        let old = spawn_get(&client);
        gate.arrived(1).await;
        // HTTP/2 has a new connection beside it, HTTP/1.1 opens one for the next request.
        tokio::time::sleep(2 * AGE).await;
        let young = spawn_get(&client);
        gate.arrived(1).await;
        assert!(server.accepted() >= 2);
        gate.open(2);
        for call in [old, young] {
            assert_eq!(body(call.await.unwrap().unwrap()).await, "hello");
        }
        until(|| server.open() == 1).await;
    }
}

#[tokio::test]
async fn the_only_idle_connection_is_replaced_without_a_request() {
    for http2 in [false, true] {
        let server = Server::start(hello).await;
        let client = aging(server.addr, http2).await;
        until(|| server.accepted() >= 4 && server.open() == 1).await;
        assert_eq!(body(get(&client, "/").await).await, "hello");
    }
}

#[tokio::test]
async fn several_idle_connections_leave_one_behind() {
    let gate = Gate::new();
    let server = Server::start(gate.handler()).await;
    let client = aging(server.addr, false).await;
    let calls: Vec<_> = (0..8).map(|_| spawn_get(&client)).collect();
    gate.arrived(8).await;
    gate.open(8);
    for call in calls {
        assert_eq!(body(call.await.unwrap().unwrap()).await, "hello");
    }
    until(|| server.open() == 1 && server.accepted() > 8).await;
}

/// An address whose port nobody else takes while it is free.
fn own_addr() -> SocketAddr {
    let ip = if cfg!(target_os = "linux") {
        Ipv4Addr::new(127, 79, 0, 1)
    } else {
        Ipv4Addr::LOCALHOST
    };
    (ip, 0).into()
}

async fn serve_one(listener: &TcpListener) -> JoinHandle<()> {
    let (stream, _) = listener.accept().await.unwrap();
    tokio::spawn(async move {
        let service = service_fn(|request| async { Ok::<_, Infallible>(hello(request).await) });
        let server = auto::Builder::new(TokioExecutor::new());
        // However it ends.
        let _ = server.serve_connection(TokioIo::new(stream), service).await;
    })
}

fn serve_all(listener: TcpListener) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            serve_one(&listener).await;
        }
    })
}

#[tokio::test]
async fn an_old_connection_serves_until_there_is_another_one() {
    for http2 in [false, true] {
        let listener = TcpListener::bind(own_addr()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (client, old) = tokio::join!(aging(addr, http2), serve_one(&listener));
        drop(listener);
        // Whoever dials now is refused.
        let began = Instant::now();
        while began.elapsed() < 15 * AGE {
            assert_eq!(body(get(&client, "/").await).await, "hello");
            tokio::time::sleep(AGE / 50).await;
        }
        assert!(!old.is_finished());

        let serving = serve_all(TcpListener::bind(addr).await.unwrap());
        let began = Instant::now();
        while !old.is_finished() {
            assert!(began.elapsed() < 300 * AGE, "it is replaced");
            assert_eq!(body(get(&client, "/").await).await, "hello");
        }
        assert_eq!(body(get(&client, "/").await).await, "hello");
        serving.abort();
    }
}

#[tokio::test]
async fn an_old_idle_connection_stays_until_there_is_another_one() {
    for http2 in [false, true] {
        let listener = TcpListener::bind(own_addr()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (client, old) = tokio::join!(aging(addr, http2), serve_one(&listener));
        drop(listener);
        tokio::time::sleep(2 * AGE).await;
        let serving = serve_all(TcpListener::bind(addr).await.unwrap());
        within(old).await.unwrap();
        assert_eq!(body(get(&client, "/").await).await, "hello");
        serving.abort();
    }
}
