//! Servers as they are, behind a guard.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Response, server::conn::http1};
use hyper_util::rt::TokioIo;
use rolecall::guard::{Guard, Peer};
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

#[tokio::test]
async fn an_axum_server_is_guarded() {
    let (guard, listener, addr, _lease) = stage().await;
    let hello =
        async |ConnectInfo(peer): ConnectInfo<Peer>| format!("hello {}", peer.ip().unwrap());
    let app = axum::Router::new().route("/", axum::routing::get(hello));
    let app = app.into_make_service_with_connect_info::<Peer>();
    let serving = axum::serve(guard.wrap(listener), app);
    tokio::spawn(serving.into_future());
    assert!(get(FRIEND, addr).await.ends_with("hello 127.0.0.8"));
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

#[tokio::test]
async fn a_tonic_server_is_guarded() {
    let (guard, listener, addr, _lease) = stage().await;
    let (_reporter, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder().add_service(health);
    tokio::spawn(server.serve_with_incoming(guard.wrap(listener)));
    let checked = async |from| {
        let dial = tower::service_fn(move |_| async move {
            Ok::<_, std::io::Error>(TokioIo::new(connect(from, addr).await))
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://guarded");
        let channel = endpoint.connect_with_connector(dial).await?;
        let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
        let request = tonic_health::pb::HealthCheckRequest::default();
        client.check(request).await.map_err(Box::new)?;
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    in_time(checked(FRIEND)).await.unwrap();
    assert!(in_time(checked(STRANGER)).await.is_err());
}
