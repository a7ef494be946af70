//! One shared reqwest client, pointed at the pick by `connect::retarget`. reqwest's pool keeps working.
//!
//! ```sh
//! cargo run --example reqwest
//! ```

use std::collections::BTreeMap;

use axum::{Router, routing::get};
use futures::{StreamExt, stream};
use reqwest::{Method, Request, Response, Url};
use rolecall::{BalanceLayer, BoxError, Error, Instance, List, Outcome, connect};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower::{Layer, Service};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut servers = BTreeMap::new();
    let mut instances = Vec::new();
    for name in ["a", "b", "c"] {
        let (instance, serving) = serve(name).await?;
        servers.insert(name.to_owned(), serving);
        instances.push(instance);
    }

    let balance = BalanceLayer::new(List::new(instances)?, "worker:http")?
        .classify_fn(outcome)
        .layer(connect::retarget(reqwest::Client::new(), point));

    println!("{:?}", send(&balance).await?);
    let (gone, serving) = servers.pop_first().ok_or("no server")?;
    serving.abort();
    // It has ended, and its listener is closed.
    let _ = serving.await;
    println!("{gone} is gone: {:?}", send(&balance).await?);
    Ok(())
}

/// Sends 300 requests, eight at a time, and counts the answers.
async fn send<B>(balance: &B) -> Result<BTreeMap<String, u32>, BoxError>
where
    B: Service<Request, Response = Response, Error = Error> + Clone,
{
    let mut calls = stream::iter(0..300)
        .map(|_| ask(balance.clone()))
        .buffer_unordered(8);
    let mut answers = BTreeMap::new();
    while let Some(name) = calls.next().await {
        *answers.entry(name?).or_default() += 1;
    }
    Ok(answers)
}

async fn ask<B>(mut balance: B) -> Result<String, BoxError>
where
    B: Service<Request, Response = Response, Error = Error>,
{
    let mut attempts = 0;
    loop {
        attempts += 1;
        // The pick replaces host and port.
        let request = Request::new(Method::GET, Url::parse("http://worker/")?);
        match balance.call(request).await {
            Ok(response) => return Ok(response.text().await?),
            // A GET may be sent twice.
            Err(error) if error.instance().is_some() && attempts < 3 => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn point(instance: &Instance, mut request: Request) -> Request {
    if let Some(addr) = instance.address().tcp() {
        // Both fail only for a URL without a host.
        let _ = request.url_mut().set_ip_host(addr.ip());
        let _ = request.url_mut().set_port(Some(addr.port()));
    }
    request
}

fn outcome(result: &Result<Response, reqwest::Error>) -> Outcome {
    match result {
        Ok(response) if response.status().is_server_error() => Outcome::Failure,
        Ok(_) => Outcome::Success,
        // Nothing was sent. The balancer dials the instance again before it picks it.
        Err(error) if error.is_connect() => Outcome::Unsent,
        Err(_) => Outcome::Failure,
    }
}

async fn serve(name: &'static str) -> Result<(Instance, JoinHandle<()>), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let instance = Instance::new(name, listener.local_addr()?);
    let app = Router::new().route("/", get(move || async move { name }));
    let serving = tokio::spawn(async move {
        // It ends when it is aborted.
        let _ = axum::serve(listener, app).await;
    });
    Ok((instance, serving))
}
