//! Four worker processes that register in etcd, while one of them, etcd itself, and a registrant's process fail.
//!
//! It starts an etcd of its own, and four times itself as a worker that is configured by its environment alone. It asks
//! them 200 times a second. Then
//!
//! 1. a worker is killed: it is gone when its lease has expired, 2 s;
//! 2. etcd is killed and comes back: no request fails;
//! 3. a worker's process is stopped for longer than its lease: it is gone, and announces itself again when it goes on.
//!
//! The exit code is 0 only if all of that came true.
//!
//! ```sh
//! cargo run --example etcd_role --features etcd
//! ```
//!
//! It needs etcd: on Debian `apt install etcd-server`, elsewhere from <https://etcd.io>; `ROLECALL_ETCD` names its path.

#![expect(clippy::disallowed_methods, reason = "a program may look at the clock")]

#[path = "../support/etcd.rs"]
mod etcd;
#[path = "../support/traffic.rs"]
mod traffic;
mod worker;

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rolecall::{BoxError, Control, discovery, http};
use rustix::process::Signal;
use tokio::time::sleep;

use crate::etcd::Etcd;
use crate::traffic::Traffic;
use crate::worker::Process;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// A lease: the shortest that etcd grants by its own defaults.
const TTL: Duration = Duration::from_secs(2);
/// After its lease has expired, an instance may be seen for this long.
const SLACK: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode, BoxError> {
    if env::args().any(|arg| arg == worker::AS_WORKER) {
        worker::run().await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut etcd = Etcd::start().await?;
    let uri = format!("etcd://{}/example?ttl={}s", etcd.endpoint(), TTL.as_secs());
    println!("etcd runs; workers find each other by {uri}");

    let mut workers = Vec::new();
    for name in NAMES {
        workers.push(Process::start(name, &uri)?);
    }
    let client = http::Client::builder(discovery::from_uri(&uri)?, "worker:http")
        .attempt_timeout(Duration::from_secs(1))
        .build()?;
    let control = client.control().clone();
    control.wait_usable(PATIENCE).await?;
    let traffic = Traffic::start(client);
    until("all four serve", &control, 4).await?;
    sleep(Duration::from_secs(1)).await;
    let mut came_true = true;
    let mut promise = |what: &str, holds: bool| {
        println!("  {} {what}", if holds { "yes" } else { "NO " });
        came_true &= holds;
    };
    let calm = traffic.take();
    promise(
        "requests before anything happens fail never",
        calm.failed.is_empty(),
    );

    println!("worker d is killed");
    let d = workers.pop().ok_or("four were started")?;
    d.signal(Signal::KILL)?;
    let took = until("it is gone", &control, 3).await?;
    let outcomes = traffic.take();
    println!("  gone after {took:.1?}; {outcomes}");
    promise("it is gone within its lease and 2 s", took < TTL + SLACK);
    // Those in its hands, and on their way to it.
    promise("at most 10 requests failed", outcomes.failures() <= 10);

    println!("etcd is killed, and comes back after 5 s");
    etcd.kill().await?;
    sleep(Duration::from_secs(5)).await;
    etcd.restart().await?;
    sleep(TTL + SLACK).await;
    let outcomes = traffic.take();
    println!("  {outcomes}");
    promise(
        "all three are still there",
        control.status().members.len() == 3,
    );
    promise("no request failed", outcomes.failures() == 0);
    println!("worker e comes");
    workers.push(Process::start("e", &uri)?);
    let took = until("it serves", &control, 4).await?;
    println!("  found after {took:.1?}, its start included");

    println!("the process of worker a is stopped for 6 s");
    workers[0].signal(Signal::STOP)?;
    let stopped = Instant::now();
    let took = until("it is gone", &control, 3).await?;
    println!("  gone after {took:.1?}; {}", traffic.take());
    promise("it is gone within its lease and 2 s", took < TTL + SLACK);
    sleep(Duration::from_secs(6).saturating_sub(stopped.elapsed())).await;
    workers[0].signal(Signal::CONT)?;
    let took = until("it is back", &control, 4).await?;
    println!("  back after {took:.1?}");
    promise("it announced itself again", took < TTL + SLACK);
    traffic.take();
    sleep(Duration::from_secs(1)).await;
    let outcomes = traffic.finish().await?;
    println!("  then {outcomes}");
    promise("no request failed after that", outcomes.failures() == 0);

    for worker in &mut workers {
        worker.signal(Signal::TERM)?;
    }
    for worker in &mut workers {
        promise(
            "a worker drained and ended",
            worker.ended().await?.success(),
        );
    }
    etcd.kill().await?;
    Ok(if came_true {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Waits until so many instances are known, each of which has served; says how long that took.
async fn until(what: &str, control: &Control, members: usize) -> Result<Duration, BoxError> {
    let began = Instant::now();
    loop {
        let status = control.status();
        let serving = status.members.iter().filter(|member| member.picks > 0);
        if status.members.len() == members && serving.count() == members {
            return Ok(began.elapsed());
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("waited {PATIENCE:?} in vain until {what}").into());
        }
        sleep(Duration::from_millis(10)).await;
    }
}
