//! What picks and their ends need of the fleet, without its members.

use std::sync::Weak;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::member::{Hold, Record};
use super::outlier::{OutlierConfig, Peers};
use super::pool::Pool;
use super::probe::{Probe, Probed};
use super::pulse::Pulse;
use super::roster::Roster;
use super::slot::{Slot, UNTIMED, nanos};
use crate::EjectionReason;

/// What picks need of their fleet after they were made.
pub(super) struct Shared {
    pub(super) epoch: Instant,
    pub(super) pool: Pool,
    pub(super) pulse: Pulse,
    pub(super) probe: Probe,
    /// What makes an outlier, while any rule does.
    pub(super) outlier: ArcSwapOption<OutlierConfig>,
    pub(super) measures_latency: AtomicBool,
    pub(super) is_timed: AtomicBool,
    /// Whether anybody failed since suspects were looked for.
    pub(super) suspicion: AtomicBool,
    /// The latest moment to which a member is overloaded; zero: none is.
    pub(super) overloaded_until: AtomicU64,
    pub(super) transitions: Weak<dyn Transitions>,
}

/// What a verdict can do to the fleet's members, and see of them.
pub(super) trait Transitions: Send + Sync {
    /// Does something to the seat of a connection. Returns whether the next deadline moved earlier.
    fn befalls(&self, record: &Record, what: Transition, now: u64) -> bool;

    /// The members in play. Takes no lock that a transition needs.
    fn peers(&self, config: &OutlierConfig, now: u64) -> Peers;
}

pub(super) enum Transition {
    Lost,
    /// By a request that was picked then.
    Detected(EjectionReason, u64),
    Probed(Probed),
}

impl Shared {
    /// Nanoseconds since the fleet began; a time before that counts as its beginning.
    pub(super) fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }

    pub(super) fn instant(&self, moment: u64) -> Instant {
        self.epoch
            .checked_add(Duration::from_nanos(moment))
            .unwrap_or(self.epoch)
    }

    /// The same where somebody wants to know; else the beginning.
    pub(super) fn moment(&self, now: Instant) -> u64 {
        if self.reads_clock() {
            self.nanos(now)
        } else {
            0
        }
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

    pub(super) fn overloaded_until(&self, until: u64) {
        self.overloaded_until.fetch_max(until, AcqRel);
    }

    /// A slot that was taken now.
    pub(super) fn slot<S>(&self, holder: Hold<S>, moment: u64) -> Slot<Hold<S>> {
        if self.is_timed() {
            Slot::holding(holder, moment, self.pulse.wake(moment))
        } else {
            Slot::holding(holder, UNTIMED, false)
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

    pub(super) fn befalls(&self, record: &Record, what: Transition, now: u64) -> bool {
        self.transitions
            .upgrade()
            .is_some_and(|fleet| fleet.befalls(record, what, now))
    }
}
