//! Instances that close connections now and then, as servers do that limit what one may ask for: no request fails of which
//! nothing was acted on.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rolecall::http::{self, CallError, Connector};
use rolecall::{Balance, BalanceLayer, List};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::{Layer, ServiceExt};

use crate::support::{Raw, connector, read_head, request, within};

/// Requests that each connection takes.
const TAKES: usize = 10;
const CALLERS: usize = 8;
const CALLS: usize = 100;

/// All callers at once, each call after the other; none may fail.
async fn no_call_fails(server: &Raw, http2: bool) {
    let client = BalanceLayer::new(List::from_addrs([server.addr]).unwrap(), "worker:http")
        .unwrap()
        .classify(http::ClassifyStatus::new())
        .layer(connector(http2));
    let calls = (0..CALLERS).map(|_| async {
        for _ in 0..CALLS {
            let response = client.clone().oneshot(request("/")).await;
            let body = response.expect("no request fails").into_body();
            body.collect().await.expect("no body breaks");
        }
    });
    within(futures::future::join_all(calls)).await;
    let member = client.status().members.remove(0);
    assert_eq!((member.in_flight, member.failures), (0, 0));
    // A graceful server takes what comes until it knows that it was heard.
    assert!(server.accepted() >= 10, "{}", server.accepted());
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
    no_call_fails(&server, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_goaway_after_every_tenth_request_fails_none() {
    let server = Raw::start(|stream| async move {
        let served = Arc::new(AtomicUsize::new(0));
        let (full, is_full) = tokio::sync::oneshot::channel::<()>();
        let full = std::sync::Mutex::new(Some(full));
        let service = service_fn(move |_| {
            if served.fetch_add(1, SeqCst) + 1 == TAKES {
                drop(full.lock().unwrap().take());
            }
            async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello")))) }
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let mut serving = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            ended = serving.as_mut() => return ended.map_err(io::Error::other),
            _ = is_full => serving.as_mut().graceful_shutdown(),
        }
        serving.await.map_err(io::Error::other)
    })
    .await;
    no_call_fails(&server, true).await;
}

/// Says which was the last request it acts on, and ignores what was on its way meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abrupt_goaway_after_every_tenth_request_fails_none() {
    let server = Raw::start(|stream| async move {
        let mut frames = Frames::accept(stream).await?;
        for number in 1.. {
            let Some(stream_id) = frames.request().await? else {
                break;
            };
            if number == TAKES {
                frames.go_away(stream_id).await?;
            }
            if number <= TAKES {
                frames.answer(stream_id).await?;
            }
        }
        Ok(())
    })
    .await;
    no_call_fails(&server, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_stream_is_asked_again() {
    let server = Raw::start(|stream| async move {
        let mut frames = Frames::accept(stream).await?;
        for number in 1.. {
            let Some(stream_id) = frames.request().await? else {
                break;
            };
            // Not one of eight in a row.
            match number % 3 {
                0 => frames.refuse(stream_id).await?,
                _ => frames.answer(stream_id).await?,
            }
        }
        Ok(())
    })
    .await;
    let client = client(&server);
    for _ in 0..CALLS {
        let response = within(client.clone().oneshot(request("/"))).await;
        response.expect("no request fails");
    }
    assert_eq!(server.accepted(), 1);
}

type Client<B> = Balance<http::Connection<B>, http::ClassifyStatus>;

fn client<B>(server: &Raw) -> Client<B>
where
    B: hyper::body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<rolecall::BoxError>,
{
    BalanceLayer::new(List::from_addrs([server.addr]).unwrap(), "worker:http")
        .unwrap()
        .classify(http::ClassifyStatus::new())
        .layer(Connector::new().http2())
}

/// Acts on no request: says so of each, or goes away.
async fn refusing(goes_away: bool) -> Raw {
    Raw::start(move |stream| async move {
        let mut frames = Frames::accept(stream).await?;
        while let Some(stream_id) = frames.request().await? {
            if goes_away {
                frames.go_away(0).await?;
            } else {
                frames.refuse(stream_id).await?;
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_refused_request_with_a_body_was_not_sent_and_nobody_is_charged() {
    for goes_away in [false, true] {
        let server = refusing(goes_away).await;
        let client = client(&server);
        let request = Request::post("/").body(Full::new(Bytes::from_static(b"body")));
        let answer = within(client.clone().oneshot(request.unwrap())).await;
        let error = answer.unwrap_err();
        assert!(!error.was_sent(), "{error:?}");
        assert!(!CallError::find(&error).unwrap().was_sent());
        assert_eq!(client.status().members[0].failures, 0);
    }
}

#[tokio::test]
async fn an_instance_that_refuses_everything_is_an_error_not_a_loop() {
    for goes_away in [false, true] {
        let server = refusing(goes_away).await;
        let client = client(&server);
        let answer = within(client.clone().oneshot(request("/"))).await;
        assert!(!answer.unwrap_err().was_sent());
        assert!(server.accepted() <= 10, "{} dials", server.accepted());
    }
}

/// The server's end of an HTTP/2 connection, frame by frame.
struct Frames(TcpStream);

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM_AND_HEADERS: u8 = 5;
/// `:status: 200`, by the static table of HPACK.
const OK: [u8; 1] = [0x88];

impl Frames {
    async fn accept(mut stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream
            .read_exact(&mut [0; "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()])
            .await?;
        let mut frames = Self(stream);
        frames.write(SETTINGS, 0, 0, &[]).await?;
        Ok(frames)
    }

    /// The stream of the next request; `None` at the end of the connection.
    async fn request(&mut self) -> io::Result<Option<u32>> {
        loop {
            let mut head = [0; 9];
            if self.0.read_exact(&mut head).await.is_err() {
                return Ok(None);
            }
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.0.read_exact(&mut payload).await?;
            match kind {
                HEADERS => return Ok(Some(u32::from_be_bytes(stream))),
                SETTINGS | PING if flags & ACK == 0 => {
                    let echo = if kind == PING { payload } else { Vec::new() };
                    self.write(kind, ACK, 0, &echo).await?;
                }
                _ => {}
            }
        }
    }

    async fn answer(&mut self, stream: u32) -> io::Result<()> {
        self.write(HEADERS, END_STREAM_AND_HEADERS, stream, &OK)
            .await
    }

    async fn refuse(&mut self, stream: u32) -> io::Result<()> {
        self.write(RST_STREAM, 0, stream, &7_u32.to_be_bytes())
            .await
    }

    /// Acts on no request after `last`.
    async fn go_away(&mut self, last: u32) -> io::Result<()> {
        let payload = [last.to_be_bytes(), 0_u32.to_be_bytes()].concat();
        self.write(GOAWAY, 0, 0, &payload).await
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.write_all(&[&head, payload].concat()).await
    }
}
