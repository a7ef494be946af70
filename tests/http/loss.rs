//! Connections that are lost, and what the caller gets to know.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use rolecall::http::{CallError, ConnectError, Connector};
use rolecall::{BalanceLayer, Instance, List, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tower::{Layer, Service, ServiceExt};

use crate::support::{
    Gate, Raw, Server, accept_and_greet, body, connector, dial, dial_with, free_addr, get, hello,
    io_kind, io_turn, poll_ready_once, read_head, request, spawn_get, within,
};

#[tokio::test]
async fn a_connection_closed_while_idle_costs_no_request() {
    let closed = Arc::new(Semaphore::new(0));
    let script = closed.clone();
    let server = Raw::start(move |mut stream| {
        let closed = script.clone();
        async move {
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
                .await?;
            drop(stream);
            closed.add_permits(1);
            Ok(())
        }
    })
    .await;
    let client = dial(server.addr).await;
    for _ in 0..50 {
        assert_eq!(body(get(&client, "/").await).await, "hello");
        closed.acquire().await.unwrap().forget();
    }
    assert_eq!(server.accepted(), 50);
}

#[tokio::test]
async fn a_connection_lost_after_it_was_claimed_is_replaced() {
    let server = Server::start(hello).await;
    let client = dial(server.addr).await;
    let mut claimed = client.clone();
    claimed.ready().await.unwrap();
    server.close_connections().await;
    let response = claimed
        .call(request("/"))
        .await
        .expect("sent on another connection");
    assert_eq!(body(response).await, "hello");
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_refusing_instance_fails_the_dial_with_the_cause() {
    let addr = free_addr().await;
    let error = Connector::<Empty<Bytes>>::new()
        .oneshot(Instance::new("a", addr))
        .await
        .unwrap_err();
    let error: &ConnectError = error.source().downcast_ref().unwrap();
    assert_eq!(*error.address(), addr);
    assert!(!error.is_timeout());
    assert_eq!(io_kind(error), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_lost_instance_shows_in_poll_ready() {
    for http2 in [false, true] {
        let server = Server::start(hello).await;
        let client = dial_with(server.addr, http2).await;
        body(get(&client, "/").await).await;
        let addr = server.addr;
        server.kill().await;
        io_turn().await;
        let error = client.clone().ready().await.map(drop).unwrap_err();
        assert!(!error.was_sent());
        assert_eq!(*error.address(), addr);
        // HTTP/1.1 has dialled by then. HTTP/2 leaves that to the balancer.
        let expected = match http2 {
            false => io::ErrorKind::ConnectionRefused,
            true => io::ErrorKind::ConnectionAborted,
        };
        assert_eq!(io_kind(&error), expected);
    }
}

#[tokio::test]
async fn a_request_whose_instance_is_gone_is_unsent() {
    for http2 in [false, true] {
        let server = Server::start(hello).await;
        let client = dial_with(server.addr, http2).await;
        let mut claimed = client.clone();
        claimed.ready().await.unwrap();
        server.kill().await;
        io_turn().await;
        let error = claimed.call(request("/")).await.unwrap_err();
        assert!(!error.was_sent(), "{error:?}");
    }
}

/// The kernel knows before the connection's task does, which waits for this very thread.
#[tokio::test]
async fn a_loss_that_only_the_kernel_knows_of_is_no_endless_search() {
    for http2 in [false, true] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (close, told) = std::sync::mpsc::channel::<()>();
        let server = std::thread::spawn(move || {
            let stream = accept_and_greet(&listener, http2);
            told.recv().unwrap();
            drop(stream);
        });
        let client = dial_with(addr, http2).await;
        close.send(()).unwrap();
        server.join().unwrap();
        let ready = poll_ready_once(&mut client.clone()).await;
        let error = ready.expect("it is told at once").unwrap_err();
        assert_eq!(io_kind(&error), io::ErrorKind::ConnectionAborted);
        let again = poll_ready_once(&mut client.clone()).await;
        match http2 {
            false => assert!(again.is_none(), "it is dialled again"),
            true => assert!(again.unwrap().is_err(), "the balancer dials"),
        }
    }
}

#[tokio::test]
async fn an_instance_that_accepts_and_closes_is_an_error_not_a_loop() {
    let server = Raw::start(|stream| async move {
        drop(stream);
        Ok(())
    })
    .await;
    for http2 in [false, true] {
        let connector = connector(http2);
        let outcome = async {
            let client = connector.oneshot(Instance::new("a", server.addr)).await?;
            let response = client.oneshot(request("/")).await?;
            Ok::<_, rolecall::BoxError>(response)
        };
        outcome.await.map(drop).unwrap_err();
    }
}

#[tokio::test]
async fn an_instance_that_speaks_garbage_is_an_error() {
    for http2 in [false, true] {
        for early in [false, true] {
            let server = Raw::start(move |mut stream| async move {
                if !early {
                    let mut some = [0; 16];
                    stream.read_exact(&mut some).await?;
                }
                stream
                    .write_all(b"SSH-2.0-OpenSSH_9.6 and then some more\r\n\r\n")
                    .await?;
                stream.read_to_end(&mut Vec::new()).await.map(drop)
            })
            .await;
            let outcome = async {
                let client = connector(http2)
                    .oneshot(Instance::new("a", server.addr))
                    .await?;
                let response = client.oneshot(request("/")).await?;
                Ok::<_, rolecall::BoxError>(response)
            };
            outcome.await.map(drop).unwrap_err();
        }
    }
}

#[tokio::test]
async fn half_a_body_is_a_body_error() {
    let server = Raw::start(|mut stream| async move {
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
            .await
    })
    .await;
    let client = dial(server.addr).await;
    let response = get(&client, "/").await;
    response.into_body().collect().await.map(drop).unwrap_err();
}

#[tokio::test]
async fn an_answer_that_never_comes_was_sent() {
    let server = Raw::start(|mut stream| async move {
        read_head(&mut stream).await;
        Ok(())
    })
    .await;
    let client = dial(server.addr).await;
    let error = client.oneshot(request("/")).await.unwrap_err();
    assert!(error.was_sent());
    let boxed: rolecall::BoxError = Box::new(io::Error::other(error));
    assert!(
        CallError::find(&*boxed).is_none(),
        "io::Error hides its inner error from source()"
    );
}

#[tokio::test]
async fn a_request_whose_own_body_fails_is_the_callers_failure() {
    type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;
    for http2 in [false, true] {
        let server = Server::start(|request: Request<Incoming>| async {
            drop(request.into_body().collect().await);
            Response::new(Full::default())
        })
        .await;
        let list = List::from_addrs([server.addr]).unwrap();
        let connector = Connector::<Body>::new();
        let connector = if http2 { connector.http2() } else { connector };
        let client = BalanceLayer::new(list, "worker:http")
            .unwrap()
            .classify(http::HttpClassifier::new())
            .layer(connector);
        let frames = [
            Ok(hyper::body::Frame::data(Bytes::from_static(b"half"))),
            Err(io::Error::other("the other half is not there")),
        ];
        let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
        let request = Request::post("/").body(body.boxed_unsync()).unwrap();
        let error = within(client.clone().oneshot(request)).await.unwrap_err();
        let call = CallError::find(&error).unwrap();
        assert!(call.was_sent() && call.is_callers(), "{call:?}");
        let member = client.control().status().members.remove(0);
        assert_eq!((member.in_flight, member.failures), (0, 0));
    }
}

#[tokio::test]
async fn a_balancer_dials_a_lost_http2_connection_once_for_all_who_wait() {
    let gate = Gate::new();
    let server = Server::start(gate.handler()).await;
    let client = BalanceLayer::new(List::from_addrs([server.addr]).unwrap(), "worker:http")
        .unwrap()
        .classify(http::HttpClassifier::new())
        .layer(connector(true));
    let get = || tokio::spawn(client.clone().oneshot(request("/")));
    let in_flight = get();
    gate.arrived(1).await;
    server.close_connections().await;
    let error = in_flight.await.unwrap().unwrap_err();
    assert!(error.was_sent(), "it had arrived");

    let calls: Vec<_> = (0..8).map(|_| get()).collect();
    gate.arrived(8).await;
    gate.open(8);
    for call in calls {
        assert_eq!(body(call.await.unwrap().unwrap()).await, "hello");
    }
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn http2_goaway_finishes_what_is_in_flight_and_loses_no_request() {
    let gate = Gate::new();
    let server = Server::start(gate.handler()).await;
    let client = dial_with(server.addr, true).await;
    let in_flight = spawn_get(&client);
    gate.arrived(1).await;
    server.go_away();
    let later = tokio::spawn({
        let (client, accepted) = (client.clone(), server.accepted.clone());
        async move {
            while accepted.load(Ordering::SeqCst) < 2 {
                let call = client.clone().oneshot(request("/"));
                body(call.await.expect("no request fails")).await;
            }
        }
    });
    gate.open(10_000);
    assert_eq!(body(in_flight.await.unwrap().unwrap()).await, "hello");
    within(later).await.unwrap();
}

/// Each caller asks again at once, and so finds out that there is no connection any more before the others' requests fail.
#[tokio::test]
async fn what_was_in_flight_on_a_lost_connection_is_charged_whoever_finds_the_loss_first() {
    for http2 in [false, true] {
        let gate = Gate::new();
        let server = Server::start(gate.handler()).await;
        let config = rolecall::BalanceConfig::builder()
            .unavailable_after(std::time::Duration::from_millis(100));
        let balance = BalanceLayer::new(List::from_addrs([server.addr]).unwrap(), "worker:http")
            .unwrap()
            .config(config.build().unwrap())
            .classify(http::HttpClassifier::new())
            .layer(connector(http2));
        let callers: Vec<_> = (0..5)
            .map(|_| {
                let balance = balance.clone();
                tokio::spawn(async move {
                    let error = balance.clone().oneshot(request("/")).await.unwrap_err();
                    balance.oneshot(request("/")).await.unwrap_err();
                    error.was_sent()
                })
            })
            .collect();
        gate.arrived(5).await;
        server.kill().await;
        for caller in callers {
            assert!(within(caller).await.unwrap(), "it had arrived");
        }
        let member = balance.control().status().members.remove(0);
        assert_eq!((member.failures, member.in_flight), (5, 0), "{http2}");
    }
}
