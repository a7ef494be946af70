//! A worker wires itself: what it announces, whom it lets in, and how it ends.

#![cfg(feature = "worker")]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;
use std::future::{pending, ready};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Empty, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rolecall::discovery::{
    BoxFuture, BoxStream, Discovery, DiscoveryError, LeaseEdit, LeaseHandle, RegisterError,
    Registrar,
};
use rolecall::guard::Listener;
use rolecall::http;
use rolecall::{
    Availability, Instance, InstanceId, InstanceSet, Lease, Registration, Registry, Target,
    Visibility, Worker, WorkerError,
};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tower::Service;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
const LONG: Duration = Duration::from_secs(30);

fn worker(registry: &Registry, id: &str) -> Worker {
    let registration = Registration::new("worker").id(id).boundary("shop");
    Worker::new(registry.clone(), registration, HERE).unwrap()
}

/// What is announced of an endpoint now.
async fn announced(registry: &Registry, target: &str) -> Vec<Instance> {
    let mut sets = registry.watch(&target.parse().unwrap());
    let set = sets.next().await.unwrap().unwrap();
    set.iter().cloned().collect()
}

async fn serve(mut listener: Listener) {
    loop {
        let (connection, _) = listener.accept().await;
        let hello = service_fn(|_| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
        });
        let io = TokioIo::new(connection);
        tokio::spawn(http1::Builder::new().serve_connection(io, hello));
    }
}

/// A connection from that address.
async fn dial(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn its_clients_know_its_zone() {
    let registry = Registry::new();
    let registration = Registration::new("worker").zone("eu-1a");
    let worker = Worker::new(registry, registration, HERE).unwrap();
    let client: http::Client = worker.client("other:http").unwrap();
    let status = client.control().status();
    assert_eq!(status.zone.unwrap().as_str(), "eu-1a");
    let config = worker
        .config()
        .to_builder()
        .zone_price(3.0)
        .build()
        .unwrap();
    assert_eq!(config.zone().unwrap().as_str(), "eu-1a");
}

#[tokio::test]
async fn what_one_serves_another_of_the_boundary_calls() {
    let registry = Registry::new();
    let server = worker(&registry, "a");
    tokio::spawn(serve(server.listen("http").await.unwrap()));
    let caller = worker(&registry, "b");
    assert_eq!(caller.register().await.unwrap(), *"b");
    server.guard().synced().await;

    let client = caller.client("worker:http");
    let mut client: http::Client<Empty<Bytes>> = client.unwrap();
    let answer = client.call(Request::new(Empty::new())).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "hello");
}

#[tokio::test]
async fn one_calls_from_where_it_listens() {
    let registry = Registry::new();
    let at = |id: &str, last| {
        let registration = Registration::new("worker").id(id).boundary("shop");
        let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
        Worker::new(registry.clone(), registration, ip).unwrap()
    };
    let (server, caller) = (at("a", 2), at("b", 3));
    tokio::spawn(serve(server.listen("http").await.unwrap()));
    caller.register().await.unwrap();
    server.guard().synced().await;
    let client = caller.client("worker:http");
    let mut client: http::Client<Empty<Bytes>> = client.unwrap();
    let answer = client.call(Request::new(Empty::new())).await.unwrap();
    assert!(answer.status().is_success());
    let registry_knows = server.guard().explain(HERE).to_string();
    assert!(registry_knows.starts_with("denied"), "{registry_knows}");
}

#[tokio::test]
async fn a_stranger_is_turned_away() {
    let registry = Registry::new();
    let server = worker(&registry, "a");
    let mut listener = server.listen("http").await.unwrap();
    let addr = listener.local_addr().unwrap().tcp().unwrap();
    server.guard().synced().await;
    let mut stranger = dial(STRANGER, addr).await;
    let mut byte = [0];
    let read = tokio::select! {
        read = stranger.read(&mut byte) => read,
        _ = listener.accept() => unreachable!("a stranger is not handed out"),
    };
    assert_eq!(read.unwrap(), 0, "closed before a byte is read");
}

