//! How connections are opened, used again and closed.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_LENGTH;
use hyper::{Method, Request, Response, StatusCode, Version};
use rolecall::Instance;
use rolecall::http::{Connection, Connector};
use tower::ServiceExt;

use crate::support::{
    Client, Gate, Server, body, dial, dial_with, get, hello, poll_ready_once, spawn_get, until,
};

#[tokio::test]
async fn keep_alive_reuses_one_connection() {
    let server = Server::start(hello).await;
    let client = dial(server.addr).await;
    for _ in 0..5 {
        assert_eq!(body(get(&client, "/").await).await, "hello");
    }
    assert_eq!(
        server.accepted(),
        1,
        "the dial's connection serves them all"
    );
}

#[tokio::test]
async fn concurrent_requests_open_a_connection_each_and_keep_them() {
    let gate = Gate::new();
    let server = Server::start(gate.handler()).await;
    let client = dial(server.addr).await;
    for _ in 0..2 {
        let calls: Vec<_> = (0..8).map(|_| spawn_get(&client)).collect();
        gate.arrived(8).await;
        gate.open(8);
        for call in calls {
            assert_eq!(body(call.await.unwrap().unwrap()).await, "hello");
        }
        assert_eq!(server.accepted(), 8);
    }
}

#[tokio::test]
async fn responses_without_a_body_free_the_connection_at_once() {
    let server = Server::start(|request: Request<Incoming>| async move {
        let mut response = Response::new(Full::default());
        match request.uri().path() {
            "/204" => *response.status_mut() = StatusCode::NO_CONTENT,
            "/head" => {
                response.headers_mut().insert(CONTENT_LENGTH, 1000.into());
            }
            _ => {}
        }
        response
    })
    .await;
    let client = dial(server.addr).await;
    let mut unread = Vec::new();
    for (method, path) in [
        (Method::GET, "/204"),
        (Method::HEAD, "/head"),
        (Method::GET, "/0"),
    ] {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Empty::new()).unwrap();
        unread.push(client.clone().oneshot(request).await.unwrap());
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_body_dropped_unread_closes_its_connection_only() {
    let server = Server::start(|_| async { Response::new(Full::from(vec![b'x'; 1 << 20])) }).await;
    let client = dial(server.addr).await;
    drop(get(&client, "/").await);
    until(|| server.open() == 0).await;
    assert_eq!(body(get(&client, "/").await).await.len(), 1 << 20);
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn http2_sends_all_requests_over_one_connection() {
    let gate = Gate::new();
    let server = Server::start(gate.handler()).await;
    let client = dial_with(server.addr, true).await;
    let calls: Vec<_> = (0..32).map(|_| spawn_get(&client)).collect();
    gate.arrived(32).await;
    gate.open(32);
    for call in calls {
        let response = call.await.unwrap().unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(body(response).await, "hello");
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn the_last_clone_closes_all_sockets() {
    for http2 in [false, true] {
        let server = Server::start(hello).await;
        let client = dial_with(server.addr, http2).await;
        let mut held = client.clone();
        held.ready().await.unwrap();
        body(get(&client, "/").await).await;
        until(|| server.open() >= 1).await;
        drop(held);
        drop(client);
        until(|| server.open() == 0).await;
    }
}

#[tokio::test]
async fn a_request_in_flight_outlives_the_last_clone() {
    for http2 in [false, true] {
        let gate = Gate::new();
        let server = Server::start(gate.handler()).await;
        let client = dial_with(server.addr, http2).await;
        let call = spawn_get(&client);
        drop(client);
        gate.arrived(1).await;
        gate.open(1);
        assert_eq!(body(call.await.unwrap().unwrap()).await, "hello");
        until(|| server.open() == 0).await;
    }
}

#[tokio::test]
async fn the_last_drop_ends_a_dial_under_way() {
    // The server accepts, but the dial is not polled between its start and the drop.
    let server = Server::start(hello).await;
    let client = dial(server.addr).await;
    let mut holder = client.clone();
    holder.ready().await.unwrap();
    let mut waiting = client.clone();
    assert!(poll_ready_once(&mut waiting).await.is_none());
    drop((client, holder, waiting));
    until(|| server.open() == 0).await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn idle_connections_are_closed_in_time_and_beyond_the_limit() {
    let server = Server::start(hello).await;
    let connector = Connector::new().idle_timeout(Duration::from_millis(20));
    let client: Client = connector
        .oneshot(Instance::new("a", server.addr))
        .await
        .unwrap();
    body(get(&client, "/").await).await;
    until(|| server.open() == 0).await;
    assert_eq!(body(get(&client, "/").await).await, "hello");
    drop(client);

    let server = Server::start(hello).await;
    let connector = Connector::new().max_idle(0);
    let client: Client = connector
        .oneshot(Instance::new("a", server.addr))
        .await
        .unwrap();
    until(|| server.accepted() == 1 && server.open() == 0).await;
    for served in 1..4 {
        assert_eq!(body(get(&client, "/").await).await, "hello");
        until(|| server.accepted() == served + 1 && server.open() == 0).await;
    }
}

#[test]
fn a_connection_can_be_shared_even_if_its_bodies_cannot() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Connection<http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>>>();
}

#[test]
fn a_dial_without_a_runtime_is_an_error() {
    let dial = Connector::<Empty<Bytes>>::new().oneshot(Instance::new("a", ([127, 0, 0, 1], 9)));
    let error = futures::executor::block_on(dial).unwrap_err();
    assert!(error.to_string().contains("runtime"), "{error}");
}

#[test]
fn a_connection_whose_runtime_ended_is_an_error() {
    for http2 in [false, true] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let client = runtime.block_on(async {
            let server = Server::start(hello).await;
            dial_with(server.addr, http2).await
        });
        drop(runtime);
        let ready = client.clone().ready_oneshot();
        futures::executor::block_on(ready).map(drop).unwrap_err();
    }
}
