//! A worker: what a program of yours looks like.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rolecall::guard::Listener;
use rolecall::http::{Body, Client};
use rolecall::{BoxError, Error, InstanceId, Worker};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::interval;

const GAP: Duration = Duration::from_millis(40);

pub(crate) async fn run() -> Result<(), BoxError> {
    let mut told_to_end = signal(SignalKind::terminate())?;
    let worker = Worker::from_env()?;
    let listener = worker.listen("http").await?;
    tokio::spawn(serve(listener, worker.register().await?));

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

/// Answers with its name.
async fn serve(mut listener: Listener, id: InstanceId) {
    loop {
        let (connection, _) = listener.accept().await;
        let id = id.clone();
        let hello = service_fn(move |_| {
            let name = Full::<Bytes>::from(id.to_string());
            async { Ok::<_, Infallible>(Response::new(name)) }
        });
        let io = TokioIo::new(connection);
        tokio::spawn(http1::Builder::new().serve_connection(io, hello));
    }
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