#[tokio::test]
async fn a_boundary_that_was_granted_access_is_let_in() {
    let registry = Registry::new();
    let granted = Visibility::Granted(vec!["billing".parse().unwrap()]);
    let registration = Registration::new("worker").visibility(granted);
    let server = Worker::new(registry.clone(), registration, HERE).unwrap();
    let registration = Registration::new("cron")
        .boundary("billing")
        .peer_ip(STRANGER);
    let caller = Worker::new(registry.clone(), registration, HERE).unwrap();
    caller.register().await.unwrap();
    server.guard().synced().await;
    assert!(server.guard().admits(STRANGER));
}

#[tokio::test]
async fn endpoints_come_and_go_on_one_registration() {
    let registry = Registry::new();
    let server = worker(&registry, "a");
    let http = server.listen("http").await.unwrap();
    let addr = SocketAddr::new(HERE, 0);
    let admin = server.listen_at("admin", addr).await.unwrap();
    let seen = announced(&registry, "shop/worker:http").await;
    assert_eq!(*seen[0].address(), http.local_addr().unwrap());
    assert_eq!(*seen[0].id(), *"a");
    let seen = announced(&registry, "shop/worker:admin").await;
    assert_eq!(*seen[0].address(), admin.local_addr().unwrap());
    server.close("admin").await.unwrap();
    let seen = announced(&registry, "shop/worker:admin").await;
    assert!(seen.is_empty(), "{seen:?}");
    server.set_availability(Availability::Busy).await.unwrap();
    let seen = announced(&registry, "shop/worker:http").await;
    assert_eq!(seen[0].availability(), Availability::Busy);
    drop(server);
    drop((http, admin));
    let target = "shop/worker:http".parse().unwrap();
    let gone = async {
        let mut sets = registry.watch(&target);
        while sets.next().await.unwrap().is_ok_and(|set| !set.is_empty()) {}
    };
    timeout(LONG, gone)
        .await
        .expect("deregistered with the last clone");
}

#[tokio::test]
async fn bind_and_advertised_address_may_differ() {
    let registry = Registry::new();
    let all = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let registration = Registration::new("worker").boundary("shop");
    let lost = Worker::new(registry.clone(), registration.clone(), all).unwrap();
    let error = lost.listen("http").await.unwrap_err();
    assert!(matches!(error, WorkerError::NoAddress { .. }), "{error}");
    assert!(error.to_string().contains("ROLECALL_ADVERTISE"), "{error}");

    let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
    let found = Worker::new(registry.clone(), registration.peer_ip(ip), all).unwrap();
    let listener = found.listen("http").await.unwrap();
    let port = listener.local_addr().unwrap().port().unwrap();
    let seen = announced(&registry, "shop/worker:http").await;
    assert_eq!(*seen[0].address(), SocketAddr::new(ip, port));
}

#[tokio::test]
async fn errors_say_what_was_refused() {
    let registry = Registry::new();
    let server = worker(&registry, "a");
    let taken = server.listen("http").await.unwrap().local_addr().unwrap();
    let held = std::net::TcpListener::bind(SocketAddr::new(HERE, 0)).unwrap();
    let addr = held.local_addr().unwrap();
    let error = server.listen_at("grpc", addr).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen at {addr}"));
    let error = server.listen("8080").await.unwrap_err();
    assert!(matches!(error, WorkerError::Register(_)), "{error:?}");
    let error = worker(&registry, "a").listen("http").await.unwrap_err();
    assert!(matches!(error, WorkerError::Register(_)), "{error:?}");
    let seen = announced(&registry, "shop/worker:http").await;
    assert_eq!(*seen[0].address(), taken, "what is announced stays");
    let invalid = Registration::new("Worker!");
    assert!(Worker::new(registry, invalid, HERE).is_err());
}

