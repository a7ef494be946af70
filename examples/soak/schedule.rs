//! Which fault happens when, to which server, for how long.

use std::fmt;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::servers;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Kill,
    Move,
    Slow,
    Hang,
    Errors,
    Flaky,
    Drain,
    Busy,
    Reweight,
    Leave,
    EmptySet,
    SmallSet,
    DiscoveryDown,
    Reconfigure,
}

impl Fault {
    pub(crate) const ALL: [Self; 14] = [
        Self::Kill,
        Self::Move,
        Self::Slow,
        Self::Hang,
        Self::Errors,
        Self::Flaky,
        Self::Drain,
        Self::Busy,
        Self::Reweight,
        Self::Leave,
        Self::EmptySet,
        Self::SmallSet,
        Self::DiscoveryDown,
        Self::Reconfigure,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Move => "move",
            Self::Slow => "slow",
            Self::Hang => "hang",
            Self::Errors => "errors",
            Self::Flaky => "flaky",
            Self::Drain => "drain",
            Self::Busy => "busy",
            Self::Reweight => "reweight",
            Self::Leave => "leave",
            Self::EmptySet => "empty set",
            Self::SmallSet => "small set",
            Self::DiscoveryDown => "discovery down",
            Self::Reconfigure => "reconfigure",
        }
    }

    pub(crate) fn explanation(self) -> &'static str {
        match self {
            Self::Kill => "connections are reset and refused; back on the same port",
            Self::Move => "the same, and back on another port with the same id",
            Self::Slow => "takes twenty times as long",
            Self::Hang => "accepts connections and requests, and answers none",
            Self::Errors => "answers 503 at once",
            Self::Flaky => "answers 503 to three requests in ten",
            Self::Drain => "announces draining, leaves the set and returns",
            Self::Busy => "announces that it is busy",
            Self::Reweight => "announces weight 0 or 3",
            Self::Leave => "three instances leave a confirmed set and return",
            Self::EmptySet => "discovery answers with an empty set, unconfirmed",
            Self::SmallSet => "discovery answers with three instances, unconfirmed",
            Self::DiscoveryDown => "discovery answers with errors",
            Self::Reconfigure => "both balancers are reconfigured, and back",
        }
    }

    /// Whether requests of the server may fail by it.
    pub(crate) fn explains_failures(self) -> bool {
        self < Self::Drain
    }

    /// Whether the server may be ejected for it. An instance is not ejected for being slow.
    pub(crate) fn explains_ejections(self) -> bool {
        self.explains_failures() && self != Self::Slow
    }

    /// Whether it happens to one server, and not to discovery or to the balancers.
    fn has_server(self) -> bool {
        self < Self::Leave
    }

    /// Whether the two cannot happen at once, whichever server they happen to.
    fn excludes(self, other: Self) -> bool {
        let is_discovery = |it: Self| !it.has_server() && it != Self::Reconfigure;
        is_discovery(self) && is_discovery(other) || self == Self::Reconfigure && other == self
    }
}

/// One fault that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Since the begin of the schedule.
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
    pub(crate) server: Option<u8>,
    /// Decides what a fault leaves open, such as the new weight.
    pub(crate) draw: u64,
}

impl Planned {
    fn end(&self) -> Duration {
        self.at + self.lasts
    }
}

/// Faults in the order of their begins, and their end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) faults: Vec<Planned>,
    /// Every fault is over by then.
    pub(crate) length: Duration,
}

/// How many servers are broken at once, at most.
const MOST_BROKEN: usize = 3;
/// How long a server is well before its next fault, at least.
const REST: Duration = Duration::from_secs(2);
/// How long no fault begins after each was dealt once.
const GAP: Duration = Duration::from_secs(4);

impl Schedule {
    /// Deals all faults in random order again and again, so that each comes about equally often.
    pub(crate) fn new(seed: u64, length: Duration) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut schedule = Self {
            faults: Vec::new(),
            length,
        };
        let mut at = Duration::ZERO;
        loop {
            let mut deck = Fault::ALL;
            deck.shuffle(&mut rng);
            for fault in deck {
                at += Duration::from_millis(rng.random_range(500..2000));
                // Discovery has one fault at a time.
                let lasts = if fault.has_server() {
                    2000..8000
                } else {
                    1000..3000
                };
                let lasts = Duration::from_millis(rng.random_range(lasts));
                let draw = rng.random();
                let server = loop {
                    if at + lasts > length {
                        return schedule;
                    }
                    if let Some(server) = schedule.room_for(fault, at, &mut rng) {
                        break server;
                    }
                    at += Duration::from_millis(100);
                };
                schedule.faults.push(Planned {
                    at,
                    lasts,
                    fault,
                    server,
                    draw,
                });
            }
            at += GAP;
        }
    }

    /// The server that a fault may happen to at that time, if it is of a server; `None` where it may not happen.
    fn room_for(&self, fault: Fault, at: Duration, rng: &mut SmallRng) -> Option<Option<u8>> {
        let under_way = || self.faults.iter().filter(|it| it.end() + REST > at);
        if under_way().any(|it| it.fault.excludes(fault)) {
            return None;
        }
        if !fault.has_server() {
            return Some(None);
        }
        let broken = under_way()
            .filter(|it| it.fault.explains_failures())
            .count();
        if fault.explains_failures() && broken >= MOST_BROKEN {
            return None;
        }
        let is_free = |server: &u8| under_way().all(|it| it.server != Some(*server));
        let free: Vec<_> = (0..servers::COUNT).filter(is_free).collect();
        let position = rng.random_range(0..free.len().max(1));
        free.get(position).map(|&server| Some(server))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for planned in &self.faults {
            let (at, lasts) = (planned.at.as_secs_f64(), planned.lasts.as_secs_f64());
            let server = planned.server.map_or_else(|| "-".to_owned(), servers::id);
            let (fault, what) = (planned.fault.name(), planned.fault.explanation());
            writeln!(
                f,
                "{at:>7.2} s {lasts:>5.2} s  {server:<9} {fault:<14} {what}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(80);

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        assert_eq!(Schedule::new(7, LENGTH), Schedule::new(7, LENGTH));
        assert_ne!(Schedule::new(7, LENGTH), Schedule::new(8, LENGTH));
    }

    #[test]
    fn eighty_seconds_have_every_fault_and_are_quiet_in_the_end() {
        for seed in 0..200 {
            let schedule = Schedule::new(seed, LENGTH);
            for fault in Fault::ALL {
                let has_it = schedule.faults.iter().any(|it| it.fault == fault);
                assert!(has_it, "seed {seed} has no {fault:?}");
            }
            assert!(schedule.faults.iter().all(|it| it.end() <= LENGTH));
        }
    }

    #[test]
    fn at_most_three_servers_are_broken_at_once_and_none_twice() {
        for seed in 0..200 {
            let faults = Schedule::new(seed, LENGTH).faults;
            for (position, planned) in faults.iter().enumerate() {
                let earlier = faults[..position].iter();
                let overlapping: Vec<_> = earlier.filter(|it| it.end() > planned.at).collect();
                let twice = |it: &&Planned| it.server.is_some() && it.server == planned.server;
                assert!(!overlapping.iter().any(twice), "seed {seed}: {planned:?}");
                let broken = |it: &&Planned| it.fault.explains_failures();
                let others = overlapping.into_iter().filter(broken).count();
                let own = usize::from(planned.fault.explains_failures());
                assert!(others + own <= MOST_BROKEN, "seed {seed}: {planned:?}");
            }
        }
    }
}
