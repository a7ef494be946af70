//! A hyper server in a runtime of its own, so that it dies at once and as a whole. It answers HTTP and gRPC.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The path of calls that are answered by a stream of one message; others are unary.
pub(crate) const STREAM: &str = "/test.Hello/Stream";

type Body = BoxBody<Bytes, Infallible>;

/// Answers after that long, which makes requests be in its hands when it dies.
const WORK: Duration = Duration::from_millis(5);

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    fails: Arc<AtomicBool>,
    running: Option<Running>,
}

struct Running {
    runtime: Runtime,
    close: Arc<Notify>,
    serving: JoinHandle<()>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let mut server = Self {
            addr: free_addr(),
            fails: Arc::default(),
            running: None,
        };
        server.start_again();
        server
    }

    /// Where it was before.
    pub(crate) fn start_again(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind(self.addr).unwrap();
        listener.set_nonblocking(true).unwrap();
        let close = Arc::new(Notify::new());
        let serving = serve(listener, Arc::clone(&self.fails), Arc::clone(&close));
        let serving = runtime.spawn(serving);
        self.running = Some(Running {
            runtime,
            close,
            serving,
        });
    }

    /// Answers 503 at once from now on, or no more.
    pub(crate) fn fail(&self, fails: bool) {
        self.fails.store(fails, SeqCst);
    }

    /// Closes every socket, whatever is in its hands.
    pub(crate) async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.end().await;
        }
    }

    /// Accepts nothing any more, finishes what is in its hands, and ends.
    pub(crate) async fn refuse(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.close.notify_one();
            (&mut running.serving).await.unwrap();
            running.end().await;
        }
    }
}

impl Running {
    async fn end(self) {
        let shutdown = move || self.runtime.shutdown_timeout(Duration::from_secs(10));
        tokio::task::spawn_blocking(shutdown).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.runtime.shutdown_background();
        }
    }
}

async fn serve(listener: std::net::TcpListener, fails: Arc<AtomicBool>, close: Arc<Notify>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let graceful = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            () = close.notified() => break,
            accepted = listener.accept() => accepted.unwrap().0,
        };
        stream.set_nodelay(true).unwrap();
        let fails = Arc::clone(&fails);
        let service = service_fn(move |request| {
            let fails = Arc::clone(&fails);
            async move { Ok::<_, Infallible>(answer(&request, &fails).await) }
        });
        let connection = auto::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        let connection = graceful.watch(connection);
        // It fails by what its caller does.
        tokio::spawn(async move { drop(connection.await) });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn answer(request: &Request<Incoming>, fails: &AtomicBool) -> Response<Body> {
    let is_grpc = request.headers().contains_key("te");
    if is_grpc && request.uri().path() == STREAM {
        // The head at once, as tonic's servers do; what becomes of it comes later.
        let fails = fails.load(SeqCst);
        let rest = stream::once(async move {
            if !fails {
                tokio::time::sleep(WORK).await;
            }
            stream::iter(messages(fails))
        });
        return grpc(Body::new(StreamBody::new(rest.flatten())));
    }
    let fails = fails.load(SeqCst);
    if !fails {
        tokio::time::sleep(WORK).await;
    }
    if is_grpc && fails {
        let mut answer = grpc(Body::default());
        answer.headers_mut().insert("grpc-status", 14.into());
        return answer;
    }
    if is_grpc {
        return grpc(Body::new(StreamBody::new(stream::iter(messages(false)))));
    }
    let response = Response::builder().status(if fails { 503 } else { 200 });
    response.body(Body::new(Full::from("hello"))).unwrap()
}

fn grpc(body: Body) -> Response<Body> {
    let head = Response::builder().header("content-type", "application/grpc");
    head.body(body).unwrap()
}

/// One message and the status, or only that.
fn messages(fails: bool) -> Vec<Result<Frame<Bytes>, Infallible>> {
    // Not compressed, two bytes: the field 1 is 1.
    let message = Frame::data(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", if fails { 14 } else { 0 }.into());
    let message = (!fails).then_some(message);
    message
        .into_iter()
        .chain([Frame::trailers(trailers)])
        .map(Ok)
        .collect()
}

/// A port of an address that no other test uses, also while its server is gone.
pub(crate) fn free_addr() -> SocketAddr {
    static USED: AtomicU16 = AtomicU16::new(0);
    let [high, low] = USED.fetch_add(1, SeqCst).to_be_bytes();
    let ip = if cfg!(target_os = "linux") {
        [127, 78, high, low]
    } else {
        [127, 0, 0, 1]
    };
    let listener = std::net::TcpListener::bind(SocketAddr::from((ip, 0))).unwrap();
    listener.local_addr().unwrap()
}
