//! What a call holds, and until when: a response that ends early, a request that does, an upgrade, a panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rolecall::http::{Body, Connector, HttpClassifier};
use rolecall::{BalanceLayer, List};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tower::{Layer, Service, ServiceExt};

use crate::streaming::{Caller, Count, KINDS, Kind, Streaming, open_body};
use crate::support::{Gate, Raw, body, io_turn, read_head, request, until, within};

/// More than any window takes.
const MUCH: usize = 4 << 20;

async fn ends(caller: Caller, server: &Streaming, bodies: &Count, what: &str) {
    until(|| bodies.get() == 0).await;
    until(|| caller.in_flight() == 0).await;
    drop(caller);
    let closed = tokio::time::timeout(Duration::from_secs(1), until(|| server.sockets() == 0));
    assert!(closed.await.is_ok(), "{what}: a connection is left");
}

#[tokio::test]
async fn a_response_dropped_early_ends_its_request() {
    for kind in KINDS {
        for (path, sent) in [
            ("/duplex", 1),
            ("/duplex-unread", 1),
            ("/duplex-unread", MUCH),
        ] {
            let server = Streaming::start();
            let caller = Caller::new(kind, server.addr);
            let bodies = Count::default();
            let (write, body) = open_body(&bodies);
            write.send(vec![b'x'; sent].into()).unwrap();
            let mut response = within(caller.post(path, body)).await.unwrap();
            within(response.frame()).await.unwrap().unwrap();
            assert_eq!((bodies.get(), caller.in_flight()), (1, 1));
            drop(response);
            until(|| server.reading.get() == 0).await;
            ends(caller, &server, &bodies, &format!("{kind:?} {path} {sent}")).await;
        }
    }
}

#[tokio::test]
async fn a_call_given_up_before_its_response_ends_its_request() {
    for kind in KINDS {
        let server = Streaming::start();
        let caller = Caller::new(kind, server.addr);
        let bodies = Count::default();
        let (_write, body) = open_body(&bodies);
        let call = tokio::spawn(caller.post("/silent", body));
        until(|| server.reading.get() == 1).await;
        call.abort();
        ends(caller, &server, &bodies, &format!("{kind:?}")).await;
    }
}

#[tokio::test]
async fn a_complete_response_ends_its_request() {
    for kind in KINDS {
        for (path, sent) in [("/early", 1), ("/unread", 1), ("/unread", MUCH)] {
            let server = Streaming::start();
            let caller = Caller::new(kind, server.addr);
            let bodies = Count::default();
            let (write, body) = open_body(&bodies);
            write.send(vec![b'x'; sent].into()).unwrap();
            let response = within(caller.post(path, body)).await.unwrap();
            let answer = within(response.into_body().collect()).await.unwrap();
            assert!(answer.to_bytes().ends_with(b"hello"));
            ends(caller, &server, &bodies, &format!("{kind:?} {path} {sent}")).await;
        }
    }
}

#[tokio::test]
async fn an_early_answer_of_a_server_that_keeps_the_connection_closes_it() {
    let closed = Count::default();
    let alive = closed.clone();
    let server = Raw::start(move |mut stream| {
        let alive = alive.one();
        async move {
            read_head(&mut stream).await;
            let answer = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await?;
            let ended = stream.read_to_end(&mut Vec::new()).await;
            drop(alive);
            ended.map(drop)
        }
    })
    .await;
    let caller = Caller::new(Kind::Http1, server.addr);
    let bodies = Count::default();
    for _ in 0..10 {
        let (_write, body) = open_body(&bodies);
        let response = within(caller.post("/", body)).await.unwrap();
        assert_eq!(response.status(), 413);
        until(|| bodies.get() == 0 && closed.get() == 0).await;
    }
    assert_eq!(caller.in_flight(), 0);
}

