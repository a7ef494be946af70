//! Servers as they are, behind a guard.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Response, server::conn::http1};
use hyper_util::rt::TokioIo;
use rolecall::guard::{self, Guard};
use rolecall::{Lease, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::support::*;

async fn stage() -> (Guard, TcpListener, SocketAddr, Lease) {
    let registry = Registry::new();
    let lease = register(&registry, "shop", FRIEND).await;
    let guard = Guard::builder(registry, boundary("shop")).build().unwrap();
    in_time(guard.synced()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (guard, listener, addr, lease)
}

/// What comes back of a request; nothing for a stranger.
async fn get(from: std::net::IpAddr, to: SocketAddr) -> String {
    let mut stream = connect(from, to).await;
    let request = b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
    let mut answer = String::new();
    // A stranger's connection may be gone before it is written to.
    let _ = stream.write_all(request).await;
    let _ = in_time(stream.read_to_string(&mut answer)).await;
    answer
}

/// All that axum has to be told of a guard's listener.
struct ForAxum(guard::Listener);

impl axum::serve::Listener for ForAxum {
    type Io = guard::Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        self.0.accept().await
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[tokio::test]
async fn an_axum_server_is_guarded() {
    let (guard, listener, addr, _lease) = stage().await;
    let app = axum::Router::new().route("/", axum::routing::get(async || "hello"));
    let serving = axum::serve(ForAxum(guard.wrap(listener)), app);
    tokio::spawn(serving.into_future());
    assert!(get(FRIEND, addr).await.ends_with("hello"));
    assert_eq!(get(STRANGER, addr).await, "");
}

#[tokio::test]
async fn a_hyper_server_is_guarded() {
    let (guard, listener, addr, _lease) = stage().await;
    let mut listener = guard.wrap(listener);
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await;
            let hello = service_fn(|_| async {
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
            });
            let io = TokioIo::new(connection);
            tokio::spawn(http1::Builder::new().serve_connection(io, hello));
        }
    });
    assert!(get(FRIEND, addr).await.ends_with("hello"));
    assert_eq!(get(STRANGER, addr).await, "");
}
