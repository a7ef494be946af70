//! Servers, clients, and what tests wait for.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rolecall::http::{CallError, Connection, Connector, IncomingBody};
use rolecall::{Balance, BalanceLayer, Instance, List, MemberStatus, http};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tower::{Layer, Service, ServiceExt};

pub(crate) type Client = Connection<Empty<Bytes>>;

pub(crate) async fn hello(_: Request<Incoming>) -> Response<Full<Bytes>> {
    Response::new(Full::from("hello"))
}

pub(crate) fn request(uri: &str) -> Request<Empty<Bytes>> {
    Request::get(uri).body(Empty::new()).unwrap()
}

pub(crate) type Balanced = Balance<Client, http::HttpClassifier>;

pub(crate) fn balanced(addrs: impl IntoIterator<Item = SocketAddr>) -> Balanced {
    let list = List::from_addrs(addrs).unwrap();
    BalanceLayer::new(list, "worker:http")
        .unwrap()
        .classify(http::HttpClassifier::new())
        .layer(Connector::new())
}

/// Calls without a pause until fifty calls were made after the kill, none of which may fail.
pub(crate) fn spawn_calls_until_after(killed: Arc<AtomicBool>, client: Balanced) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut later = 0;
        while later < 50 {
            let is_later = killed.load(Ordering::SeqCst);
            later += u32::from(is_later);
            match client.clone().oneshot(request("/")).await {
                Ok(response) => drop(response.into_body().collect().await),
                Err(error) => assert!(!is_later, "{error:?}"),
            }
        }
    })
}

pub(crate) fn member(client: &Balanced) -> MemberStatus {
    client.control().status().members.remove(0)
}

pub(crate) fn connector(http2: bool) -> Connector<Empty<Bytes>> {
    let connector = Connector::new();
    if http2 { connector.http2() } else { connector }
}

pub(crate) async fn dial(addr: SocketAddr) -> Client {
    dial_with(addr, false).await
}

pub(crate) async fn dial_with(addr: SocketAddr, http2: bool) -> Client {
    let instance = Instance::new("a", addr);
    connector(http2).oneshot(instance).await.unwrap()
}

pub(crate) async fn get(client: &Client, uri: &str) -> Response<IncomingBody> {
    within(client.clone().oneshot(request(uri))).await.unwrap()
}

pub(crate) fn spawn_get(client: &Client) -> JoinHandle<Result<Response<IncomingBody>, CallError>> {
    tokio::spawn(client.clone().oneshot(request("/")))
}

pub(crate) async fn body<B>(response: Response<B>) -> Bytes
where
    B: hyper::body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    within(response.into_body().collect())
        .await
        .unwrap()
        .to_bytes()
}

pub(crate) async fn poll_ready_once(client: &mut Client) -> Option<Result<(), CallError>> {
    poll_fn(|cx| match client.poll_ready(cx) {
        std::task::Poll::Ready(ready) => std::task::Poll::Ready(Some(ready)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

/// The kind of the first `io::Error` in the chain.
pub(crate) fn io_kind(error: &(dyn StdError + 'static)) -> io::ErrorKind {
    let mut chain = std::iter::successors(Some(error), |&error| error.source());
    let error = chain.find_map(<dyn StdError>::downcast_ref::<io::Error>);
    error.expect("an io::Error in the chain").kind()
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, future)
        .await
        .expect("done in time")
}

pub(crate) async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Returns when every socket event that came before was delivered and handled.
pub(crate) async fn io_turn() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    drop(listener.accept().await.unwrap());
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// An address that refuses connections, as long as the socket is there: it is bound, and does not listen.
pub(crate) fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

pub(crate) async fn free_addr() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// Accepts a connection as a server that speaks no more than it must.
pub(crate) fn accept_and_greet(
    listener: &std::net::TcpListener,
    http2: bool,
) -> std::net::TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    if http2 {
        const NO_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        io::Write::write_all(&mut stream, &NO_SETTINGS).unwrap();
    }
    stream
}

pub(crate) async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
}

/// Holds requests until it is opened for them.
#[derive(Clone)]
pub(crate) struct Gate {
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let closed = || Arc::new(Semaphore::new(0));
        Self {
            arrived: closed(),
            open: closed(),
        }
    }

    pub(crate) fn handler(
        &self,
    ) -> impl Fn(Request<Incoming>) -> futures::future::BoxFuture<'static, Response<Full<Bytes>>>
    + Clone
    + Send
    + 'static {
        let gate = self.clone();
        move |request| {
            let gate = gate.clone();
            Box::pin(async move {
                gate.arrived.add_permits(1);
                gate.open.acquire().await.unwrap().forget();
                hello(request).await
            })
        }
    }

    pub(crate) async fn arrived(&self, requests: u32) {
        within(self.arrived.acquire_many(requests))
            .await
            .unwrap()
            .forget();
    }

    pub(crate) fn open(&self, requests: usize) {
        self.open.add_permits(requests);
    }
}

/// An HTTP/1.1 and HTTP/2 server that counts its connections.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) accepted: Arc<AtomicUsize>,
    orders: watch::Sender<Order>,
    closed: mpsc::Receiver<Infallible>,
    open: mpsc::WeakSender<Infallible>,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Order {
    Serve,
    GoAway,
    Close,
}

impl Server {
    pub(crate) async fn start<H, F>(handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (orders, order) = watch::channel(Order::Serve);
        let (open, closed) = mpsc::channel(1);
        let weak = open.downgrade();
        let count = accepted.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let mut order = order.clone();
                order.mark_unchanged();
                tokio::spawn(serve(stream, handler.clone(), order, open.clone()));
            }
        });
        Self {
            addr,
            accepted,
            orders,
            closed,
            open: weak,
            accepting,
        }
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open.strong_count() - 1
    }

    pub(crate) fn go_away(&self) {
        self.orders.send(Order::GoAway).unwrap();
    }

    pub(crate) async fn close_connections(&self) {
        self.orders.send(Order::Close).unwrap();
        until(|| self.open() == 0).await;
    }

    /// Closes every socket, the listening one too.
    pub(crate) async fn kill(mut self) {
        self.accepting.abort();
        self.orders.send_replace(Order::Close);
        assert!(within(self.closed.recv()).await.is_none());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

pub(crate) async fn serve<H, F>(
    stream: TcpStream,
    handler: H,
    mut order: watch::Receiver<Order>,
    _open: mpsc::Sender<Infallible>,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let response = handler(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            Ok(()) = order.changed() => match *order.borrow() {
                Order::Serve => {}
                Order::GoAway => connection.as_mut().graceful_shutdown(),
                Order::Close => return,
            },
        }
    }
}

/// A server that plays a script on every connection.
pub(crate) struct Raw {
    pub(crate) addr: SocketAddr,
    pub(crate) accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Raw {
    pub(crate) async fn start<S, F>(script: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(stream));
            }
        });
        Self {
            addr,
            accepted,
            accepting,
        }
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
