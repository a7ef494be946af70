//! A worker: what a program of yours looks like.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http_body_util::BodyExt;
use hyper::Request;
use rolecall::http::{Body, Client};
use rolecall::{BoxError, Error, Worker};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::interval;

const GAP: Duration = Duration::from_millis(40);

pub(crate) async fn run() -> Result<(), BoxError> {
    let mut told_to_end = signal(SignalKind::terminate())?;
    let worker = Worker::from_env()?;
    let listener = worker.listen("http").await?;
    let name = worker.register().await?.to_string();
    let router = Router::new().route("/", get(|| async { name }));
    tokio::spawn(axum::serve(listener, router).into_future());

    let client: Client = worker.client("worker:http")?;
    client.control().wait_usable(Duration::from_secs(5)).await?;
    let mut tick = interval(GAP);
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            _ = told_to_end.recv() => break,
            _ = tick.tick() => {
                under_way.spawn(ask(client.clone()));
            }
        }
    }
    under_way.join_all().await;
    drop(client);
    worker.drain(Duration::from_secs(10)).await?;
    Ok(())
}

/// Asks one of the role, and says what came of it.
async fn ask(client: Client) {
    let answer = async {
        let answer = client.request(Request::new(Body::empty())).await?;
        let name = answer.into_body().collect().await?.to_bytes();
        Ok::<_, BoxError>(String::from_utf8_lossy(&name).into_owned())
    };
    match answer.await {
        Ok(name) => println!("ok {name}"),
        Err(error) => {
            let ours = Error::find(&*error).and_then(|ours| ours.instance());
            println!("failed with {ours:?}: {error}");
        }
    }
}
