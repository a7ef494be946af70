//! A role's private endpoint, load-balanced while its instances slow down, die, join and drain.
//!
//! Four worker instances, real HTTP servers on free loopback ports, register in the embedded registry. A caller sends
//! 400 requests a second to `worker:http` for about ten seconds, on a fixed schedule whether or not earlier ones were
//! answered, while one instance turns slow, one is killed, a new one joins and one says that it drains. At the end a
//! table shows who answered what; the exit code is 0 only if every instance got what it should have got.
//!
//! ```sh
//! cargo run --example quickstart
//! ```

#![expect(clippy::disallowed_methods, reason = "a program may look at the clock")]

mod caller;
mod report;
mod worker;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rolecall::{Availability, Registry, http};
use tokio::time::sleep;

use crate::caller::Caller;
use crate::report::Report;
use crate::worker::Worker;

const USUAL: Duration = Duration::from_millis(2);
const SLOW: Duration = Duration::from_millis(60);
const PHASE: Duration = Duration::from_secs(2);

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode, rolecall::BoxError> {
    let registry = Registry::new();
    let mut a = Worker::start("a", USUAL, &registry).await?;
    let mut b = Worker::start("b", USUAL, &registry).await?;
    let mut c = Worker::start("c", USUAL, &registry).await?;
    let mut d = Worker::start("d", USUAL, &registry).await?;

    let client = http::client(registry.clone(), "worker:http")?;
    client.wait_usable(Duration::from_secs(5)).await?;
    println!("a, b, c and d serve worker:http; 400 requests/s follow\n");
    let caller = Caller::start(client.clone());

    caller.enter("calm");
    sleep(PHASE).await;

    caller.enter("a slow");
    a.set_service_time(SLOW);
    sleep(PHASE).await;

    // A crash deregisters nobody: discovery goes on announcing b until its lease expires.
    caller.enter("b killed");
    let killing = Instant::now();
    b.kill().await;
    let killed = Instant::now();
    sleep(PHASE).await;

    caller.enter("e joins");
    let mut e = Worker::start("e", USUAL, &registry).await?;
    sleep(PHASE + Duration::from_secs(1)).await;

    caller.enter("c drains");
    c.lease()?.set_availability(Availability::Draining).await?;
    sleep(Duration::from_millis(100)).await;
    let served_before = c.served();
    sleep(PHASE).await;
    let served_after = c.served();

    let calls = caller.finish().await?;
    println!("\nin the end: {}\n", client.status());
    for worker in [&mut a, &mut b, &mut c, &mut d, &mut e] {
        worker.kill().await;
    }

    let mut report = Report::new(calls);
    report.print();
    report.no_failures_but("b", killing..=killed);
    let second = Duration::from_secs(1);
    report.share("a slow", "a", &["a", "b", "c", "d"], second, 0.0..0.25);
    report.share("e joins", "e", &["c", "d", "e"], 2 * second, 0.7..1.3);
    report.expect(
        served_after == served_before,
        format!(
            "c, draining, got {} new requests",
            served_after - served_before
        ),
    );
    Ok(report.verdict())
}
