//! An instance of the role: an HTTP server that takes its time, fails, hangs, and can be killed.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use rolecall::{BoxError, Lease, Registrar, Registration, Registry};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

pub(crate) struct Worker {
    state: Arc<State>,
    /// Dropped, it ends the server and all its connections together, as a crash would.
    running: Option<oneshot::Sender<()>>,
    server: JoinSet<()>,
    lease: Option<Lease>,
}

/// What it does with requests.
#[derive(Clone, Copy)]
pub(crate) enum Does {
    Answer,
    /// Answers 503 at once.
    Fail,
    /// Accepts connections and requests, and never answers.
    Hang,
}

struct State {
    does: Mutex<Does>,
    service_time_micros: AtomicU64,
    served: AtomicUsize,
}

impl Worker {
    /// Binds a free port, serves it, and announces it as the endpoint `http` of the role `worker`.
    pub(crate) async fn start(
        id: &str,
        service_time: Duration,
        registry: &Registry,
    ) -> Result<Self, BoxError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let state = Arc::new(State {
            does: Mutex::new(Does::Answer),
            service_time_micros: AtomicU64::new(service_time.as_micros() as u64),
            served: AtomicUsize::new(0),
        });
        let (running, killed) = oneshot::channel();
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::clone(&state), killed));
        let registration = Registration::new("worker").id(id).endpoint("http", addr);
        let lease = registry.register(registration).await?;
        Ok(Self {
            state,
            running: Some(running),
            server,
            lease: Some(lease),
        })
    }

    pub(crate) fn set_service_time(&self, service_time: Duration) {
        let micros = service_time.as_micros() as u64;
        self.state.service_time_micros.store(micros, Relaxed);
    }

    /// From now on.
    pub(crate) fn does(&self, does: Does) {
        *self
            .state
            .does
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = does;
    }

    /// How many requests it was given so far.
    pub(crate) fn served(&self) -> usize {
        self.state.served.load(Relaxed)
    }

    pub(crate) fn lease(&self) -> Result<&Lease, BoxError> {
        self.lease.as_ref().ok_or_else(|| "not registered".into())
    }

    /// Ends the server and its connections at once, and returns when the last is closed; the lease stays, as after a
    /// crash.
    pub(crate) async fn kill(&mut self) {
        self.running = None;
        while self.server.join_next().await.is_some() {}
    }
}

async fn serve(listener: TcpListener, state: Arc<State>, mut killed: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = &mut killed => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { break };
        // Only a lost peer makes this fail, and then the connection fails too.
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        let answer = service_fn(move |request| answer(request, Arc::clone(&state)));
        connections.spawn(async move {
            // A caller that hangs up is no news.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
    drop(listener);
    connections.shutdown().await;
}

async fn answer(
    _: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    state.served.fetch_add(1, Relaxed);
    let does = *state.does.lock().unwrap_or_else(PoisonError::into_inner);
    match does {
        Does::Answer => {}
        Does::Fail => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return Ok(response);
        }
        Does::Hang => std::future::pending().await,
    }
    sleep(Duration::from_micros(
        state.service_time_micros.load(Relaxed),
    ))
    .await;
    Ok(Response::new(Full::from("done\n")))
}
