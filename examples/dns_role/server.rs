//! An HTTP server that a record names.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// Dropped, it and its connections end at once.
pub(crate) struct Server {
    port: u16,
    served: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
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
                connections
                    .spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self {
            port,
            served,
            serving,
        })
    }

    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// What adds it to the zone.
    pub(crate) fn record(&self, host: &str, ttl: u32) -> [String; 2] {
        let port = self.port;
        [
            format!("add {} {ttl} SRV 0 10 {port} {host}.svc.test.", crate::NAME),
            format!("add {host}.svc.test. {ttl} A 127.0.0.1"),
        ]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
