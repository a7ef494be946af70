//! A stand-in for a Kubernetes API server: it lists, watches and changes objects of any kind, and fails on demand.
//!
//! It speaks as much of the API as clients of `EndpointSlice`s and `Pod`s and `kubectl get`, `describe`, `apply` and `delete`
//! need. No controller runs: whoever uses it writes the slices, as the one of a real cluster would.

mod answers;
mod objects;
mod store;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub(crate) use objects::{Slice, endpoint, pod};
use store::Store;

/// How the server answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Serving,
    /// It accepts connections and requests and says nothing more, as a stopped process.
    Stopped,
    /// Everything is something else than JSON.
    Garbage,
    /// It lists nothing.
    Empty,
    /// Nobody may do anything.
    Forbidden,
}

/// How watches end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cut {
    /// As when their time is over.
    #[default]
    Properly,
    /// By a broken connection.
    Broken,
}

/// What requests and tests share.
pub(crate) struct Shared {
    pub(crate) store: Mutex<Store>,
    pub(crate) mode: watch::Sender<Mode>,
    /// Rings with every change of the store.
    pub(crate) changed: watch::Sender<()>,
    /// Rises when all watches are to end.
    pub(crate) cut: watch::Sender<(u64, Cut)>,
    /// Rises when the open watches are to say nothing more and stay open.
    pub(crate) silence: watch::Sender<u64>,
    /// Whether a watch is to end by a line that is no event.
    pub(crate) garbage_due: AtomicBool,
    pub(crate) counts: Mutex<Counts>,
}

/// Requests that were served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) lists: usize,
    pub(crate) watches: usize,
    pub(crate) open_watches: usize,
    /// Verbs and resources.
    pub(crate) asked: BTreeSet<(&'static str, String)>,
}

impl Shared {
    pub(crate) fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count<T>(&self, count: impl FnOnce(&mut Counts) -> T) -> T {
        count(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The server; dropping it breaks every connection.
pub(crate) struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl ApiServer {
    pub(crate) async fn start() -> std::io::Result<Self> {
        let mut server = Self {
            shared: Arc::new(Shared {
                store: Mutex::default(),
                mode: watch::Sender::default(),
                changed: watch::Sender::default(),
                cut: watch::Sender::default(),
                silence: watch::Sender::default(),
                garbage_due: AtomicBool::new(false),
                counts: Mutex::default(),
            }),
            address: ([127, 0, 0, 1], 0).into(),
            accepting: None,
        };
        server.come_back().await?;
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes its port and breaks every connection.
    pub(crate) async fn kill(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _ = accepting.await;
        }
    }

    /// Serves on its port again.
    pub(crate) async fn come_back(&mut self) -> std::io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.address = listener.local_addr()?;
        self.accepting = Some(tokio::spawn(accept(listener, Arc::clone(&self.shared))));
        Ok(())
    }

    /// Loses all data and begins again at its first resourceVersion, as if another cluster had the address.
    pub(crate) fn lose_data(&self) {
        *self.shared.store() = Store::default();
        self.shared.changed.send_replace(());
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Forgets events, so that a watch from before gets a 410.
    pub(crate) fn compact(&self) {
        self.shared.store().compact();
    }

    /// Ends every watch that is open.
    pub(crate) fn cut_watches(&self, how: Cut) {
        self.shared.cut.send_modify(|cut| *cut = (cut.0 + 1, how));
    }

    /// Ends one watch by a line that is no event: one that is open, or the next.
    pub(crate) fn garble_watch(&self) {
        self.shared.garbage_due.store(true, Ordering::Relaxed);
        self.shared.changed.send_replace(());
    }

    /// Makes every open watch say nothing more, as if its connection were dead. Later ones speak.
    pub(crate) fn silence_watches(&self) {
        self.shared.silence.send_modify(|times| *times += 1);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.shared.count(|counts| counts.clone())
    }

    /// Adds an object, or replaces the one of its name.
    pub(crate) fn put(&self, object: Value) {
        self.shared.store().put(object);
        self.shared.changed.send_replace(());
    }

    pub(crate) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        self.shared.store().delete(plural, namespace, name);
        self.shared.changed.send_replace(());
    }

    /// What a kubeconfig file says of it.
    pub(crate) fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: stand-in\n\
             clusters: [{{ name: stand-in, cluster: {{ server: \"http://{}\" }} }}]\n\
             contexts: [{{ name: stand-in, context: {{ cluster: stand-in, user: nobody, namespace: shop }} }}]\n\
             users: [{{ name: nobody, user: {{}} }}]\n",
            self.address
        )
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Aborted with this task.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let answer = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answers::answer(shared, request).await) }
            });
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
