//! A server process that answers HTTP/1.1, HTTP/2 and gRPC at once.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::thread;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rolecall::BoxError;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic_prost::ProstCodec;

/// Serves until standard input ends, which it does with the process that started this one.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(addr: SocketAddr) -> Result<(), BoxError> {
    let (running, mut over) = oneshot::channel::<()>();
    thread::spawn(move || {
        let _running = running;
        // Nothing is ever written to it.
        let _ = io::stdin().read_to_end(&mut Vec::new());
    });
    let listener = TcpListener::bind(addr).await?;
    let mut out = io::stdout();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = &mut over => return Ok(()),
        };
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            // A caller that hangs up is no news.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let kind = request.headers().get(CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        let ask = tower::service_fn(async |_: tonic::Request<()>| {
            Ok(tonic::Response::new("done".to_owned()))
        });
        let codec = ProstCodec::<String, ()>::default();
        return Ok(tonic::server::Grpc::new(codec).unary(ask, request).await);
    }
    Ok(Response::new(Body::new(Full::new(Bytes::from_static(
        b"done",
    )))))
}
