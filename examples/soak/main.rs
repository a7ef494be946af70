//! Eight real servers break in every way for minutes, and no caller may notice more than the faults explain.
//!
//! `cargo run --release --example soak -- --minutes 3 --seed 1`; `--help` lists the options. The servers are killed,
//! restarted elsewhere, slowed, hung, made to fail, drained and reweighted, discovery flaps, and the balancers are
//! reconfigured while callers clone, drop and cancel. The same seed gives the same schedule of faults.
//!
//! It exits with 0 only if every failed request is explained by a fault of the instance that had it, no instance was
//! ejected without a fault, every share is fair 70 s after the last fault, and nothing was left behind: no request in flight, no
//! task, no descriptor and no memory.

#![expect(
    clippy::disallowed_methods,
    reason = "faults of real servers are measured by the real clock"
)]

mod callers;
mod discovery;
mod injection;
mod ledger;
mod options;
mod resources;
mod schedule;
mod servers;
mod stall;
mod verdict;
mod window;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rolecall::BoxError;
use tokio::time::{sleep, sleep_until};

use crate::callers::{Caller, Callers};
use crate::discovery::Announcer;
use crate::injection::Injector;
use crate::ledger::Ledger;
use crate::options::{Asked, Options};
use crate::resources::Usage;
use crate::schedule::Schedule;
use crate::servers::Servers;

const WARM_UP: Duration = Duration::from_secs(8);
/// How long after the last fault every instance has its fair share again.
const RECOVERY: Duration = Duration::from_secs(70);
/// For how long shares are counted.
const SHARES: Duration = Duration::from_secs(10);
/// Waiting for connections and tasks to go away, twice in a round.
const PAUSES: Duration = Duration::from_secs(12);

fn main() -> Result<(), BoxError> {
    let options = match Options::parse(std::env::args().skip(1))? {
        Asked::Soak(options) => options,
        Asked::Help => {
            print!("{}", options::HELP);
            return Ok(());
        }
    };
    let schedules = schedules(&options);
    if options.plan {
        for (round, schedule) in schedules.iter().enumerate() {
            println!("round {}\n{schedule}", round + 1);
        }
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let is_clean = runtime.block_on(soak(&options, &schedules))?;
    drop(runtime);
    if is_clean {
        Ok(())
    } else {
        std::process::exit(1)
    }
}

/// About three minutes each. Every round ends with a quiet part.
fn schedules(options: &Options) -> Vec<Schedule> {
    let rounds = (options.minutes / 3).max(1);
    let round = Duration::from_secs(60) * options.minutes as u32 / rounds as u32;
    let faults = round.saturating_sub(WARM_UP + RECOVERY + SHARES + PAUSES);
    (0..rounds)
        .map(|round| Schedule::new(options.seed.wrapping_add(round << 32), faults))
        .collect()
}

async fn soak(options: &Options, schedules: &[Schedule]) -> Result<bool, BoxError> {
    println!(
        "soak: {} min, seed {}, {} servers, {} requests/s and {} from a small caller",
        options.minutes,
        options.seed,
        servers::COUNT,
        callers::BUSY_RATE,
        callers::SMALL_RATE,
    );
    let ledger = Arc::new(Ledger::new(options.log));
    stall::watch(&ledger);
    let servers = Servers::start(Arc::clone(&ledger), options.seed)?;
    let announcer = Announcer::new(servers.addrs());
    let before = Usage::now()?;

    let busy = callers::client(announcer.discovery())?;
    let small = callers::client(announcer.discovery())?;
    for client in [&busy, &small] {
        client.control().wait_usable(Duration::from_secs(5)).await?;
    }
    let callers = Callers::start(&busy, &small, &announcer, &ledger, options.seed);
    let injector = Injector::new(&servers, &announcer, [&busy, &small], &ledger);

    sleep(WARM_UP).await;
    callers.pause().await;
    let warm = resources::settled().await?;
    println!("after warm-up: {warm}");
    for (number, schedule) in schedules.iter().enumerate() {
        callers.resume();
        injector.run(schedule).await?;
        ledger.note(format!("round {}: the last fault is over", number + 1));
        let healed = Instant::now();
        sleep_until((healed + RECOVERY).into()).await;
        ledger.begin_shares();
        sleep_until((healed + RECOVERY + SHARES).into()).await;
        ledger.end_shares();
        callers.pause().await;
        verdict::nothing_in_flight(Caller::Busy, &busy, &ledger).await;
        verdict::nothing_in_flight(Caller::Small, &small, &ledger).await;
        let usage = resources::settled().await?;
        println!("round {}: {usage}, {}", number + 1, ledger.progress());
        verdict::usage_is_flat(&warm, &usage, &ledger);
    }

    callers.finish().await?;
    drop((busy, small));
    let after = resources::settled().await?;
    println!("after the clients were dropped: {after}");
    verdict::nothing_left(&before, &after, &ledger);
    Ok(verdict::report(options, &ledger))
}
