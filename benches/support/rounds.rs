//! Cases measured in turns, so that whatever else the machine does falls on all of them alike.

use std::time::Duration;

use super::report::Cost;

/// One contestant at one size.
pub(crate) struct Case<'a> {
    pub(crate) name: &'static str,
    pub(crate) instances: u16,
    /// Makes this many calls and says how long they took.
    pub(crate) run: Box<dyn FnMut(u64) -> Duration + 'a>,
}

/// Runs each case for about `batch` in each of `rounds` rounds.
///
/// Every other round goes through the cases backwards.
pub(crate) fn interleave(cases: Vec<Case<'_>>, rounds: usize, batch: Duration) -> Vec<Cost> {
    let mut measured: Vec<_> = cases
        .into_iter()
        .map(|mut case| {
            let calls = calibrate(&mut case, batch);
            let cost = Cost {
                name: case.name,
                instances: case.instances,
                rounds: Vec::with_capacity(rounds),
            };
            (case, calls, cost)
        })
        .collect();
    for _ in 0..rounds {
        for (case, calls, cost) in &mut measured {
            // The case before left its own data in the caches.
            (case.run)(*calls / 8);
            cost.rounds.push(nanos_per_call((case.run)(*calls), *calls));
        }
        measured.reverse();
    }
    if rounds % 2 == 1 {
        measured.reverse();
    }
    measured.into_iter().map(|(_, _, cost)| cost).collect()
}

/// The number of calls that take about `batch`, found on a warm case.
fn calibrate(case: &mut Case<'_>, batch: Duration) -> u64 {
    (case.run)(u64::from(case.instances) * 4);
    let mut calls = 1024;
    loop {
        let took = (case.run)(calls);
        if took >= batch / 4 {
            return (batch.as_nanos() as f64 / nanos_per_call(took, calls)) as u64;
        }
        calls *= 2;
    }
}

fn nanos_per_call(took: Duration, calls: u64) -> f64 {
    took.as_nanos() as f64 / calls as f64
}
