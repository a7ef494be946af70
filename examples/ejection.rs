//! One ejection and the return from it, line by line.
//!
//! Three instances of a role; one of them fails for a while. The balancer's own events are printed with their time, then
//! the status of each member every second: who is ejected, by which rule, with what figures, until when. Ends by itself;
//! the exit code is 0 only if the instance was ejected, came back, and has its share again.
//!
//! ```sh
//! cargo run --example ejection
//! ```

#![expect(clippy::disallowed_methods, reason = "a program may look at the clock")]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::StreamExt;
use rolecall::{
    BalanceConfig, BalanceLayer, BoxError, Event, Instance, List, OutlierConfig, connect,
};
use tokio::time::{interval, sleep};
use tower::{Layer, Service, service_fn};

const SECOND: Duration = Duration::from_secs(1);

/// The instance that fails for a while.
const SICK: &str = "127.0.0.1:8002";

/// So many answers in a second are a share: half of the fair one.
const SHARE: u64 = 50;

/// After so many seconds it should have its share again on the slowest of machines.
const PATIENCE: u32 = 60;

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let is_sick = Arc::new(AtomicBool::new(false));
    let answers_of_the_sick = Arc::new(AtomicU64::new(0));

    // Nothing is dialled: an instance is a function that takes a millisecond.
    let (sick, count) = (Arc::clone(&is_sick), Arc::clone(&answers_of_the_sick));
    let connector = connect::per_instance(move |instance: &Instance| {
        let (is_it, sick, count) = (
            instance.address().to_string() == SICK,
            Arc::clone(&sick),
            Arc::clone(&count),
        );
        service_fn(move |()| {
            let fails = is_it && sick.load(Relaxed);
            count.fetch_add(u64::from(is_it && !fails), Relaxed);
            async move {
                sleep(Duration::from_millis(1)).await;
                if fails { Err("no") } else { Ok("yes") }
            }
        })
    });
    let addrs = [
        "127.0.0.1:8001".parse()?,
        SICK.parse()?,
        "127.0.0.1:8003".parse()?,
    ];
    // Shorter than the default of 10 s, for a short show.
    let outlier = OutlierConfig::builder().base_ejection_time(3 * SECOND);
    let config = BalanceConfig::builder().outlier(outlier.build()?);
    let balance = BalanceLayer::new(List::from_addrs(addrs)?, "worker:greet")?
        .config(config.build()?)
        .layer(connector);

    // Three hundred requests a second, answered or not.
    let (calls, failures) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (mut caller, sent, failed) = (balance.clone(), Arc::clone(&calls), Arc::clone(&failures));
    let caller = tokio::spawn(async move {
        let mut gap = interval(Duration::from_micros(3333));
        loop {
            gap.tick().await;
            sent.fetch_add(1, Relaxed);
            failed.fetch_add(u64::from(caller.call(()).await.is_err()), Relaxed);
        }
    });

    let began = Instant::now();
    let at = || format!("{:>5.2} s", began.elapsed().as_secs_f64());
    let mut events = balance.control().events();
    let mut clock = interval(SECOND);
    let (mut second, mut ejected, mut returned) = (0, 0, 0);
    let mut answered_before = 0;
    let answered = loop {
        tokio::select! {
            Some(event) = events.next() => {
                println!("{}  {event}", at());
                ejected += u32::from(matches!(event, Event::Ejected { .. }));
                returned += u32::from(matches!(event, Event::Returned { .. }));
                // So long that the first probe meets it still sick, and not longer.
                if matches!(event, Event::TrialFailed { .. }) {
                    is_sick.store(false, Relaxed);
                }
            }
            _ = clock.tick() => {
                println!("{}  {}\n", at(), balance.control().status());
                let answers = answers_of_the_sick.load(Relaxed);
                let answered = answers - answered_before;
                answered_before = answers;
                if second == 1 {
                    is_sick.store(true, Relaxed);
                }
                if second == PATIENCE || (returned > 0 && answered > SHARE) {
                    break answered;
                }
                second += 1;
            }
        }
    };
    caller.abort();
    let (calls, failures) = (calls.load(Relaxed), failures.load(Relaxed));
    println!(
        "{failures} of {calls} requests failed; ejected {ejected} time(s), returned {returned}; \
         {answered} answers in the last second"
    );
    let came_true = ejected >= 1 && returned == ejected && failures < 20 && answered > SHARE;
    Ok(ExitCode::from(u8::from(!came_true)))
}
