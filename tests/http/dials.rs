//! What a dial expects of a server, and what its error says if that is not so.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use rolecall::http::{ConnectError, ConnectErrorKind, TcpOptions};
use rolecall::{DialError, Instance};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::{Layer, ServiceExt};

use crate::support::{
    Raw, Server, balanced, body, connector, get, hello, io_kind, member, refusing, request, until,
    within,
};

async fn failed_dial(addr: SocketAddr, http2: bool) -> DialError {
    let dial = connector(http2).oneshot(Instance::new("a", addr));
    within(dial).await.unwrap_err()
}

fn cause(error: &DialError) -> &ConnectError {
    error.source().downcast_ref().unwrap()
}

#[tokio::test]
async fn http2_settings_may_come_byte_by_byte() {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let server = Raw::start(|mut stream| async move {
        stream.set_nodelay(true)?;
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await?;
        for byte in SETTINGS {
            stream.write_all(&[byte]).await?;
            // Each is a read of its own.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        pending().await
    })
    .await;
    let dial = connector(true).oneshot(Instance::new("a", server.addr));
    within(dial).await.unwrap();
}

#[tokio::test]
async fn http2_to_a_server_of_http1_is_called_that() {
    let answers = Raw::start(|mut stream| async move {
        stream.read_u8().await?;
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await?;
        pending().await
    })
    .await;
    let error = failed_dial(answers.addr, true).await;
    assert_eq!(cause(&error).kind(), ConnectErrorKind::Protocol);
    assert_eq!(
        error.to_string(),
        format!(
            "server speaks HTTP/1.1: expected HTTP/2, but {} speaks HTTP/1.1",
            answers.addr
        )
    );

    let closes = Raw::start(|mut stream| async move {
        let mut preface = [0; 4096];
        let _ = stream.read(&mut preface).await?;
        io::Result::Ok(())
    })
    .await;
    let error = failed_dial(closes.addr, true).await;
    assert_eq!(cause(&error).kind(), ConnectErrorKind::Protocol);
    assert!(
        error.to_string().contains("expected HTTP/2, but"),
        "{error}"
    );
    assert!(
        error.to_string().contains("as a server of HTTP/1.1 does"),
        "{error}"
    );
}

/// A server of HTTP/2 with prior knowledge, and of nothing else.
async fn http2_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let service = hyper::service::service_fn(|request| async {
                Ok::<_, std::convert::Infallible>(hello(request).await)
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    (addr, accepted)
}

#[tokio::test]
async fn a_loopback_address_reaches_no_other_host_and_the_error_says_so() {
    // Of a documentation network (RFC 5737). The system refuses the connect: no packet is sent.
    let other: SocketAddr = "192.0.2.1:80".parse().unwrap();
    let loopback = std::net::IpAddr::from([127, 0, 0, 1]);
    let connector = connector(false).tcp(TcpOptions::new().local_address(loopback));
    let dial = connector.oneshot(Instance::new("a", other));
    let error = within(dial).await.unwrap_err();
    assert_eq!(cause(&error).kind(), ConnectErrorKind::Setup);
    assert_eq!(io_kind(cause(&error)), io::ErrorKind::InvalidInput);
    assert!(
        error.to_string().starts_with(
            "dialled from loopback: cannot connect to 192.0.2.1:80 from 127.0.0.1: \
             a loopback address reaches only this host: "
        ),
        "{error}"
    );
}

#[tokio::test]
async fn alternates_are_dialled_and_all_failures_are_told() {
    let server = Server::start(hello).await;
    let refusing = [refusing(), refusing()];
    let dead = refusing.each_ref().map(|(_, addr)| *addr);
    for http2 in [false, true] {
        let instance = Instance::new("a", dead[0]).with_alternates([server.addr]);
        let client = within(connector(http2).oneshot(instance)).await.unwrap();
        assert_eq!(body(get(&client, "/").await).await, "hello");

        let instance = Instance::new("a", dead[0]).with_alternates([dead[1]]);
        let error = within(connector(http2).oneshot(instance)).await;
        let error = error.unwrap_err();
        assert_eq!(error.label(), "refused (111)");
        for addr in dead {
            assert!(error.to_string().contains(&addr.to_string()), "{error}");
        }
    }
}

#[tokio::test]
async fn the_causes_of_a_failed_dial_are_told() {
    let (_refusing, addr) = refusing();
    let error = failed_dial(addr, false).await;
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("refused (111): cannot connect to {addr}: ")),
        "{text}"
    );
    assert!(text.contains("Connection refused"), "{text}");
    let client = balanced([addr]);
    until(|| !client.control().status().members.is_empty()).await;
    until(|| member(&client).error.is_some()).await;
    assert_eq!(member(&client).error.unwrap(), text);
}

#[tokio::test]
async fn a_client_serves_in_another_runtime_when_its_own_has_ended() {
    let server = Server::start(hello).await;
    for http2 in [false, true] {
        let list = rolecall::List::from_addrs([server.addr]).unwrap();
        let layer = rolecall::BalanceLayer::new(list, "worker:http").unwrap();
        let layer = layer.classify(rolecall::http::HttpClassifier::new());
        let in_another_runtime = move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            { runtime }.enable_all().build().unwrap().block_on(async {
                let client = layer.layer(connector(http2));
                body(client.clone().oneshot(request("/")).await.unwrap()).await;
                client
            })
        };
        let client = tokio::task::spawn_blocking(in_another_runtime).await;
        let client = client.unwrap();
        let response = client.oneshot(request("/")).await;
        assert_eq!(body(response.unwrap()).await, "hello");
    }
}

#[tokio::test]
async fn http1_to_a_server_of_http2_is_dialled_with_backoff() {
    let (addr, accepted) = http2_server().await;
    let client = balanced([addr]);
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        let call = client.clone().oneshot(request("/"));
        let answer = tokio::time::timeout(Duration::from_millis(10), call).await;
        assert!(!matches!(answer, Ok(Ok(_))), "{answer:?}");
    }
    let dials = accepted.load(Ordering::SeqCst);
    assert!(dials <= 20, "{dials} dials in a second");
}
