//! What HTTP runs over besides TCP.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rolecall::http::{Body, Client, Connector};
use rolecall::{Address, BalanceConfig, Instance, List};
use tokio::net::{TcpStream, UnixListener};
use tower::{ServiceExt, service_fn as transport_fn};

use crate::support::{Server, body, connector, get, hello, until, within};

/// A path of this process alone, whose file is removed at the end.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new(name: &str) -> Self {
        let file = format!("rolecall-{}-{name}.sock", std::process::id());
        Self(std::env::temp_dir().join(file))
    }

    fn address(&self) -> Address {
        Address::unix(&self.0).unwrap()
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Answers with version, authority and `Host` of the request.
async fn host_of(request: Request<Incoming>) -> Response<Full<bytes::Bytes>> {
    let host = request.headers().get(HOST).cloned();
    let host = host.map(|host| host.to_str().unwrap().to_owned());
    let authority = request.uri().authority().map(ToString::to_string);
    let told = format!("{:?} {}", request.version(), host.or(authority).unwrap());
    Response::new(Full::from(told))
}

fn serve(listener: UnixListener) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        // Their connections end with the server.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let service = service_fn(|request| async {
                    Ok::<_, std::convert::Infallible>(host_of(request).await)
                });
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

#[tokio::test]
async fn an_instance_on_a_unix_socket_is_served_by_either_protocol() {
    let path = SocketPath::new("either");
    let server = serve(UnixListener::bind(&path.0).unwrap());
    let instance = Instance::new("a", path.address());
    for (http2, version) in [(false, "HTTP/1.1"), (true, "HTTP/2.0")] {
        let client = within(connector(http2).oneshot(instance.clone())).await;
        let client = client.unwrap();
        for _ in 0..3 {
            let response = get(&client, "/").await;
            assert_eq!(body(response).await, format!("{version} localhost"));
        }
        let response = get(&client, "http://role:81/").await;
        assert_eq!(body(response).await, format!("{version} role:81"));
    }
    server.abort();
}

#[tokio::test]
async fn a_lost_unix_socket_is_noticed_and_dialled_again() {
    let path = SocketPath::new("lost");
    let server = serve(UnixListener::bind(&path.0).unwrap());
    let list = List::new([Instance::new("a", path.address())]).unwrap();
    let config = BalanceConfig::builder().unavailable_after(std::time::Duration::from_secs(9));
    let client = Client::builder(list, "worker:http")
        .config(config.build().unwrap())
        .build()
        .unwrap();
    let ask = async || {
        let response = client.request(Request::new(Body::empty())).await.unwrap();
        body(response).await
    };
    assert_eq!(within(ask()).await, "HTTP/1.1 localhost");
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    until(|| client.control().status().members[0].in_flight == 0).await;
    std::fs::remove_file(&path.0).unwrap();
    let again = serve(UnixListener::bind(&path.0).unwrap());
    // No request fails: the loss is seen before one is sent.
    assert_eq!(within(ask()).await, "HTTP/1.1 localhost");
    again.abort();
}

#[tokio::test]
async fn a_missing_unix_socket_fails_the_dial_and_the_alternate_serves() {
    let server = Server::start(hello).await;
    let path = SocketPath::new("missing");
    let instance = Instance::new("a", path.address());
    let error = within(connector(false).oneshot(instance.clone())).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains(&path.address().to_string()), "{error}");
    assert!(error.contains("No such file"), "{error}");
    let instance = instance.with_alternates([server.addr]);
    let client = within(connector(false).oneshot(instance)).await.unwrap();
    assert_eq!(body(get(&client, "/").await).await, "hello");
}

#[tokio::test]
async fn a_transport_of_the_program_is_below_http() {
    let server = Server::start(hello).await;
    let dials = Arc::new(AtomicUsize::new(0));
    for http2 in [false, true] {
        let (count, addr) = (Arc::clone(&dials), server.addr);
        let transport = transport_fn(move |address: Address| {
            count.fetch_add(1, Ordering::SeqCst);
            async move {
                assert_eq!(address.to_string(), "10.1.2.3:80");
                // A pipe between, so that it is no socket that HTTP gets.
                let mut far = TcpStream::connect(addr).await?;
                let (near, mut pipe) = tokio::io::duplex(1 << 16);
                tokio::spawn(
                    async move { tokio::io::copy_bidirectional(&mut far, &mut pipe).await },
                );
                io::Result::Ok(near)
            }
        });
        let connector = connector(http2).with_transport(transport);
        let instance = Instance::new("a", ([10, 1, 2, 3], 80));
        let client = within(connector.oneshot(instance)).await.unwrap();
        for _ in 0..5 {
            assert_eq!(body(get(&client, "/").await).await, "hello");
        }
    }
    assert_eq!(dials.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_error_of_a_transport_is_that_of_the_dial() {
    let refuses =
        transport_fn(|_: Address| async { Err::<TcpStream, _>("the proxy says no".to_owned()) });
    let refuses = refuses.map_err(rolecall::BoxError::from);
    let connector = Connector::<Body>::new().with_transport(refuses);
    let instance = Instance::new("a", ([10, 1, 2, 3], 80));
    let error = within(connector.oneshot(instance)).await.unwrap_err();
    assert!(error.to_string().contains("10.1.2.3:80"), "{error}");
    assert!(error.to_string().contains("the proxy says no"), "{error}");
}
