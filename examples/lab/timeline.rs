//! A scenario's faults spelled out: what begins and ends at which server at which moment.

use std::time::Duration;

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

/// The same with the bursts of antagonists one by one.
pub(crate) fn episodes(scenario: &Scenario, seed: u64) -> Vec<Affliction> {
    let mut episodes = Vec::new();
    let end = nanos(scenario.duration);
    let mut rng = stream(seed, Stream::Antagonists);
    for affliction in afflictions(scenario) {
        let Effect::Antagonist(antagonist) = affliction.effect else {
            episodes.push(affliction);
            continue;
        };
        let mut draw =
            |mean: Duration| from_seconds(exponential(&mut rng).max(1e-3) * mean.as_secs_f64());
        let last = affliction.until.min(end);
        let mut from = affliction.from + draw(antagonist.off);
        while from < last {
            let until = (from + draw(antagonist.on)).min(last);
            let effect = Effect::Slow(antagonist.slow);
            episodes.push(Affliction {
                from,
                until,
                effect,
                ..affliction
            });
            from = until + draw(antagonist.off);
        }
    }
    episodes
}

/// All changes in order of time; those of one moment in the order of the file.
pub(crate) fn changes(scenario: &Scenario, seed: u64) -> Vec<(Moment, Change)> {
    let mut changes = Vec::new();
    for Affliction {
        server,
        from,
        until,
        effect,
    } in episodes(scenario, seed)
    {
        let condition = match effect {
            Effect::Slow(factor) => Condition::Slow(factor),
            Effect::Fail(fail) => Condition::Fail(fail),
            Effect::Hang => Condition::Hang,
            Effect::Down => Condition::Down,
            Effect::Unannounced => Condition::Unannounced,
            Effect::Draining => Condition::Draining,
            Effect::Antagonist(_) => continue,
        };
        changes.push((from, Change::Begin(server, condition)));
        changes.push((until, Change::End(server, condition)));
    }
    for outage in &scenario.discovery.outages {
        changes.push((nanos(outage.from), Change::Silence(outage.answer)));
        changes.push((nanos(outage.until), Change::Speech));
    }
    // What never ends need not be waited for.
    changes.retain(|(at, _)| *at <= nanos(scenario.duration));
    changes.sort_by_key(|(at, _)| *at);
    changes
}
