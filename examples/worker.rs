//! One binary as three processes that find each other in a folder, by their environment alone.
//!
//! Started without `ROLECALL_ROLE`, it starts itself three times as a worker and once as a caller, and kills one worker.
//!
//! ```sh
//! cargo run --example worker
//! ```

use std::collections::BTreeMap;
use std::env;
use std::process::Stdio;
use std::time::Duration;

use axum::http::Request;
use axum::{Router, routing::get};
use http_body_util::BodyExt;
use rolecall::http::{Body, Client};
use rolecall::{BoxError, Worker};
use tokio::process::{Child, Command};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    match env::var("ROLECALL_ROLE").as_deref() {
        Ok("caller") => call().await,
        Ok(_) => work().await,
        Err(_) => start().await,
    }
}

/// A worker: it serves until its process ends.
async fn work() -> Result<(), BoxError> {
    let worker = Worker::from_env()?;
    let listener = worker.listen("http").await?;
    let greeting = format!("process {}", std::process::id());
    let app = Router::new().route("/", get(move || async move { greeting }));
    Ok(axum::serve(listener, app).await?)
}

/// A caller: it sends 100 requests a second for four seconds, and prints who answered in each.
async fn call() -> Result<(), BoxError> {
    let worker = Worker::from_env()?;
    worker.register().await?;
    let client: Client = worker.client("worker:http")?;
    for _ in 0..4 {
        let mut answers = BTreeMap::<String, u32>::new();
        for _ in 0..100 {
            let answer = match ask(&client).await {
                Ok(answer) => answer,
                Err(error) => format!("failed: {error}"),
            };
            *answers.entry(answer).or_default() += 1;
            sleep(Duration::from_millis(10)).await;
        }
        println!("{answers:?}");
    }
    Ok(())
}

async fn ask(client: &Client) -> Result<String, BoxError> {
    let request = Request::get("/").body(Body::empty())?;
    let body = client.request(request).await?.into_body().collect().await?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

async fn start() -> Result<(), BoxError> {
    let folder = env::temp_dir().join(format!("rolecall-worker-{}", std::process::id()));
    let uri = format!("folder:{}", folder.display());
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(process("worker", &uri)?);
    }
    let mut caller = process("caller", &uri)?;
    sleep(Duration::from_secs(2)).await;
    let mut killed = workers.remove(0);
    println!("process {} is killed", killed.id().unwrap_or_default());
    killed.kill().await?;
    let status = caller.wait().await?;
    drop(workers);
    std::fs::remove_dir_all(&folder)?;
    if status.success() {
        Ok(())
    } else {
        Err("the caller failed".into())
    }
}

fn process(role: &str, uri: &str) -> Result<Child, BoxError> {
    let child = Command::new(env::current_exe()?)
        .env("ROLECALL_ROLE", role)
        .env("ROLECALL_DISCOVERY", uri)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    Ok(child)
}
