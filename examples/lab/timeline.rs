//! A scenario's faults spelled out: what begins and ends at which server at which moment.

use crate::chance::{Stream, exponential, stream};
use crate::moment::{Moment, from_seconds, nanos};
use crate::scenario::{Answer, Effect, Scenario};
use crate::server::Condition;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Begin(usize, Condition),
    End(usize, Condition),
    /// Discovery has no news from now on, or an empty set.
    Silence(Answer),
    /// Discovery is back.
    Speech,
}

/// One fault at one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affliction {
    pub(crate) server: usize,
    pub(crate) from: Moment,
    pub(crate) until: Moment,
    pub(crate) effect: Effect,
}

/// Every fault at every server it befalls.
pub(crate) fn afflictions(scenario: &Scenario) -> Vec<Affliction> {
    let mut all = Vec::new();
    for fault in &scenario.faults {
        for (place, server) in scenario.afflicted(fault).into_iter().enumerate() {
            let later = nanos(fault.stagger) * place as u64;
            all.push(Affliction {
                server,
                from: nanos(fault.from) + later,
                until: fault
                    .until
                    .map_or(Moment::MAX, |until| nanos(until) + later),
                effect: fault.effect,
            });
        }
    }
    all
}

/// All changes in order of time; those of one moment in the order of the file.
pub(crate) fn changes(scenario: &Scenario, seed: u64) -> Vec<(Moment, Change)> {
    let mut changes = Vec::new();
    let end = nanos(scenario.duration);
    let mut rng = stream(seed, Stream::Antagonists);
    for Affliction {
        server,
        from,
        until,
        effect,
    } in afflictions(scenario)
    {
        let mut lasts = |condition, from: Moment, until: Moment| {
            changes.push((from, Change::Begin(server, condition)));
            changes.push((until, Change::End(server, condition)));
        };
        match effect {
            Effect::Slow(factor) => lasts(Condition::Slow(factor), from, until),
            Effect::Fail(fail) => lasts(Condition::Fail(fail), from, until),
            Effect::Hang => lasts(Condition::Hang, from, until),
            Effect::Down => lasts(Condition::Down, from, until),
            Effect::Unannounced => lasts(Condition::Unannounced, from, until),
            Effect::Draining => lasts(Condition::Draining, from, until),
            Effect::Antagonist(antagonist) => {
                let mut draw = |mean| from_seconds(f64::max(1e-3, exponential(&mut rng)) * mean);
                let (on, off) = (antagonist.on.as_secs_f64(), antagonist.off.as_secs_f64());
                let mut burst = from + draw(off);
                while burst < until.min(end) {
                    let over = (burst + draw(on)).min(until);
                    lasts(Condition::Slow(antagonist.slow), burst, over);
                    burst = over + draw(off);
                }
            }
        }
    }
    for outage in &scenario.discovery.outages {
        changes.push((nanos(outage.from), Change::Silence(outage.answer)));
        changes.push((nanos(outage.until), Change::Speech));
    }
    // What never ends need not be waited for.
    changes.retain(|(at, _)| *at <= end);
    changes.sort_by_key(|(at, _)| *at);
    changes
}
