//! Connections that get too old.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use rolecall::{BalanceLayer, Event, Instance, List, http};
use tower::{Layer, ServiceExt};

use crate::support::{
    Client, Gate, Server, accept_and_greet, body, connector, get, hello, io_kind, request,
    spawn_get, until, within,
};

const AGE: Duration = Duration::from_millis(100);

async fn aging(addr: std::net::SocketAddr, http2: bool) -> Client {
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
            .classify(http::ClassifyStatus::new())
            .layer(connector(http2).max_connection_age(AGE));
        let mut events = client.events();
        let calls = (0..4).map(|_| async {
            while server.accepted() < 20 {
                let response = client.clone().oneshot(request("/")).await;
                body(response.expect("no request fails")).await;
                tokio::task::yield_now().await;
            }
        });
        within(futures::future::join_all(calls)).await;
        let member = client.status().members.remove(0);
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

#[tokio::test]
async fn an_instance_that_takes_no_other_connection_shows_in_poll_ready() {
    for http2 in [false, true] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || accept_and_greet(&listener, http2));
        let client = aging(addr, http2).await;
        let stream = server.join().unwrap();
        let error = within(async {
            loop {
                match client.clone().ready().await.map(drop) {
                    Ok(()) => tokio::time::sleep(AGE / 10).await,
                    Err(error) => return error,
                }
            }
        })
        .await;
        assert!(!error.was_sent());
        assert_eq!(io_kind(&error), std::io::ErrorKind::ConnectionRefused);
        drop(stream);
    }
}
