//! A server that does what a request's path says, and callers of all kinds that count what they left behind.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rolecall::http::{Body, Client};
use rolecall::{BoxError, Control, List, grpc};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower::ServiceExt;

pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// Counts what lives.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

pub(crate) struct Alive(Count);

impl Count {
    pub(crate) fn one(&self) -> Alive {
        self.0.fetch_add(1, SeqCst);
        Alive(self.clone())
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, SeqCst);
    }
}

/// Speaks HTTP/1.1, HTTP/2 and as much of gRPC as it takes.
pub(crate) struct Streaming {
    pub(crate) addr: SocketAddr,
    /// Request bodies that are read.
    pub(crate) reading: Count,
    /// Of its own, so that the tasks of callers can be counted.
    runtime: Option<Runtime>,
}

impl Streaming {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let reading = Count::default();
        let begun = reading.clone();
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let reading = begun.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, reading.clone()));
                    let server = auto::Builder::new(TokioExecutor::new());
                    let serving =
                        server.serve_connection_with_upgrades(TokioIo::new(stream), service);
                    // However it ends.
                    let _ = serving.await;
                });
            }
        });
        Self {
            addr,
            reading,
            runtime: Some(runtime),
        }
    }
}

impl Streaming {
    /// How many sockets of callers are connected to it. Asked of the system, since a server of HTTP/1.1 that reads nothing does
    /// not see that a caller closed its connection.
    pub(crate) fn sockets(&self) -> usize {
        const ESTABLISHED: &str = "01";
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let port = format!(":{:04X}", self.addr.port());
        let sockets = table.lines().filter(|line| {
            let mut fields = line.split_whitespace().skip(2);
            let remote = fields.next().is_some_and(|remote| remote.ends_with(&port));
            remote && fields.next() == Some(ESTABLISHED)
        });
        sockets.count()
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    reading: Count,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    let path = request.uri().path().to_owned();
    let mut response = Response::new(UnsyncBoxBody::default());
    let is_grpc = request.headers().contains_key(CONTENT_TYPE);
    if is_grpc {
        let grpc = "application/grpc".parse().unwrap();
        response.headers_mut().insert(CONTENT_TYPE, grpc);
    }
    // A message of gRPC, with its length in front.
    let message = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"\0\0\0\0\x05hello")));
    let trailers = stream::iter(is_grpc.then(|| {
        let mut trailers = hyper::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        Ok(Frame::trailers(trailers))
    }));
    let full = stream::iter([message()]).chain(trailers);
    *response.body_mut() = match path.as_str() {
        // Answers at once, and reads what comes.
        "/early" => {
            tokio::spawn(read(request.into_body(), reading.one()));
            StreamBody::new(full).boxed_unsync()
        }
        // Answers at once, and leaves the request unread, but does not drop it.
        "/unread" => {
            tokio::spawn(hold(request.into_body()));
            StreamBody::new(full).boxed_unsync()
        }
        // Begins an answer, and reads what comes.
        "/duplex" => {
            tokio::spawn(read(request.into_body(), reading.one()));
            let rest = stream::pending();
            StreamBody::new(stream::iter([message()]).chain(rest)).boxed_unsync()
        }
        // The same, but leaves the request unread.
        "/duplex-unread" => {
            tokio::spawn(hold(request.into_body()));
            let rest = stream::pending();
            StreamBody::new(stream::iter([message()]).chain(rest)).boxed_unsync()
        }
        "/silent" => {
            let _reading = reading.one();
            let _body = request.into_body();
            pending().await
        }
        "/big" => Full::new(Bytes::from(vec![b'x'; 16 << 20])).boxed_unsync(),
        "/upgrade" => {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(CONNECTION, "upgrade".parse().unwrap());
            headers.insert(UPGRADE, "echo".parse().unwrap());
            let alive = reading.one();
            tokio::spawn(async move {
                if let Ok(upgraded) = hyper::upgrade::on(request).await {
                    let mut upgraded = TokioIo::new(upgraded);
                    let _ = tokio::io::copy(&mut upgraded, &mut tokio::io::sink()).await;
                }
                drop(alive);
            });
            return Ok(response);
        }
        "/error" => {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            StreamBody::new(full).boxed_unsync()
        }
        _ => {
            let _ = request.into_body().collect().await;
            StreamBody::new(full).boxed_unsync()
        }
    };
    Ok(response)
}

async fn read(mut body: Incoming, _reading: Alive) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// As long as the server is there.
async fn hold(body: Incoming) {
    pending::<()>().await;
    drop(body);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Http1,
    Http2,
    Grpc,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::Http1, Kind::Http2, Kind::Grpc];

/// A client of one kind.
#[derive(Clone)]
pub(crate) enum Caller {
    Http(Client),
    Grpc(grpc::Channel),
}

impl Caller {
    pub(crate) fn new(kind: Kind, addr: SocketAddr) -> Self {
        let list = List::from_addrs([addr]).unwrap();
        let http = |list| Client::builder(list, "worker:http");
        match kind {
            Kind::Http1 => Self::Http(http(list).http1().build().unwrap()),
            Kind::Http2 => Self::Http(http(list).http2().build().unwrap()),
            Kind::Grpc => Self::Grpc(grpc::Channel::new(list, "worker:grpc").unwrap()),
        }
    }

    pub(crate) fn control(&self) -> &Control {
        match self {
            Self::Http(client) => client.control(),
            Self::Grpc(channel) => channel.control(),
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        let members = self.control().status().members;
        members.iter().map(|member| member.in_flight as usize).sum()
    }

    pub(crate) fn post(
        &self,
        path: &str,
        body: Body,
    ) -> BoxFuture<'static, Result<Answer, BoxError>> {
        let mut request = Request::post(path).body(body).unwrap();
        if path == "/upgrade" {
            let headers = request.headers_mut();
            headers.insert(CONNECTION, "upgrade".parse().unwrap());
            headers.insert(UPGRADE, "echo".parse().unwrap());
        }
        match self {
            Self::Http(client) => {
                let call = client.request(request);
                Box::pin(async move {
                    let response = call.await?;
                    Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
                })
            }
            Self::Grpc(channel) => {
                let headers = request.headers_mut();
                headers.insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
                headers.insert("te", "trailers".parse().unwrap());
                let call = channel.clone().oneshot(request);
                Box::pin(async move {
                    let response = call.await?;
                    Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
                })
            }
        }
    }
}

/// A request body that ends when its sender is dropped.
pub(crate) fn open_body(alive: &Count) -> (UnboundedSender<Bytes>, Body) {
    let (write, written) = unbounded_channel();
    let body = stream::unfold((written, alive.one()), next);
    (write, Body::new(StreamBody::new(Box::pin(body))))
}

type Written = (UnboundedReceiver<Bytes>, Alive);

async fn next(mut written: Written) -> Option<(Result<Frame<Bytes>, Infallible>, Written)> {
    let data = written.0.recv().await?;
    Some((Ok(Frame::data(data)), written))
}
