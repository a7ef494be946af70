//! One contestant in one fault: what its callers saw.

use std::time::Duration;

use rolecall::BoxError;

use crate::contestants::Contestant;
use crate::fault::Fault;
use crate::load::{Call, Load};
use crate::process::Server;

/// How many servers there are, the one at fault included.
pub(crate) const SERVERS: u8 = 4;
const AT_FAULT: u8 = SERVERS - 1;

/// A server that answers this much of its fair share is back.
pub(crate) const BACK: f64 = 0.7;
/// The share is taken over this time.
const WINDOW: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long everything takes.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) warm_up: Duration,
    pub(crate) before: Duration,
    pub(crate) fault: Duration,
    /// How long a healed server may take to come back, at most.
    pub(crate) heal: Duration,
    /// From then on.
    pub(crate) settled: Duration,
}

/// What was measured. Times of answers are in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Of all requests under way during the fault.
    pub(crate) failed_percent: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) p99_before: f64,
    /// Seconds from the end of the fault until the server has most of its fair share for a while; infinite if that did not
    /// come in time.
    pub(crate) back_after: f64,
    /// Answers of the healed server, in units of its fair share, from then on.
    pub(crate) share: f64,
    pub(crate) failed_afterwards: usize,
}

/// Starts the servers and the client anew, has the fault happen, and looks on until the server is back.
pub(crate) async fn run(
    contestant: Contestant,
    fault: Fault,
    times: Times,
    seed: u64,
    tell_events: bool,
) -> Result<Measured, BoxError> {
    let mut servers: Vec<_> = (0..SERVERS).map(Server::start).collect::<Result<_, _>>()?;
    let addrs: Vec<_> = servers.iter().map(Server::addr).collect();
    let client = contestant.connect(&addrs, tell_events).await?;
    let mut load = Load::start(client.ask.clone(), seed);

    load.go_on_until(times.warm_up).await;
    load.go_on_until(times.warm_up + times.before).await;
    let began = load.elapsed();
    if tell_events {
        eprintln!("  the fault begins");
    }
    let at_fault = &mut servers[usize::from(AT_FAULT)];
    fault.happen(at_fault, times.fault, &mut load).await?;
    let healed = load.elapsed();
    if tell_events {
        eprintln!("  the fault is over");
    }
    let back_after = until_back(&mut load, healed, times.heal).await;
    let settled = load.elapsed();
    load.go_on_until(settled + times.settled).await;

    let calls = load.finish().await?;
    let answers = |wanted: &dyn Fn(&Call) -> bool| {
        let answered = |call: &&Call| call.answered_by.is_some() && wanted(call);
        let mut took: Vec<_> = calls.iter().filter(answered).map(Call::took).collect();
        took.sort_unstable();
        took
    };
    let before = answers(&|call| call.due >= times.warm_up && call.ended < began);
    // What was under way when it began is part of it.
    let during = |call: &Call| call.ended >= began && call.due < healed;
    let in_all = calls.iter().filter(|call| during(call)).count();
    let answered = answers(&during);
    let failed_afterwards = calls
        .iter()
        .filter(|call| call.due >= healed && call.answered_by.is_none())
        .count();
    Ok(Measured {
        failed_percent: 100.0 * (in_all - answered.len()) as f64 / in_all.max(1) as f64,
        p99: millis(&answered, 0.99),
        p999: millis(&answered, 0.999),
        p99_before: millis(&before, 0.99),
        back_after: back_after.map_or(f64::INFINITY, |after| after.as_secs_f64()),
        share: share(&calls, settled, settled + times.settled),
        failed_afterwards,
    })
}

/// How long after `healed` the time began in which the server had its share.
async fn until_back(load: &mut Load, healed: Duration, most: Duration) -> Option<Duration> {
    let mut after = Duration::ZERO;
    while after <= most {
        let window = healed + after..healed + after + WINDOW;
        load.go_on_until(window.end).await;
        if share(load.calls(), window.start, window.end) >= BACK {
            return Some(after);
        }
        after += LOOK_EVERY;
    }
    None
}

/// The server's part of what was answered in this time, in units of an equal share.
fn share(calls: &[Call], from: Duration, to: Duration) -> f64 {
    let ended = |call: &&Call| call.ended >= from && call.ended < to;
    let answers = calls
        .iter()
        .filter(ended)
        .filter_map(|call| call.answered_by);
    let (mut all, mut own) = (0_u32, 0_u32);
    for server in answers {
        all += 1;
        own += u32::from(server == AT_FAULT);
    }
    f64::from(own) * f64::from(SERVERS) / f64::from(all.max(1))
}

fn millis(sorted: &[Duration], quantile: f64) -> f64 {
    let rank = (quantile * sorted.len() as f64) as usize;
    sorted
        .get(rank.min(sorted.len().saturating_sub(1)))
        .map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
}
