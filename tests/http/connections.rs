//! Connections, their loss, and what the caller gets to know.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::{Method, Request, Response, StatusCode, Version};
use rolecall::http::{CallError, Connection, Connector, Host};
use rolecall::{BalanceLayer, Instance, List, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tower::{Layer, Service, ServiceExt};

use crate::support::{
    Client, Gate, Raw, Server, accept_and_greet, balanced, body, connector, dial, dial_with,
    free_addr, get, hello, io_kind, io_turn, member, poll_ready_once, read_head, request,
    spawn_calls_until_after, spawn_get, until, within,
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
async fn a_body_dropped_unread_closes_its_connection_only() {
    let server = Server::start(|_| async { Response::new(Full::from(vec![b'x'; 1 << 20])) }).await;
    let client = dial(server.addr).await;
    drop(get(&client, "/").await);
    until(|| server.open() == 0).await;
    assert_eq!(body(get(&client, "/").await).await.len(), 1 << 20);
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_refusing_instance_fails_the_dial_with_the_cause() {
    let addr = free_addr().await;
    let error = Connector::<Empty<Bytes>>::new()
        .oneshot(Instance::new("a", addr))
        .await
        .unwrap_err();
    assert_eq!(error.addr(), addr);
    assert!(!error.is_timeout());
    assert_eq!(io_kind(&error), io::ErrorKind::ConnectionRefused);
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
        assert_eq!(error.addr(), addr);
        assert_eq!(io_kind(&error), io::ErrorKind::ConnectionRefused);
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
        assert!(again.is_none(), "it is dialled again");
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
            .classify(http::ClassifyStatus::new())
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
        let member = client.status().members.remove(0);
        assert_eq!((member.in_flight, member.failures), (0, 0));
    }
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
async fn http2_opens_a_lost_connection_once_for_all_who_wait() {
    let gate = Gate::new();
    let server = Server::start(gate.handler()).await;
    let client = dial_with(server.addr, true).await;
    let in_flight = spawn_get(&client);
    gate.arrived(1).await;
    server.close_connections().await;
    let error = in_flight.await.unwrap().unwrap_err();
    assert!(error.was_sent(), "it had arrived");

    let calls: Vec<_> = (0..8).map(|_| spawn_get(&client)).collect();
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

#[tokio::test]
async fn a_clone_dropped_with_an_unused_connection_gives_it_back() {
    let server = Server::start(hello).await;
    let client = dial(server.addr).await;
    for _ in 0..3 {
        let mut clone = client.clone();
        clone.ready().await.unwrap();
        drop(clone);
    }
    body(get(&client, "/").await).await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_dial_whose_claim_was_dropped_serves_the_next_one() {
    let server = Server::start(hello).await;
    let client = dial(server.addr).await;
    let mut holder = client.clone();
    holder.ready().await.unwrap();
    let mut waiting = client.clone();
    assert!(futures::poll!(std::pin::pin!(waiting.ready())).is_pending());
    drop(waiting);
    until(|| server.accepted() == 2).await;
    let mut next = client.clone();
    next.ready().await.unwrap();
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn claims_that_come_and_go_share_a_dial_under_way() {
    for http2 in [false, true] {
        let server = Server::start(hello).await;
        let client = dial_with(server.addr, http2).await;
        body(get(&client, "/").await).await;
        server.close_connections().await;
        io_turn().await;
        for _ in 0..10 {
            assert!(poll_ready_once(&mut client.clone()).await.is_none());
        }
        until(|| server.accepted() > 1).await;
        body(get(&client, "/").await).await;
        io_turn().await;
        assert_eq!(server.accepted(), 2);
    }
}

#[tokio::test]
async fn claims_that_wait_together_have_a_dial_each_also_after_others_gave_up() {
    let server = Server::start(hello).await;
    let client = dial(server.addr).await;
    let mut holder = client.clone();
    holder.ready().await.unwrap();
    for _ in 0..10 {
        assert!(poll_ready_once(&mut client.clone()).await.is_none());
    }
    let mut waiting = [(); 3].map(|()| client.clone());
    for client in &mut waiting {
        assert!(poll_ready_once(client).await.is_none());
    }
    for client in &mut waiting {
        within(client.ready()).await.unwrap();
    }
    assert_eq!(server.accepted(), 4);
}

#[tokio::test]
async fn a_failed_dial_whose_claim_was_dropped_is_told_to_the_next_one() {
    for http2 in [false, true] {
        let server = Server::start(hello).await;
        let client = dial_with(server.addr, http2).await;
        body(get(&client, "/").await).await;
        server.kill().await;
        io_turn().await;
        assert!(poll_ready_once(&mut client.clone()).await.is_none());
        io_turn().await;
        let told = poll_ready_once(&mut client.clone()).await;
        let error = told.expect("told at once").unwrap_err();
        assert_eq!(io_kind(&error), io::ErrorKind::ConnectionRefused);
        let again = poll_ready_once(&mut client.clone()).await;
        assert!(again.is_none(), "and only once");
    }
}

#[tokio::test]
async fn a_freed_connection_goes_to_who_waits_longest() {
    let server = Server::start(hello).await;
    let client = dial(server.addr).await;
    let mut holder = client.clone();
    holder.ready().await.unwrap();
    let mut waiting = client.clone();
    assert!(poll_ready_once(&mut waiting).await.is_none());
    drop(holder);
    let ready = poll_ready_once(&mut waiting).await;
    ready
        .expect("served by the freed one, before its own dial")
        .unwrap();
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

#[tokio::test]
async fn the_instance_is_told_whom_the_caller_means() {
    let server = Server::start(|request: Request<Incoming>| async move {
        let host = request
            .headers()
            .get(HOST)
            .map(|host| host.to_str().unwrap());
        Response::new(Full::from(format!("{} {host:?}", request.uri())))
    })
    .await;
    let addr = server.addr;
    let own = |uri: &str| {
        let request = Request::get(uri).header(HOST, "mine");
        request.body(Empty::new()).unwrap()
    };
    let client = dial(addr).await;
    for (request, seen) in [
        (request("/a?b"), format!("/a?b Some(\"{addr}\")")),
        (request("http://role/a?b"), "/a?b Some(\"role\")".into()),
        (
            request("https://me:pw@role:81"),
            "/ Some(\"role:81\")".into(),
        ),
        (own("/a"), "/a Some(\"mine\")".into()),
    ] {
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(body(response).await, *seen);
    }
    let client = dial_with(addr, true).await;
    for (request, seen) in [
        (request("/a?b"), format!("http://{addr}/a?b None")),
        (
            request("https://me:pw@role:81"),
            "https://role:81/ None".into(),
        ),
        (own("/a"), "http://mine/a None".into()),
    ] {
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(body(response).await, *seen);
    }
}

#[tokio::test]
async fn the_host_is_kept_or_rewritten() {
    let server = Server::start(|request: Request<Incoming>| async move {
        let host = request.headers().get(HOST).cloned();
        let host = host.map(|host| host.to_str().unwrap().to_owned());
        let authority = request
            .uri()
            .authority()
            .map(|authority| authority.to_string());
        Response::new(Full::from(host.or(authority).unwrap()))
    })
    .await;
    let instance = Instance::new("a", server.addr);
    for http2 in [false, true] {
        for (host, seen) in [
            (Host::Caller, "mine".to_owned()),
            (Host::Instance, server.addr.to_string()),
            (
                Host::Fixed("role.internal".parse().unwrap()),
                "role.internal".to_owned(),
            ),
        ] {
            let client = connector(http2).host(host).oneshot(instance.clone());
            let request = Request::get("http://other/").header(HOST, "mine");
            let request = request.body(Empty::new()).unwrap();
            let response = client.await.unwrap().oneshot(request).await.unwrap();
            assert_eq!(body(response).await, *seen);
        }
    }
}

#[test]
fn a_connection_can_be_shared_even_if_its_bodies_cannot() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Connection<http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>>>();
}

#[test]
fn a_dial_without_a_runtime_is_an_error() {
    let dial =
        Connector::<Empty<Bytes>>::new().oneshot(Instance::new("a", ([127, 0, 0, 1], 9).into()));
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

#[tokio::test]
async fn a_client_spreads_requests_and_says_who_answered() {
    let servers = [Server::start(hello).await, Server::start(hello).await];
    let client = balanced(servers.iter().map(|server| server.addr));
    client.wait_usable(Duration::from_secs(10)).await.unwrap();
    until(|| client.status().usable == 2).await;
    let mut unread = Vec::new();
    for _ in 0..20 {
        unread.push(within(client.clone().oneshot(request("/"))).await.unwrap());
    }
    let answered_by = unread
        .iter()
        .map(|response| http::answered_by(response).unwrap());
    assert_eq!(
        answered_by.collect::<HashSet<_>>().len(),
        2,
        "unread bodies are load"
    );
    for response in unread {
        assert_eq!(body(response).await, "hello");
    }
    let status = client.status();
    assert!(status.members.iter().all(|member| member.failures == 0));
    assert!(status.members.iter().all(|member| member.in_flight == 0));
}

#[tokio::test]
async fn the_load_is_held_until_the_body_ends() {
    let server = Server::start(hello).await;
    let client = balanced([server.addr]);
    let response = within(client.clone().oneshot(request("/"))).await.unwrap();
    assert_eq!(member(&client).in_flight, 1);
    assert_eq!(body(response).await, "hello");
    assert_eq!(member(&client).in_flight, 0);

    let response = within(client.clone().oneshot(request("/"))).await.unwrap();
    drop(response);
    let member = member(&client);
    assert_eq!((member.in_flight, member.failures), (0, 0), "cancelled");
}

#[tokio::test]
async fn a_server_error_is_a_failure_though_nobody_reads_it() {
    let server = Server::start(|_| async {
        let mut response = Response::new(Full::from("oh"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    })
    .await;
    let client = balanced([server.addr]);
    drop(within(client.clone().oneshot(request("/"))).await.unwrap());
    let member = member(&client);
    assert_eq!((member.in_flight, member.failures), (0, 1));
}

#[tokio::test]
async fn a_body_that_breaks_is_a_failure() {
    let server = Raw::start(|mut stream| async move {
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
            .await
    })
    .await;
    let client = balanced([server.addr]);
    let response = within(client.clone().oneshot(request("/"))).await.unwrap();
    response.into_body().collect().await.map(drop).unwrap_err();
    let member = member(&client);
    assert_eq!((member.in_flight, member.failures), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_instance_fails_no_later_request() {
    for _ in 0..10 {
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(Server::start(hello).await);
        }
        let client = balanced(servers.iter().map(|server| server.addr));
        client.wait_usable(Duration::from_secs(10)).await.unwrap();
        until(|| client.status().usable == 3).await;
        let killed = Arc::new(AtomicBool::new(false));
        let calls: Vec<_> = (0..8)
            .map(|_| spawn_calls_until_after(killed.clone(), client.clone()))
            .collect();
        until(|| {
            client
                .status()
                .members
                .iter()
                .all(|member| member.picks > 10)
        })
        .await;
        servers.swap_remove(0).kill().await;
        killed.store(true, Ordering::SeqCst);
        for call in calls {
            within(call).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_killed_instance_is_known_to_be_lost_though_others_take_its_requests() {
    let servers = [Server::start(hello).await, Server::start(hello).await];
    let client = balanced(servers.iter().map(|server| server.addr));
    until(|| client.status().usable == 2).await;
    let [killed, _other] = servers;
    let id = killed.addr.to_string();
    killed.kill().await;
    let call = async || {
        let response = client.clone().oneshot(request("/")).await.unwrap();
        response.into_body().collect().await.unwrap();
    };
    let picks = || {
        let members = client.status().members;
        let member = members.iter().find(|m| *m.instance.id() == *id).unwrap();
        member.picks
    };
    within(async {
        while client.status().usable == 2 {
            call().await;
        }
    })
    .await;
    let before = picks();
    assert!(before <= 10, "it took {before} picks to learn of it");
    for _ in 0..100 {
        call().await;
    }
    assert_eq!(picks(), before, "no picks until it is connected again");
}

#[tokio::test]
async fn the_last_clone_of_a_client_closes_all_sockets() {
    let server = Server::start(hello).await;
    let client = balanced([server.addr]);
    body(within(client.clone().oneshot(request("/"))).await.unwrap()).await;
    drop(client);
    until(|| server.open() == 0).await;
}
