//! A server process: answers HTTP/1.1 and gRPC with its own number, and misbehaves when it is told to.
//!
//! It takes its orders line by line from standard input, says `done` to each, and ends with it: whatever becomes of the
//! process that started it, no server is left behind.

use std::convert::Infallible;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rolecall::BoxError;
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::spawn_blocking;
use tonic::Status;
use tonic::body::Body;
use tonic_prost::ProstCodec;

use crate::chance::exponential;
use crate::process::Order;

/// How long a request takes in the mean; exponentially distributed.
pub(crate) const SERVICE_TIME: Duration = Duration::from_millis(2);
/// How many times slower a slow server is.
pub(crate) const SLOWER: u32 = 10;

struct State {
    number: u8,
    fails: AtomicBool,
    slow: AtomicBool,
    chance: Mutex<SmallRng>,
}

/// Serves `addr` until standard input ends.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(number: u8, addr: SocketAddr) -> Result<(), BoxError> {
    // Only this reaches a stopped process whose parent was killed.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let state = Arc::new(State {
        number,
        fails: AtomicBool::new(false),
        slow: AtomicBool::new(false),
        chance: Mutex::new(SmallRng::seed_from_u64(u64::from(number))),
    });
    let mut orders = orders();
    let listener = TcpListener::bind(addr).await?;
    say(listener.local_addr()?)?;
    serve(listener, addr, &state, &mut orders).await
}

fn orders() -> UnboundedReceiver<Order> {
    let (orders, taken) = mpsc::unbounded_channel();
    thread::spawn(move || {
        let lines = io::stdin().lock().lines().map_while(Result::ok);
        for order in lines.filter_map(|line| Order::parse(&line)) {
            if orders.send(order).is_err() {
                return;
            }
        }
    });
    taken
}

fn say(what: impl std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{what}")?;
    out.flush()
}

async fn serve(
    listener: TcpListener,
    addr: SocketAddr,
    state: &Arc<State>,
    orders: &mut UnboundedReceiver<Order>,
) -> Result<(), BoxError> {
    let addr = if addr.port() == 0 {
        listener.local_addr()?
    } else {
        addr
    };
    let mut listener = Some(listener);
    let mut open = GracefulShutdown::new();
    loop {
        tokio::select! {
            accepted = accept(listener.as_ref()) => connection(accepted?, state, &open),
            order = orders.recv() => {
                match order {
                    None => return Ok(()),
                    Some(Order::Fail) => state.fails.store(true, Relaxed),
                    Some(Order::BeSlow) => state.slow.store(true, Relaxed),
                    Some(Order::Refuse) => {
                        listener = None;
                        // Each ends after the request that it serves; the order is done when the last has.
                        std::mem::take(&mut open).shutdown().await;
                    }
                    Some(Order::BeWell) => {
                        state.fails.store(false, Relaxed);
                        state.slow.store(false, Relaxed);
                        if listener.is_none() {
                            listener = Some(TcpListener::bind(addr).await?);
                        }
                    }
                }
                say("done")?;
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

fn connection(stream: TcpStream, state: &Arc<State>, open: &GracefulShutdown) {
    // Only a lost peer makes this fail, and then the connection fails too.
    let _ = stream.set_nodelay(true);
    let state = Arc::clone(state);
    let service = service_fn(move |request| answer(request, Arc::clone(&state)));
    let connection = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .into_owned();
    let connection = open.watch(connection);
    tokio::spawn(async move {
        // A caller that hangs up is no news.
        let _ = connection.await;
    });
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Body>, Infallible> {
    let is_grpc = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc && request.uri().path().ends_with("/Stream") {
        let ask = tower::service_fn(move |_: tonic::Request<()>| {
            let state = Arc::clone(&state);
            async move {
                // The head at once, the answer when it is there.
                let answer = stream::once(async move {
                    let number = work(&state).await;
                    number.ok_or_else(|| Status::unavailable("told to fail"))
                });
                Ok::<_, Status>(tonic::Response::new(Box::pin(answer)))
            }
        });
        let codec = ProstCodec::<String, ()>::default();
        let mut grpc = tonic::server::Grpc::new(codec);
        return Ok(grpc.server_streaming(ask, request).await);
    }
    if is_grpc {
        let ask = tower::service_fn(move |_: tonic::Request<()>| {
            let state = Arc::clone(&state);
            async move {
                match work(&state).await {
                    Some(number) => Ok(tonic::Response::new(number)),
                    None => Err(Status::unavailable("told to fail")),
                }
            }
        });
        let codec = ProstCodec::<String, ()>::default();
        return Ok(tonic::server::Grpc::new(codec).unary(ask, request).await);
    }
    let number = work(&state).await;
    let mut response = Response::new(Body::new(Full::new(Bytes::from(
        number.clone().unwrap_or_default(),
    ))));
    if number.is_none() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

/// Takes the time of a request, and gives the server's number, or nothing from one that fails: that is at once.
async fn work(state: &State) -> Option<String> {
    if state.fails.load(Relaxed) {
        return None;
    }
    let mean = if state.slow.load(Relaxed) {
        SERVICE_TIME * SLOWER
    } else {
        SERVICE_TIME
    };
    let time = {
        let mut chance = state.chance.lock().unwrap_or_else(PoisonError::into_inner);
        exponential(&mut *chance, mean)
    };
    // A thread's sleep is exact to a twentieth of a millisecond; tokio's timer rounds up to the next whole one.
    let slept = spawn_blocking(move || thread::sleep(time)).await;
    slept.ok().map(|()| state.number.to_string())
}
