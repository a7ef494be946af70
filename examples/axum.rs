//! Three workers that serve with axum, replaced one by one under load. No request may fail.
//!
//! ```sh
//! cargo run --example axum
//! ```

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use axum::http::Request;
use axum::{Router, routing::get};
use http_body_util::BodyExt;
use rolecall::http::{Body, Client};
use rolecall::{BoxError, Registration, Registry, Worker};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let registry = Registry::new();
    let mut old = Vec::new();
    for name in ["a", "b", "c"] {
        old.push(serve(&registry, name).await?);
    }
    let client = Client::new(registry.clone(), "worker:http")?;
    let (stop, stopped) = oneshot::channel();
    let calls = tokio::spawn(call(client, stopped));

    // A worker deregisters when it is dropped.
    let mut new = Vec::new();
    for ((worker, serving), name) in old.into_iter().zip(["d", "e", "f"]) {
        sleep(SECOND).await;
        new.push(serve(&registry, name).await?);
        let drained = worker.drain(5 * SECOND).await?;
        serving.abort();
        println!(
            "{name} has replaced a worker, {} of whose connections were cut",
            drained.open
        );
    }
    sleep(SECOND).await;
    drop(stop);
    let answers = calls.await??;
    println!("answers: {answers:?}");
    let all = ["a", "b", "c", "d", "e", "f"];
    if all.iter().any(|name| !answers.contains_key(*name)) {
        return Err("a worker answered nothing".into());
    }
    Ok(())
}

/// Starts a worker: it listens, lets its boundary in, and registers.
async fn serve(
    registry: &Registry,
    name: &'static str,
) -> Result<(Worker, JoinHandle<()>), BoxError> {
    let registration = Registration::new("worker").id(name);
    let worker = Worker::new(registry.clone(), registration, Ipv4Addr::LOCALHOST.into())?;
    let listener = worker.listen("http").await?;
    let app = Router::new().route("/", get(move || async move { name }));
    let serving = tokio::spawn(async move {
        // It ends when it is aborted, after the drain.
        let _ = axum::serve(listener, app).await;
    });
    Ok((worker, serving))
}

/// Sends 200 requests a second and counts the answers. The first failure ends it.
async fn call(
    client: Client,
    mut stopped: oneshot::Receiver<()>,
) -> Result<BTreeMap<String, u32>, BoxError> {
    let mut answers = BTreeMap::new();
    let mut ticks = interval(Duration::from_millis(5));
    while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        ticks.tick().await;
        let request = Request::get("/").body(Body::empty())?;
        let body = client.request(request).await?.into_body().collect().await?;
        let name = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        *answers.entry(name).or_default() += 1;
    }
    Ok(answers)
}