#[tokio::test]
async fn a_response_read_late_leaves_the_next_request_of_its_connection_alone() {
    let begun = Arc::new(AtomicUsize::new(0));
    let uploaded = begun.clone();
    let server = Raw::start(move |mut stream| {
        let uploaded = uploaded.clone();
        async move {
            read_head(&mut stream).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate";
            stream.write_all(answer).await?;
            read_head(&mut stream).await;
            let (mut seen, mut chunk) = (Vec::new(), [0; 64]);
            while !seen.ends_with(b"0\r\n\r\n") {
                match stream.read(&mut chunk).await? {
                    0 => return Ok(()),
                    read => seen.extend_from_slice(&chunk[..read]),
                }
                uploaded.store(seen.len(), SeqCst);
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await
        }
    })
    .await;
    let caller = Caller::new(Kind::Http1, server.addr);
    let mut first = within(caller.post("/", Body::empty())).await.unwrap();
    let bodies = Count::default();
    let (write, upload) = open_body(&bodies);
    let second = tokio::spawn(caller.post("/", upload));
    write.send(Bytes::from("begun")).unwrap();
    until(|| begun.load(SeqCst) > 0).await;
    let frame = within(first.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "late");
    drop(first);
    io_turn().await;
    drop(write);
    let second = within(second).await.unwrap();
    assert_eq!(second.unwrap().status(), 200);
    assert_eq!(server.accepted(), 1, "one connection served both");
}

#[tokio::test]
async fn an_upgraded_connection_is_in_flight_until_it_is_closed() {
    let server = Streaming::start();
    let caller = Caller::new(Kind::Http1, server.addr);
    for is_used in [true, false] {
        let response = within(caller.post("/upgrade", Body::empty()))
            .await
            .unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(caller.in_flight(), 1);
        if is_used {
            let upgraded = within(hyper::upgrade::on(response)).await.unwrap();
            let mut upgraded = TokioIo::new(upgraded);
            upgraded.write_all(b"more").await.unwrap();
            assert_eq!(caller.in_flight(), 1);
        } else {
            drop(response);
        }
        until(|| caller.in_flight() == 0).await;
    }
    let member = caller.control().status().members.remove(0);
    assert_eq!(member.failures, 0);
}

#[tokio::test]
async fn unread_answers_do_not_stall_other_calls() {
    for kind in [Kind::Http2, Kind::Grpc] {
        let server = Streaming::start();
        let caller = Caller::new(kind, server.addr);
        let mut unread = Vec::new();
        for _ in 0..8 {
            unread.push(within(caller.post("/big", Body::empty())).await.unwrap());
        }
        for _ in 0..20 {
            let response = within(caller.post("/", Body::empty())).await.unwrap();
            within(response.into_body().collect()).await.unwrap();
        }
        for response in unread {
            let read = within(response.into_body().collect()).await;
            if kind == Kind::Http2 {
                assert_eq!(read.unwrap().to_bytes().len(), 16 << 20);
            }
        }
    }
}

#[tokio::test]
async fn a_panic_in_a_request_body_ends_its_call_with_an_error() {
    for kind in KINDS {
        for is_late in [false, true] {
            let server = Streaming::start();
            let caller = Caller::new(kind, server.addr);
            let mut is_first = is_late;
            let body = stream::poll_fn(move |cx| {
                if std::mem::take(&mut is_first) {
                    cx.waker().wake_by_ref();
                    return std::task::Poll::Pending;
                }
                panic!("by the caller's body")
            });
            type Item = Result<Frame<Bytes>, std::convert::Infallible>;
            let body: std::pin::Pin<Box<dyn stream::Stream<Item = Item> + Send>> = Box::pin(body);
            let call = caller.post("/", Body::new(StreamBody::new(body)));
            // A body that panics at once may do so before it is handed over.
            let Ok(answer) = within(tokio::spawn(call)).await else {
                continue;
            };
            assert!(answer.is_err(), "{kind:?} {is_late}");
            let member = caller.control().status().members.remove(0);
            assert_eq!((member.failures, member.in_flight), (0, 0));
            let response = within(caller.post("/", Body::empty())).await.unwrap();
            assert!(response.status().is_success(), "others go on");
        }
    }
}

#[tokio::test]
async fn http2_opens_more_connections_when_streams_run_out_and_waits_at_the_last() {
    let gate = Gate::new();
    let accepted = Arc::new(AtomicUsize::new(0));
    let (handler, count) = (gate.handler(), accepted.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, SeqCst);
            let handler = handler.clone();
            let service = service_fn(move |request| {
                let response = handler(request);
                async move { Ok::<_, std::convert::Infallible>(response.await) }
            });
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let serving = server
                .max_concurrent_streams(2)
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(serving);
        }
    });
    let client = BalanceLayer::new(List::from_addrs([addr]).unwrap(), "worker:http")
        .unwrap()
        .classify(HttpClassifier::new())
        .layer(Connector::new().http2());
    let calls: Vec<_> = (0..12)
        .map(|_| tokio::spawn(client.clone().oneshot(request("/"))))
        .collect();
    gate.arrived(8).await;
    assert_eq!(accepted.load(SeqCst), 4);
    gate.open(12);
    for call in calls {
        let response = within(call).await.unwrap().expect("it waits for a stream");
        assert_eq!(body(response).await, "hello");
    }
    assert_eq!(accepted.load(SeqCst), 4);
    accepting.abort();
}

