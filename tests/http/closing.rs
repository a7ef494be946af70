//! Instances that close connections now and then, as servers do that limit what one may ask for: no request fails of which
//! nothing was acted on.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rolecall::http::{self, Connector, ResendLayer};
use rolecall::{BalanceLayer, List};
use tokio::io::AsyncWriteExt;
use tower::{ServiceBuilder, ServiceExt};

use crate::frames::{END_HEADERS, END_STREAM, Frames, HEADERS};
use crate::support::{Raw, Server, hello, read_head, until, within};

/// Requests that each connection takes.
const TAKES: usize = 10;
const CALLERS: usize = 8;
const CALLS: usize = 30;

/// All callers at once, each call after the other, to this server and to one that stays; none may fail.
async fn no_call_fails(server: &Raw, http2: bool, body: &'static str) {
    let staying = Server::start(hello).await;
    let list = List::from_addrs([server.addr, staying.addr]).unwrap();
    let connector = Connector::new();
    let connector = if http2 { connector.http2() } else { connector };
    let client = ServiceBuilder::new()
        .layer(ResendLayer::new())
        .layer(
            BalanceLayer::new(list, "worker:http")
                .unwrap()
                .classify(http::HttpClassifier::new()),
        )
        .service(connector);
    let control = client.get_ref().control();
    until(|| control.status().usable == 2).await;
    let calls = || {
        let calls = (0..CALLERS).map(|_| async {
            for _ in 0..CALLS {
                let request = Request::post("/").body(Full::<Bytes>::from(body)).unwrap();
                let response = within(client.clone().oneshot(request)).await;
                let response = response.expect("no request fails");
                assert_eq!(response.status(), 200, "it came with its body");
                let body = response.into_body();
                within(body.collect()).await.expect("no body breaks");
            }
        });
        futures::future::join_all(calls)
    };
    // A graceful server takes what comes until it knows that it was heard. On a busy machine it may seem so slow that the other
    // one has nearly all of the first calls.
    let all = async {
        while server.accepted() < 4 {
            calls().await;
        }
    };
    within(all).await;
    for member in control.status().members {
        assert_eq!((member.in_flight, member.failures), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http1_closed_after_every_tenth_request_fails_none() {
    let server = Raw::start(|mut stream| async move {
        for number in 1..=TAKES {
            read_head(&mut stream).await;
            let last = if number == TAKES {
                "connection: close\r\n"
            } else {
                ""
            };
            let response = format!("HTTP/1.1 200 OK\r\n{last}content-length: 5\r\n\r\nhello");
            stream.write_all(response.as_bytes()).await?;
        }
        Ok(())
    })
    .await;
    no_call_fails(&server, false, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_goaway_after_every_tenth_request_fails_none() {
    for body in ["", "hello"] {
        no_call_fails(&graceful(body).await, true, body).await;
    }
}

async fn graceful(expected: &'static str) -> Raw {
    Raw::start(move |stream| async move {
        let served = Arc::new(AtomicUsize::new(0));
        let (full, is_full) = tokio::sync::oneshot::channel::<()>();
        let full = std::sync::Mutex::new(Some(full));
        let service = service_fn(move |request: Request<Incoming>| {
            if served.fetch_add(1, SeqCst) + 1 == TAKES {
                drop(full.lock().unwrap().take());
            }
            async move {
                let body = request.into_body().collect().await;
                let is_whole = body.is_ok_and(|body| body.to_bytes() == expected);
                let response = Response::builder().status(if is_whole { 200 } else { 400 });
                Ok::<_, Infallible>(
                    response
                        .body(Full::new(Bytes::from_static(b"hello")))
                        .unwrap(),
                )
            }
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let mut serving = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            ended = serving.as_mut() => return ended.map_err(io::Error::other),
            _ = is_full => serving.as_mut().graceful_shutdown(),
        }
        serving.await.map_err(io::Error::other)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abrupt_goaway_after_every_tenth_request_fails_none() {
    for body in ["", "hello"] {
        no_call_fails(&abrupt(body).await, true, body).await;
    }
}

/// Says which was the last request it acts on, and ignores what was on its way meanwhile.
async fn abrupt(expected: &'static str) -> Raw {
    Raw::start(move |stream| async move {
        let mut frames = Frames::accept(stream).await?;
        let mut served = 0;
        let mut last = None;
        while let Some((stream, body)) = frames.request().await? {
            if last.is_some_and(|last| stream > last) {
                continue;
            }
            served += 1;
            if served == TAKES {
                frames.go_away(stream).await?;
                last = Some(stream);
            }
            let is_whole = body == expected.as_bytes();
            // `:status: 200` or `400`, by the static table of HPACK.
            let status = if is_whole { 0x88 } else { 0x8c };
            let flags = END_STREAM | END_HEADERS;
            frames.write(HEADERS, flags, stream, &[status]).await?;
        }
        Ok(())
    })
    .await
}
