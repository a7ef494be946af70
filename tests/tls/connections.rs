//! Connections that are used again, and those that end.

use std::pin::pin;
use std::sync::{Arc, mpsc};

use http_body_util::BodyExt;
use hyper::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::unbounded_channel;
use tower::ServiceExt;

use crate::support::{
    Authority, NAME, Server, body, connector, dial, get, io_kind, request, serve, within,
};

#[tokio::test]
async fn one_connection_serves_one_request_after_the_other() {
    let authority = Authority::new();
    for (http2, scheme) in [(false, "no scheme"), (true, "https")] {
        let server = Server::http(authority.server(NAME)).await;
        let connector = connector(http2).tls(authority.tls());
        let client = dial(connector, server.addr).await.unwrap();
        for _ in 0..20 {
            assert_eq!(body(get(&client).await.unwrap()).await, scheme);
        }
        assert_eq!(server.accepted(), 1);
    }
}

/// A server of TLS 1.3 sends them after the handshake, when nobody waits for anything.
#[tokio::test]
async fn unread_session_tickets_are_no_sign_of_a_lost_connection() {
    let authority = Authority::new();
    let config = authority.server(NAME);
    let (sent, tickets) = mpsc::channel();
    let servers = own_runtime();
    let starting = servers.spawn(Server::start(config, move |stream| {
        sent.send(()).unwrap();
        serve(stream)
    }));
    let server = starting.await.unwrap();
    let client = dial(connector(false).tls(authority.tls()), server.addr).await;
    let client = client.unwrap();
    tickets.recv().unwrap();
    assert_eq!(body(get(&client).await.unwrap()).await, "no scheme");
    assert_eq!(server.accepted(), 1);
    drop(server);
    servers.shutdown_background();
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_no_request() {
    let authority = Authority::new();
    for (is_old, says_so) in [(false, false), (false, true), (true, false), (true, true)] {
        let config = if is_old {
            authority.old_server(NAME)
        } else {
            authority.server(NAME)
        };
        let (closed, mut closings) = unbounded_channel();
        let server = Server::start(config, move |mut stream| {
            let closed = closed.clone();
            async move {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
                stream.write_all(answer).await.unwrap();
                stream.flush().await.unwrap();
                if says_so {
                    stream.shutdown().await.unwrap();
                }
                drop(stream);
                closed.send(()).unwrap();
            }
        })
        .await;
        let connector = connector(false).tls(authority.tls());
        let client = dial(connector, server.addr).await.unwrap();
        for _ in 0..20 {
            assert_eq!(body(get(&client).await.unwrap()).await, "hello");
            within(closings.recv()).await.unwrap();
        }
        assert_eq!(server.accepted(), 20);
    }
}

/// A body that lasts until the connection ends may have been cut by anybody, unless the server says that it ends.
#[tokio::test]
async fn a_body_that_was_cut_is_not_taken_for_a_whole_one() {
    let authority = Authority::new();
    for says_so in [false, true] {
        let server = Server::start(authority.server(NAME), move |mut stream| async move {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let answer = b"HTTP/1.1 200 OK\r\n\r\npart";
            stream.write_all(answer).await.unwrap();
            stream.flush().await.unwrap();
            if says_so {
                stream.shutdown().await.unwrap();
            }
        })
        .await;
        let connector = connector(false).tls(authority.tls());
        let client = dial(connector, server.addr).await.unwrap();
        let response = get(&client).await.unwrap();
        match within(response.into_body().collect()).await {
            Ok(body) => assert!(says_so, "{:?}", body.to_bytes()),
            Err(error) => {
                assert!(!says_so, "{error:?}");
                assert_eq!(io_kind(&error), std::io::ErrorKind::UnexpectedEof);
            }
        }
    }
}

/// A server runs there while the client does not.
fn own_runtime() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().unwrap()
}

/// A response is read by a look at the connection, and no event of the kernel will tell of it.
#[tokio::test]
async fn what_a_look_reads_is_told_to_the_connection() {
    let authority = Authority::new();
    let config = authority.server(NAME);
    let (arrived, mut arrivals) = unbounded_channel();
    let (sent, answers) = mpsc::channel();
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let servers = own_runtime();
    let starting = servers.spawn(Server::start(config, move |stream| {
        let (arrived, sent, opened) = (arrived.clone(), sent.clone(), opened.clone());
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
            arrived.send(()).unwrap();
            opened.acquire().await.unwrap().forget();
            respond.send_response(Response::new(()), true).unwrap();
            // Writes it.
            assert!(futures::poll!(pin!(connection.accept())).is_pending());
            sent.send(()).unwrap();
            while connection.accept().await.is_some() {}
        }
    }));
    let server = starting.await.unwrap();
    let client = dial(connector(true).tls(authority.tls()), server.addr).await;
    let mut client = client.unwrap();
    let call = tokio::spawn(client.clone().oneshot(request()));
    within(arrivals.recv()).await.unwrap();
    gate.add_permits(1);
    answers.recv().unwrap();
    assert!(futures::poll!(client.ready()).is_ready());
    within(call).await.unwrap().unwrap();
    drop(server);
    servers.shutdown_background();
}

/// Each request has a look at the connection that others read.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn looks_at_a_shared_connection_take_nothing_from_its_readers() {
    let authority = Authority::new();
    let server = Server::http(authority.server(NAME)).await;
    let connector = connector(true).tls(authority.tls());
    let client = dial(connector, server.addr).await.unwrap();
    let callers = (0..32).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                let response = within(client.clone().oneshot(request())).await.unwrap();
                assert_eq!(body(response).await, "https");
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert_eq!(server.accepted(), 1);
}
