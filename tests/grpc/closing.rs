//! Servers that end connections, or refuse calls, now and then: no call fails of which nothing was acted on. Nobody here
//! uses `retry`.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rolecall::Registry;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

use crate::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS};
use crate::server::{Order, Server};
use crate::support::{channel, client, register, until, within};

/// Calls that each connection takes.
const TAKES: usize = 10;
const CALLERS: usize = 8;
const CALLS: usize = 20;

/// All callers at once, each call after the other, a unary one and a stream in turn, to this server and to one that stays;
/// none may fail.
async fn no_call_fails(server: &Server) {
    let staying = Server::tonic();
    let channel = channel([server, &staying]);
    until(|| channel.control().status().usable == 2).await;
    let callers = (0..CALLERS).map(|_| async {
        let mut client = client(&channel);
        for _ in 0..CALLS {
            let unary = within(client.unary(Order::messages(1))).await;
            unary.expect("no call fails");
            let orders = stream::iter([Order::messages(2); 3]);
            let stream = within(client.client_stream(orders)).await;
            stream.expect("no stream fails");
        }
    });
    futures::future::join_all(callers).await;
    for member in channel.control().status().members {
        assert_eq!((member.in_flight, member.failures), (0, 0));
    }
    assert!(
        staying.arrived() < CALLERS * CALLS * 2,
        "the other was asked too"
    );
}

/// The status for a call that came with this body: `Ok` if that is all of one of the two above.
fn status(body: &[u8]) -> &'static str {
    let message = |messages| [0, 0, 0, 0, 2, 8, messages];
    let is_whole = body == message(1) || body == message(2).repeat(3);
    if is_whole { "0" } else { "13" }
}

/// A message of one `Answer`.
const ANSWER: [u8; 7] = [0, 0, 0, 0, 2, 8, 1];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_goaway_after_every_tenth_call_fails_none() {
    let server = Server::connections(|stream| async move {
        let served = AtomicUsize::new(0);
        let (full, is_full) = oneshot::channel::<()>();
        let full = Mutex::new(Some(full));
        let service = service_fn(move |request| {
            if served.fetch_add(1, SeqCst) + 1 == TAKES {
                drop(full.lock().unwrap().take());
            }
            answer(request)
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let mut serving = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            ended = serving.as_mut() => return ended.map_err(io::Error::other),
            _ = is_full => serving.as_mut().graceful_shutdown(),
        }
        serving.await.map_err(io::Error::other)
    });
    no_call_fails(&server).await;
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status(&body).parse().unwrap());
    let frames = [
        Frame::data(Bytes::from_static(&ANSWER)),
        Frame::trailers(trailers),
    ];
    let mut response = Response::new(StreamBody::new(stream::iter(frames.map(Ok))));
    let content = "application/grpc".parse().unwrap();
    response.headers_mut().insert("content-type", content);
    Ok(response)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abrupt_goaway_after_every_tenth_call_fails_none() {
    let server = Server::connections(|stream| async move {
        let mut frames = Frames::accept(stream).await?;
        let mut served = 0;
        let mut last = u32::MAX;
        while let Some((stream, body)) = frames.request().await? {
            if stream > last {
                continue;
            }
            served += 1;
            if served == TAKES {
                frames.go_away(stream).await?;
                last = stream;
            }
            write_answer(&mut frames, stream, &body).await?;
        }
        Ok(())
    });
    no_call_fails(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_refused_now_and_then_fail_not() {
    let server = Server::connections(|stream: TcpStream| async move {
        let mut frames = Frames::accept(stream).await?;
        let mut asked = 0;
        while let Some((stream, body)) = frames.request().await? {
            asked += 1;
            match asked % 10 {
                0 => frames.refuse(stream).await?,
                _ => write_answer(&mut frames, stream, &body).await?,
            }
        }
        Ok(())
    });
    no_call_fails(&server).await;
}

async fn write_answer(frames: &mut Frames, stream: u32, body: &[u8]) -> io::Result<()> {
    // `:status: 200`, by the static table of HPACK.
    let head = [&[0x88], &*field("content-type", "application/grpc")].concat();
    frames.write(HEADERS, END_HEADERS, stream, &head).await?;
    frames.write(DATA, 0, stream, &ANSWER).await?;
    let trailers = field("grpc-status", status(body));
    let flags = END_HEADERS | END_STREAM;
    frames.write(HEADERS, flags, stream, &trailers).await
}

/// A field by HPACK, of no table.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [&[0], &*text(name), &*text(value)].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_an_instance_did_not_act_on_before_it_left_goes_to_another() {
    let (connections, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (leave, arrived) = (Arc::new(Semaphore::new(0)), held.clone());
    let may_leave = leave.clone();
    let leaving = Server::connections(move |stream| {
        let is_first = connections.fetch_add(1, SeqCst) == 0;
        let (held, leave) = (held.clone(), may_leave.clone());
        async move {
            if !is_first {
                return Ok(());
            }
            let mut frames = Frames::accept(stream).await?;
            frames.request().await?;
            held.add_permits(1);
            leave.acquire().await.unwrap().forget();
            frames.go_away(0).await?;
            while frames.request().await?.is_some() {}
            Ok(())
        }
    });
    let registry = Registry::new();
    let _lease = register(&registry, "a", &leaving).await;
    let channel = rolecall::grpc::Channel::new(registry.clone(), "worker:grpc").unwrap();
    let mut caller = client(&channel);
    let call = tokio::spawn(async move { caller.unary(Order::messages(3)).await });
    within(arrived.acquire()).await.unwrap().forget();
    let staying = Server::tonic();
    let _lease = register(&registry, "b", &staying).await;
    until(|| channel.control().status().usable == 2).await;
    leave.add_permits(1);
    let answer = within(call).await.unwrap().unwrap();
    assert_eq!(rolecall::grpc::answered_by(&answer).unwrap(), "b");
    assert_eq!(answer.into_inner().number, 3, "the whole message");
    for member in channel.control().status().members {
        assert_eq!((member.in_flight, member.failures), (0, 0));
    }
}