#[tokio::test]
async fn a_drain_waits_for_the_connections_that_are_open() {
    let registry = Registry::new();
    let server = worker(&registry, "a");
    let mut listener = server.listen("http").await.unwrap();
    let addr = listener.local_addr().unwrap().tcp().unwrap();
    server.guard().synced().await;
    let friend = dial(HERE, addr).await;
    let (connection, _) = listener.accept().await;

    let draining = tokio::spawn({
        let server = server.clone();
        async move { server.drain(LONG).await }
    });
    let target = "shop/worker:http".parse().unwrap();
    let mut sets = registry.watch(&target);
    let is_draining = |set: &rolecall::InstanceSet| {
        let mut all = set.iter();
        all.any(|instance| instance.availability() == Availability::Draining)
    };
    while !is_draining(&sets.next().await.unwrap().unwrap()) {}
    assert!(!draining.is_finished(), "a connection is open");
    drop((friend, connection));
    timeout(LONG / 2, draining)
        .await
        .expect("the connection is over")
        .unwrap()
        .unwrap();
    let error = server.listen("http").await.unwrap_err();
    assert!(matches!(error, WorkerError::Drained), "{error}");
    server.drain(LONG).await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let registry = Registry::new();
    let server = worker(&registry, "a");
    let mut listener = server.listen("http").await.unwrap();
    let addr = listener.local_addr().unwrap().tcp().unwrap();
    server.guard().synced().await;
    let _friend = dial(HERE, addr).await;
    let _open = listener.accept().await;
    let drained = server.drain(Duration::from_millis(50));
    let drained = timeout(LONG, drained).await.expect("in time").unwrap();
    assert_eq!(drained.open, 1, "and says what is not over");
    assert_eq!(server.drain(LONG).await.unwrap().open, 1);
}

/// Takes registrations and does not come back from what it is asked then, or from the registration.
struct Hangs {
    registration: bool,
    dropped: Arc<AtomicBool>,
}

impl Discovery for Hangs {
    fn watch(&self, _: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        futures::stream::pending().boxed()
    }

    fn peers(
        &self,
        _: &rolecall::Boundary,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        futures::stream::pending().boxed()
    }

    fn refresh(&self, _: &Target) {}
}

impl Registrar for Hangs {
    fn register(&self, _: Registration) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        if self.registration {
            return Box::pin(pending());
        }
        let handle = HangingLease("a".into(), Arc::clone(&self.dropped));
        Box::pin(ready(Ok(Lease::new(handle))))
    }
}

struct HangingLease(InstanceId, Arc<AtomicBool>);

impl LeaseHandle for HangingLease {
    fn id(&self) -> &InstanceId {
        &self.0
    }

    fn edit(&self, _: LeaseEdit) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(pending())
    }

    fn deregister(&mut self) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(pending())
    }
}

impl Drop for HangingLease {
    fn drop(&mut self) {
        self.1.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_its_deadline_whatever_hangs() {
    for registration in [false, true] {
        let dropped = Arc::new(AtomicBool::new(false));
        let backend = Hangs {
            registration,
            dropped: Arc::clone(&dropped),
        };
        let server = Worker::new(backend, Registration::new("worker"), HERE).unwrap();
        let opening = tokio::spawn({
            let server = server.clone();
            async move { server.open("http", SocketAddr::new(HERE, 80)).await }
        });
        tokio::task::yield_now().await;
        assert!(!opening.is_finished(), "it hangs");
        let drain = |deadline| timeout(deadline, server.drain(deadline));
        let (first, second) = futures::join!(drain(LONG), drain(LONG / 2));
        for drained in [first, second] {
            let drained = drained.expect("by the deadline");
            assert_eq!(drained.is_err(), !registration, "{drained:?}");
        }
        let error = opening.await.unwrap().unwrap_err();
        assert!(matches!(error, WorkerError::Drained), "{error}");
        assert_eq!(dropped.load(Ordering::SeqCst), !registration, "best-effort");
    }
}

#[tokio::test]
async fn who_drains_a_second_time_waits_for_the_first() {
    let registry = Registry::new();
    let server = worker(&registry, "a");
    let mut listener = server.listen("http").await.unwrap();
    let addr = listener.local_addr().unwrap().tcp().unwrap();
    server.guard().synced().await;
    let friend = dial(HERE, addr).await;
    let (connection, _) = listener.accept().await;
    let drain = || {
        let server = server.clone();
        tokio::spawn(async move { server.drain(LONG).await })
    };
    let (first, second) = (drain(), drain());
    let target = "shop/worker:http".parse().unwrap();
    let mut sets = registry.watch(&target);
    let is_draining = |set: &rolecall::InstanceSet| {
        let mut all = set.iter();
        all.any(|instance| instance.availability() == Availability::Draining)
    };
    while !is_draining(&sets.next().await.unwrap().unwrap()) {}
    tokio::task::yield_now().await;
    assert!(!first.is_finished() && !second.is_finished());
    drop((friend, connection));
    for drained in [first, second] {
        timeout(LONG / 2, drained).await.unwrap().unwrap().unwrap();
    }
}
