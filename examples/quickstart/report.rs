//! The table at the end, and whether it shows what it should.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::caller::Call;

pub(crate) struct Report {
    calls: Vec<Call>,
    broken: bool,
}

impl Report {
    pub(crate) fn new(calls: Vec<Call>) -> Self {
        let broken = false;
        Self { calls, broken }
    }

    fn phases(&self) -> Vec<&'static str> {
        let mut phases: Vec<_> = self.calls.iter().map(|call| call.phase).collect();
        let mut seen = BTreeSet::new();
        phases.retain(|phase| seen.insert(*phase));
        phases
    }

    pub(crate) fn print(&self) {
        let instances: BTreeSet<_> = self
            .calls
            .iter()
            .filter_map(|c| c.instance.as_deref())
            .collect();
        print!("share of answers, %");
        for instance in &instances {
            print!("{instance:>7}");
        }
        println!("   requests   p50 ms   p99 ms   failed");
        for phase in self.phases() {
            let calls: Vec<_> = self
                .calls
                .iter()
                .filter(|call| call.phase == phase)
                .collect();
            let answered: Vec<_> = calls.iter().filter(|call| call.error.is_none()).collect();
            print!("{phase:<19}");
            for instance in &instances {
                let own = answered
                    .iter()
                    .filter(|c| c.instance.as_deref() == Some(instance));
                print!("{:>7.1}", percent(own.count(), answered.len()));
            }
            let mut took: Vec<_> = answered.iter().map(|call| call.took).collect();
            took.sort_unstable();
            println!(
                "{:>11} {:>8.1} {:>8.1} {:>8}",
                calls.len(),
                millis(&took, 0.5),
                millis(&took, 0.99),
                calls.len() - answered.len()
            );
        }
        println!();
        for call in self
            .calls
            .iter()
            .filter(|call| call.error.is_some())
            .take(40)
        {
            let after = call.sent_after.as_millis();
            let error = call.error.as_deref().unwrap_or_default();
            println!("failed, sent {after} ms into '{}': {error}", call.phase);
        }
    }

    /// Says what came true or did not.
    pub(crate) fn expect(&mut self, came_true: bool, what: String) {
        println!("{}  {what}", if came_true { "ok  " } else { "FAIL" });
        self.broken |= !came_true;
    }

    /// A killed instance takes with it what it had in its hands, and no request that was sent later; at other times too
    /// nothing fails, but while something is broken.
    pub(crate) fn no_failures_but(
        &mut self,
        instance: &str,
        killing: RangeInclusive<Instant>,
        broken: &[RangeInclusive<Instant>],
    ) {
        let under_way = |call: &Call, time: &RangeInclusive<Instant>| {
            call.sent <= *time.end() && call.sent + call.took >= *time.start()
        };
        let failed =
            |call: &&Call| call.error.is_some() && !broken.iter().any(|time| under_way(call, time));
        let in_hand =
            |call: &&Call| under_way(call, &killing) && call.instance.as_deref() == Some(instance);
        let all = self.calls.iter().filter(failed).count();
        let taken = self.calls.iter().filter(failed).filter(in_hand).count();
        let what = format!(
            "failed in the hands of {instance} when it was killed: {taken}; failed otherwise: {}",
            all - taken
        );
        self.expect(all == taken, what);
    }

    /// So large a part of a phase's requests may fail.
    pub(crate) fn failed(&mut self, phase: &str, most: f64) {
        let calls = || self.calls.iter().filter(|call| call.phase == phase);
        let failed = calls().filter(|call| call.error.is_some()).count();
        let all = calls().count();
        let what = format!(
            "'{phase}': {failed} of {all} requests failed, {:.1} % may",
            100.0 * most
        );
        self.expect(all > 0 && failed as f64 <= most * all as f64, what);
    }

    /// An instance's share of a phase from `settled` on, in units of an equal share among some.
    pub(crate) fn share(
        &mut self,
        phase: &str,
        instance: &str,
        among: &[&str],
        settled: Duration,
        expected: Range<f64>,
    ) {
        let counted = self.calls.iter().filter(|call| {
            call.phase == phase && call.error.is_none() && call.sent_after >= settled
        });
        let answered_by: Vec<_> = counted
            .filter_map(|call| call.instance.as_deref())
            .collect();
        let all = answered_by.iter().filter(|id| among.contains(id)).count();
        let own = answered_by.iter().filter(|id| **id == instance).count();
        let share = own as f64 * among.len() as f64 / all.max(1) as f64;
        let what = format!(
            "'{phase}' after {} s: {instance} has {share:.2} of an equal share among {}, expected {expected:?}",
            settled.as_secs_f64(),
            among.join(", "),
        );
        self.expect(all > 0 && expected.contains(&share), what);
    }

    pub(crate) fn verdict(&self) -> ExitCode {
        ExitCode::from(u8::from(self.broken))
    }
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

fn millis(sorted: &[Duration], quantile: f64) -> f64 {
    let index = (sorted.len().saturating_sub(1) as f64 * quantile).round() as usize;
    sorted
        .get(index)
        .map_or(0.0, |took| took.as_secs_f64() * 1e3)
}
