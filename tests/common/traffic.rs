//! HTTP workers, and a caller that asks them at an even pace.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rolecall::http;
use rolecall::{BoxError, Discovery};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{self, MissedTickBehavior};

/// A server of this process; it ends when dropped.
pub(crate) struct Worker {
    pub(crate) addr: SocketAddr,
    served: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Worker {
    pub(crate) async fn start() -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn serve(listener: TcpListener) -> Self {
        let addr = listener.local_addr().unwrap();
        let served = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&served);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let served = Arc::clone(&counted);
                let service = service_fn(move |_| {
                    served.fetch_add(1, Ordering::Relaxed);
                    async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }
                });
                connections.spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            addr,
            served,
            serving,
        }
    }

    /// How many requests it has served.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// 500 requests in a second to `worker:http`, whatever becomes of the earlier ones.
pub(crate) struct Traffic {
    stop: oneshot::Sender<()>,
    calls: JoinHandle<Outcomes>,
}

#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) answered: u64,
    /// How often each thing went wrong.
    pub(crate) failed: BTreeMap<String, u64>,
}

impl Traffic {
    pub(crate) fn start(discovery: impl Discovery) -> Self {
        let client = http::Client::new(discovery, "worker:http").unwrap();
        let (stop, mut stopped) = oneshot::channel();
        let calls = tokio::spawn(async move {
            let mut pace = time::interval(Duration::from_millis(2));
            pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut calls = JoinSet::new();
            let mut outcomes = Outcomes::default();
            loop {
                tokio::select! {
                    _ = &mut stopped => break,
                    Some(call) = calls.join_next() => outcomes.count(call.unwrap()),
                    _ = pace.tick() => {
                        let client = client.clone();
                        calls.spawn(async move {
                            let request = Request::get("/").body(http::Body::empty())?;
                            let response = client.request(request).await?;
                            response.into_body().collect().await?;
                            Ok(())
                        });
                    }
                }
            }
            while let Some(call) = calls.join_next().await {
                outcomes.count(call.unwrap());
            }
            outcomes
        });
        Self { stop, calls }
    }

    /// Sends no more, and waits for the last answer.
    pub(crate) async fn finish(self) -> Outcomes {
        drop(self.stop);
        self.calls.await.unwrap()
    }
}

impl Outcomes {
    fn count(&mut self, call: Result<(), BoxError>) {
        match call {
            Ok(()) => self.answered += 1,
            Err(error) => *self.failed.entry(error.to_string()).or_default() += 1,
        }
    }
}
