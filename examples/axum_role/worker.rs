//! What one worker does: the part to copy.

use std::env;
use std::future::IntoFuture;
use std::net::Ipv4Addr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use http_body_util::BodyExt;
use hyper::Request;
use rolecall::http::{Body, Client};
use rolecall::{BoxError, Registrar, Registration};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::stdio::{self, Announcer};

pub(crate) const AS_WORKER: &str = "as-worker";
/// Longer than it takes until every caller has heard that this worker is draining.
const NEWS: Duration = Duration::from_secs(1);
/// How long what is in flight may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The name to work under, if this process is to be a worker.
pub(crate) fn asked_for() -> Option<String> {
    let mut args = env::args().skip(1);
    args.next().filter(|arg| arg == AS_WORKER).and(args.next())
}

pub(crate) async fn run(name: String) -> Result<(), BoxError> {
    let (peers, starter) = stdio::peers_of(&name);
    let peers = Client::new(peers, "worker:http")?;
    let own_name = name.clone();
    let router = Router::new()
        .route("/name", get(|| async { own_name }))
        .route("/peer", get(ask))
        .with_state((name.clone(), peers));

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let here = Registration::new("worker")
        .id(name)
        .endpoint("http", listener.local_addr()?);
    let (close, closed) = oneshot::channel::<()>();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async {
        drop(closed.await);
    });
    let serving = tokio::spawn(serving.into_future());
    let lease = Announcer.register(here).await?;

    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = terminate.recv() => {}
        _ = starter => return Ok(()),
    }
    let leave = async {
        sleep(NEWS).await;
        drop(close);
        drop(serving.await);
    };
    Ok(lease.drain_until(leave, PATIENCE).await?)
}

/// Asks a peer for its name.
async fn ask(
    State((name, peers)): State<(String, Client)>,
) -> Result<String, (StatusCode, String)> {
    let failed = |error: BoxError| (StatusCode::BAD_GATEWAY, format!("{name}: {error}"));
    let request = Request::get("/name").body(Body::empty());
    let request = request.map_err(|error| failed(error.into()))?;
    let answer = peers
        .request(request)
        .await
        .map_err(|error| failed(error.into()))?;
    let peer = answer.into_body().collect().await;
    let peer = peer.map_err(|error| failed(error.into()))?.to_bytes();
    Ok(format!("{name} asked {}", String::from_utf8_lossy(&peer)))
}
