//! When whom to dial.

use super::super::rng::unit;
use super::super::seat::Link;
use super::super::slot::nanos;
use super::{Dial, Roster, Ticket};
use crate::model::instance::InstanceId;

/// Longest wait between dials while nothing is usable.
const URGENT: u64 = 500_000_000;
/// Longest wait after a dial that failed for want of something in this process: whoever lacks it lacks it for all members,
/// and is well for all of them again.
const LOCAL_FAULT: u64 = 1_000_000_000;
impl<S> Roster<S> {
    pub(super) fn dial(&mut self, index: usize) -> Dial {
        self.cancel_dial(index);
        self.generation += 1;
        let generation = self.generation;
        let seat = &mut self.seats[index];
        seat.link = Link::Dialling { generation };
        let instance = seat.instance.clone();
        let id = instance.id().clone();
        Dial {
            ticket: Ticket { id, generation },
            instance,
            is_redial: seat.attempts > 0 || seat.error.is_some(),
        }
    }

    /// Lets a seat wait for its next dial, and returns how long.
    pub(super) fn retry(&mut self, index: usize, now: u64) -> u64 {
        let backoff = self.config.connect_backoff();
        let attempts = self.seats[index].attempts;
        let longest = match attempts {
            0 => 0,
            1.. => nanos(backoff.base())
                .saturating_mul(1 << (attempts - 1).min(32))
                .min(nanos(backoff.max())),
        };
        self.retry_within(index, longest, now)
    }

    /// The same after a dial that says nothing of its instance.
    pub(super) fn retry_soon(&mut self, index: usize, now: u64) -> u64 {
        let longest = nanos(self.config.connect_backoff().max()).min(LOCAL_FAULT);
        self.retry_within(index, longest, now)
    }

    fn retry_within(&mut self, index: usize, longest: u64, now: u64) -> u64 {
        let wait = self.jittered(longest);
        self.wait(index, now.saturating_add(wait));
        wait
    }

    /// A full jitter: uniform from zero up, and short while nothing is usable.
    fn jittered(&mut self, longest: u64) -> u64 {
        let longest = if self.list.is_empty() {
            longest.min(URGENT)
        } else {
            longest
        };
        (unit(&mut self.rng) * longest as f64) as u64
    }

    fn wait(&mut self, index: usize, until: u64) {
        self.cancel_dial(index);
        let seat = &mut self.seats[index];
        seat.link = Link::Waiting { until };
        self.retries.insert((until, seat.instance.id().clone()));
    }

    pub(super) fn cancel_dial(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        let id = seat.instance.id();
        match std::mem::replace(&mut seat.link, Link::Idle) {
            Link::Idle => {}
            Link::Waiting { until } => {
                self.retries.remove(&(until, id.clone()));
            }
            Link::Dialling { generation } => {
                let id = id.clone();
                self.cancelled.push(Ticket { id, generation });
            }
        }
    }

    /// Shortens long waits when the last usable member has just gone.
    pub(super) fn hasten(&mut self, now: u64) {
        if !self.list.is_empty() || self.unusable_since.is_some() {
            return;
        }
        let late = (now.saturating_add(URGENT), InstanceId::from(""));
        for (_, id) in self.retries.split_off(&late) {
            if let Some(index) = self.find(&id) {
                self.seats[index].link = Link::Idle;
                let wait = self.jittered(URGENT);
                self.wait(index, now.saturating_add(wait));
            }
        }
    }
}
