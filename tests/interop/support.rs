//! Servers, load, and what tests wait for.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rolecall::{BoxError, Instance, List};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) use crate::waiting::{until, within};

/// Plays a script on every connection, and counts those that are open.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    open: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start<F>(script: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let open = Arc::new(AtomicUsize::new(0));
        let count = open.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, SeqCst);
                let (count, serving) = (count.clone(), script(stream));
                tokio::spawn(async move {
                    // What a stranger does to a connection is not its test's failure.
                    let _ = serving.await;
                    count.fetch_sub(1, SeqCst);
                });
            }
        });
        Self {
            addr,
            open,
            accepting,
        }
    }

    /// Serves HTTP/1.1 and HTTP/2.
    pub(crate) async fn http<B>(answer: fn(Request<Incoming>) -> Response<B>) -> Self
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        Self::start(move |stream| async move {
            let service =
                service_fn(move |request| async move { Ok::<_, Infallible>(answer(request)) });
            let server = auto::Builder::new(TokioExecutor::new());
            server.serve_connection(TokioIo::new(stream), service).await
        })
        .await
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A stranger and a healthy instance.
pub(crate) fn beside(stranger: &Server, healthy: &Server) -> List {
    let instances = [("stranger", stranger), ("healthy", healthy)];
    List::new(instances.map(|(id, server)| Instance::new(id, server.addr))).unwrap()
}

/// Calls by several callers at once until so many calls succeeded, and `settled` besides.
///
/// Every call ends within its time: with an answer, with an error that `call` has looked at, or given up.
pub(crate) async fn call_until<F>(call: impl Fn() -> F, calls: usize, settled: impl Fn() -> bool)
where
    F: Future<Output = bool>,
{
    let succeeded = AtomicUsize::new(0);
    let is_done = || succeeded.load(SeqCst) >= calls && settled();
    let callers = (0..8).map(|_| async {
        while !is_done() {
            let patience = Duration::from_millis(300);
            if let Ok(true) = tokio::time::timeout(patience, call()).await {
                succeeded.fetch_add(1, SeqCst);
            }
            tokio::task::yield_now().await;
        }
    });
    within(futures::future::join_all(callers)).await;
}
