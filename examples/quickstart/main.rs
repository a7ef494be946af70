//! A role's private endpoint, load-balanced while its instances slow down, die, join and drain.
//!
//! Four worker instances, real HTTP servers on free loopback ports, register in the embedded registry. A caller sends
//! 400 requests a second to `worker:http` for some twenty-five seconds, on a fixed schedule whether or not earlier ones were
//! answered, and gives up on each after a second. Meanwhile one instance turns slow, one is killed, a new one joins, one
//! says that it drains, one answers 503 at once and one hangs. At the end a table shows who answered what, and a list who
//! was ejected why and when it came back; the exit code is 0 only if every instance got what it should have got.
//!
//! ```sh
//! cargo run --example quickstart
//! ```

#![expect(clippy::disallowed_methods, reason = "a program may look at the clock")]

mod caller;
mod ejections;
mod report;
mod worker;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rolecall::{
    Availability, BalanceConfig, ConfigError, EjectionReason, MemberState, MemberStatus,
    OutlierConfig, Registry, http,
};
use tokio::time::{sleep, timeout};

use crate::caller::Caller;
use crate::ejections::Ejections;
use crate::report::Report;
use crate::worker::{Does, Worker};

const USUAL: Duration = Duration::from_millis(2);
const SLOW: Duration = Duration::from_millis(60);
const PHASE: Duration = Duration::from_secs(2);

/// The defaults, but for the time that an ejection and the return from it take: the show is short.
fn hurried() -> Result<BalanceConfig, ConfigError> {
    let time = Duration::from_secs(2);
    let outlier = OutlierConfig::builder()
        .base_ejection_time(time)
        .max_ejection_time(time);
    BalanceConfig::builder()
        .outlier(outlier.build()?)
        .slow_start(Duration::from_secs(1))
        .build()
}

/// Waits until an instance is in that state. When it never is, the report will say so.
async fn reached(client: &http::Client, id: &str, state: MemberState) {
    let is = |member: &MemberStatus| *member.instance.id() == *id && member.state == state;
    let looks = async {
        while !client.control().status().members.iter().any(is) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = timeout(Duration::from_secs(20), looks).await;
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode, rolecall::BoxError> {
    let second = Duration::from_secs(1);
    let registry = Registry::new();
    let mut a = Worker::start("a", USUAL, &registry).await?;
    let mut b = Worker::start("b", USUAL, &registry).await?;
    let mut c = Worker::start("c", USUAL, &registry).await?;
    let mut d = Worker::start("d", USUAL, &registry).await?;

    let client = http::Client::new(registry.clone(), "worker:http")?;
    client.control().reconfigure(hurried()?);
    client.control().wait_usable(Duration::from_secs(5)).await?;
    let ejections = Ejections::follow(&client);
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
    a.set_service_time(USUAL);
    sleep(PHASE + second).await;

    caller.enter("c drains");
    c.lease()?.set_availability(Availability::Draining).await?;
    sleep(Duration::from_millis(100)).await;
    let served_before = c.served();
    sleep(PHASE).await;
    let served_after = c.served();

    caller.enter("d fails");
    let failing = Instant::now();
    d.does(Does::Fail);
    sleep(PHASE).await;
    reached(&client, "d", MemberState::Ejected).await;
    caller.enter("d is well");
    d.does(Does::Answer);
    let failing = failing..=Instant::now();
    reached(&client, "d", MemberState::Usable).await;
    caller.enter("d is back");
    sleep(PHASE + second).await;

    caller.enter("e hangs");
    let hanging = Instant::now();
    e.does(Does::Hang);
    sleep(PHASE).await;
    reached(&client, "e", MemberState::Ejected).await;
    caller.enter("e is well");
    e.does(Does::Answer);
    let hanging = hanging..=Instant::now();
    reached(&client, "e", MemberState::Usable).await;
    caller.enter("e is back");
    sleep(PHASE + second).await;

    let calls = caller.finish().await?;
    println!("\nin the end: {}\n", client.control().status());
    for worker in [&mut a, &mut b, &mut c, &mut d, &mut e] {
        worker.kill().await;
    }

    let mut report = Report::new(calls);
    report.print();
    ejections.print();
    report.no_failures_but("b", killing..=killed, &[failing, hanging]);
    report.failed("d fails", 0.02);
    report.failed("e hangs", 0.03);
    report.expect(
        ejections.ejected_and_back("d", |reason| {
            matches!(reason, EjectionReason::FailuresInRow { .. })
        }),
        "d was ejected for failures in a row, and came back".to_owned(),
    );
    report.expect(
        ejections.ejected_and_back("e", |reason| {
            matches!(reason, EjectionReason::Unresponsive { .. })
        }),
        "e was ejected as unresponsive, and came back".to_owned(),
    );
    report.share("a slow", "a", &["a", "b", "c", "d"], second, 0.0..0.25);
    report.share("e joins", "e", &["c", "d", "e"], 2 * second, 0.7..1.3);
    report.share("d is back", "d", &["a", "d", "e"], 2 * second, 0.6..1.5);
    report.share("e is back", "e", &["a", "d", "e"], 2 * second, 0.6..1.5);
    report.expect(
        served_after == served_before,
        format!(
            "c, draining, got {} new requests",
            served_after - served_before
        ),
    );
    Ok(report.verdict())
}
