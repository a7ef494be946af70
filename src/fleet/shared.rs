//! What picks and their ends need of the fleet, without its members.

use std::sync::Weak;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::labels::Labels;
use super::member::{Hold, Record};
use super::outlier::{OutlierConfig, Peers};
use super::pool::Pool;
use super::pulse::Pulse;
use super::roster::Roster;
use super::slot::{Slot, UNTIMED, nanos};
use super::trial::{Bucket, TrialEnd};
use crate::event::EjectionReason;

/// Nanoseconds to which the end of an overload is rounded up, so that members that say so all the time write seldom.
const OVERLOAD_STEP: u64 = 100_000_000;

/// What picks need of their fleet after they were made.
pub(super) struct Shared {
    pub(super) epoch: Instant,
    pub(super) pool: Pool,
    pub(super) pulse: Pulse,
    pub(super) trials: Bucket,
    /// What makes an outlier, while any rule does.
    pub(super) outlier: ArcSwapOption<OutlierConfig>,
    pub(super) measures_latency: AtomicBool,
    pub(super) is_timed: AtomicBool,
    /// Whether anybody failed since suspects were looked for.
    pub(super) suspicion: AtomicBool,
    /// The latest moment to which a member is overloaded; zero: none is.
    overloaded_until: AtomicU64,
    pub(super) transitions: Weak<dyn Transitions>,
    pub(super) labels: Labels,
}

/// What a verdict can do to the fleet's members, and see of them.
pub(super) trait Transitions: Send + Sync {
    /// Changes the seat of a member. Returns whether the next deadline moved earlier.
    fn apply_transition(&self, record: &Record, what: Transition, now: u64) -> bool;

    /// The members in play. Takes no lock that a transition needs.
    fn peers(&self, config: &OutlierConfig, now: u64) -> Peers;
}

pub(super) enum Transition {
    Lost,
    /// By a request that was picked then.
    Detected(EjectionReason, u64),
    Tried(TrialEnd),
}

impl Shared {
    pub(super) fn new(
        epoch: Instant,
        outlier: Option<OutlierConfig>,
        measures_latency: bool,
        transitions: Weak<dyn Transitions>,
    ) -> Self {
        Self {
            epoch,
            pool: Pool::new(),
            pulse: Pulse::new(),
            trials: Bucket::new(),
            outlier: ArcSwapOption::from_pointee(outlier),
            measures_latency: AtomicBool::new(measures_latency),
            is_timed: AtomicBool::new(true),
            suspicion: AtomicBool::new(false),
            overloaded_until: AtomicU64::new(0),
            transitions,
            labels: Labels::default(),
        }
    }

    /// Nanoseconds since the fleet began; a time before that counts as its beginning.
    pub(super) fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }

    pub(super) fn instant(&self, moment: u64) -> Instant {
        self.epoch
            .checked_add(Duration::from_nanos(moment))
            .unwrap_or(self.epoch)
    }

    pub(super) fn measures_latency(&self) -> bool {
        self.measures_latency.load(Relaxed)
    }

    /// Whether picks and verdicts know the time.
    pub(super) fn is_timed(&self) -> bool {
        self.is_timed.load(Relaxed)
    }

    pub(super) fn reads_clock(&self) -> bool {
        self.is_timed() || self.is_overloaded()
    }

    /// Whether any member may be overloaded.
    pub(super) fn is_overloaded(&self) -> bool {
        self.overloaded_until.load(Relaxed) != 0
    }

    pub(super) fn next_deadline<S>(&self, roster: &Roster<S>) -> Option<u64> {
        roster
            .next_deadline()
            .into_iter()
            .chain(self.pulse.next())
            .min()
    }

    /// Somebody failed: suspects are to be looked for.
    pub(super) fn suspect(&self) {
        if !self.suspicion.load(Relaxed) {
            self.suspicion.store(true, Relaxed);
        }
    }

    pub(super) fn take_suspicion(&self) -> bool {
        self.suspicion.swap(false, Relaxed)
    }

    /// A member is overloaded until then.
    pub(super) fn overloaded_until(&self, until: u64) {
        let until = until.div_ceil(OVERLOAD_STEP).saturating_mul(OVERLOAD_STEP);
        if self.overloaded_until.load(Relaxed) < until {
            self.overloaded_until.fetch_max(until, AcqRel);
        }
    }

    /// A slot that was taken now, or without reading a clock.
    pub(super) fn slot<S>(&self, holder: Hold<S>, moment: Option<u64>) -> Slot<Hold<S>> {
        match moment {
            Some(moment) => Slot::holding(holder, moment, self.pulse.wake(moment)),
            None => Slot::holding(holder, UNTIMED, false),
        }
    }

    /// Lets picks do without the clock again, if they can, once no member is overloaded any more.
    pub(super) fn end_overload(&self, now: u64) {
        let until = self.overloaded_until.load(Relaxed);
        if until != 0 && until <= now {
            // Lost to a later overload: then that one ends it.
            let _ = self
                .overloaded_until
                .compare_exchange(until, 0, Relaxed, Relaxed);
        }
    }

    pub(super) fn peers(&self, config: &OutlierConfig, now: u64) -> Peers {
        let fleet = self.transitions.upgrade();
        fleet.map_or_else(Peers::default, |fleet| fleet.peers(config, now))
    }

    pub(super) fn apply_transition(&self, record: &Record, what: Transition, now: u64) -> bool {
        self.transitions
            .upgrade()
            .is_some_and(|fleet| fleet.apply_transition(record, what, now))
    }
}