/// Sends a request for `/late` only when the gate is open, though a connection is claimed for it before.
#[derive(Clone)]
struct Late<S> {
    inner: S,
    claimed: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl<S> Service<Request<Empty<Bytes>>> for Late<S>
where
    S: Service<Request<Empty<Bytes>>, Future: Send> + Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let next = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, next);
        let (claimed, gate) = (self.claimed.clone(), self.gate.clone());
        Box::pin(async move {
            if request.uri().path() == "/late" {
                claimed.fetch_add(1, SeqCst);
                gate.acquire().await.unwrap().forget();
            }
            ready.call(request).await
        })
    }
}

#[tokio::test]
async fn an_http2_connection_that_is_lost_while_another_one_lives_is_no_lost_member() {
    let gate = Gate::new();
    let handler = gate.handler();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, mut accepted) = tokio::sync::mpsc::unbounded_channel();
    let accepting = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let handler = handler.clone();
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let held = (request.uri().path() == "/held").then(|| handler(request));
                async move {
                    Ok::<_, std::convert::Infallible>(match held {
                        Some(response) => response.await,
                        None => Response::new(Full::from("hello")),
                    })
                }
            });
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let serving = server
                .max_concurrent_streams(1)
                .serve_connection(TokioIo::new(stream), service);
            tell.send(tokio::spawn(serving)).unwrap();
        }
    });
    let (claimed, late) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let connector = Connector::new().http2().map_response({
        let (claimed, gate) = (claimed.clone(), late.clone());
        move |inner| Late {
            inner,
            claimed: claimed.clone(),
            gate: gate.clone(),
        }
    });
    let client = BalanceLayer::new(List::from_addrs([addr]).unwrap(), "worker:http")
        .unwrap()
        .classify(HttpClassifier::new())
        .layer(connector);
    let send = |path| tokio::spawn(client.clone().oneshot(request(path)));

    let held = send("/held");
    gate.arrived(1).await;
    let lost = send("/late");
    until(|| claimed.load(SeqCst) == 1).await;
    let first = within(accepted.recv()).await.unwrap();
    let second = within(accepted.recv()).await.unwrap();
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    io_turn().await;
    late.add_permits(1);
    let error = within(lost).await.unwrap().unwrap_err();
    assert!(!error.was_sent(), "{error:?}");
    // The driver would have dialled by then.
    io_turn().await;
    assert!(accepted.is_empty(), "the member was not lost");
    gate.open(1);
    assert_eq!(body(within(held).await.unwrap().unwrap()).await, "hello");
    let response = within(send("/")).await.unwrap().unwrap();
    assert_eq!(body(response).await, "hello");
    assert!(accepted.is_empty() && !first.is_finished());
    assert_eq!(client.control().status().members[0].failures, 0);
    accepting.abort();
}
