//! A worker that serves with axum, registers, calls its peers, and drains when it is told to end; and a rolling restart of
//! three of them, each a process of its own.
//!
//! Each request asks a worker, which asks one of its peers. Under 50 requests a second every worker is replaced: a new one
//! starts, and the old one gets SIGTERM, as from any supervisor. The exit code is 0 only if no request failed, though nothing
//! is sent twice here, if every worker took part, and if those that were told to end did so by themselves.
//!
//! Workers know each other by lines on their standard streams, which the starter passes on: a backend of its own, in
//! `stdio.rs` and `crier.rs`.
//!
//! ```sh
//! cargo run --example axum_role
//! ```

#![expect(clippy::disallowed_methods, reason = "a program may look at the clock")]

mod caller;
mod crier;
mod stdio;
mod worker;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rolecall::{BoxError, http};
use tokio::time::sleep;

use crate::caller::Caller;
use crate::crier::Crier;

const OLD: [&str; 3] = ["a", "b", "c"];
const NEW: [&str; 3] = ["d", "e", "f"];

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode, BoxError> {
    if let Some(name) = worker::asked_for() {
        worker::run(name).await?;
        return Ok(ExitCode::SUCCESS);
    }

    let (crier, news) = Crier::new();
    let client = http::Client::new(news, "worker:http")?;
    let usable = |names: &[&str]| {
        let members = client.control().status().members;
        let are_there = |name: &&str| members.iter().any(|m| m.instance.id() == *name);
        names.iter().all(are_there) && client.control().status().usable == names.len()
    };
    let mut workers = Vec::new();
    for name in OLD {
        workers.push(crier.start(name)?);
    }
    wait(|| usable(&OLD)).await?;
    println!("a, b and c serve worker:http, each in a process of its own");

    let caller = Caller::start(client.clone());
    wait(|| caller.took_part(&OLD)).await?;
    let mut newcomers = Vec::new();
    for ((worker, old), new) in workers.iter_mut().zip(OLD).zip(NEW) {
        newcomers.push(crier.start(new)?);
        wait(|| caller.took_part(&[new])).await?;
        worker.terminate()?;
        let status = worker.ended().await?;
        println!("{new} is there; {old} was told to end, drained, and ended: {status}");
        if !status.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    wait(|| usable(&NEW)).await?;
    let came_true = caller.finish(&[OLD, NEW].concat()).await?;
    Ok(ExitCode::from(u8::from(!came_true)))
}

async fn wait(condition: impl Fn() -> bool) -> Result<(), BoxError> {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > Duration::from_secs(20) {
            return Err("waited for 20 s in vain".into());
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
