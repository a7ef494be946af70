//! What the end of a request says of its member.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::member::{Record, Recorded};
use super::outlier;
use super::probe::Probed;
use super::slot::{FAILURE_COST, Slot, UNTIMED, nanos};

/// Longer answers count as this many times the fleet's mean latency. One that waited out a pause of the instance or of
/// the machine would else move the mean away from everybody; and at fifteen, one among thirty ordinary answers leaves
/// its member within the band that counts as ordinary, two do not.
const SLOWEST: f32 = 15.0;
/// Shorter latencies count as this, in nanoseconds: what differs below is the doing of the pick and of the clock.
const FINEST: f32 = 1_000.0;

const OVERLOAD_DEFAULT: Duration = Duration::from_secs(1);
const OVERLOAD_MAX: Duration = Duration::from_secs(60);

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Success,
    Failure,
    Cancelled,
    Neutral,
    Unsent,
    Overloaded(Option<Duration>),
}

impl<H: Recorded> Slot<H> {
    /// Gives a verdict, once, by a pick that is about to be dropped. Returns whether the fleet's next deadline moved
    /// earlier.
    pub(crate) fn judge(&mut self, verdict: Verdict, now: Instant) -> bool {
        let now = self.record().shared.nanos(now);
        match verdict {
            Verdict::Success | Verdict::Failure | Verdict::Cancelled if !self.counts(now) => false,
            Verdict::Success => self.succeed(now),
            Verdict::Failure => self.fail(false, now),
            Verdict::Cancelled => self.give_up(now),
            Verdict::Neutral => false,
            Verdict::Unsent => {
                let record = self.record();
                record.shared.lost(record, now)
            }
            Verdict::Overloaded(duration) => {
                let record = self.record();
                let Record { stats, shared, .. } = record;
                stats.answers(now);
                let duration = duration.unwrap_or(OVERLOAD_DEFAULT).min(OVERLOAD_MAX);
                let until = now.saturating_add(nanos(duration));
                stats.overloaded_until(until);
                shared.overloaded_until(until);
                // A member that says so is alive. As long as it probes, it would be asked before any other one.
                let is_probe = self.probe.is_some_and(|probe| shared.probe.end(probe));
                is_probe && shared.probed(record, Probed::Success(self.latency(now)), now)
            }
        }
    }

    /// Whether this pick may judge its member: not one from before the member left play or came back, no probe that was
    /// given up, and none that spans a standstill of our own.
    fn counts(&self, now: u64) -> bool {
        let Record { stats, shared, .. } = self.record();
        let known = match self.probe {
            Some(probe) => shared.probe.end(probe),
            None => stats.is_judged_by(self.picked_at),
        };
        known && !shared.pulse.stood(self.picked_at, now)
    }

    fn succeed(&mut self, now: u64) -> bool {
        self.release();
        let record = self.record();
        let Record { stats, shared, .. } = record;
        if self.probe.is_some() {
            return shared.probed(record, Probed::Success(self.latency(now)), now);
        }
        stats.succeeded(now);
        if shared.is_timed() {
            self.record_latency(now);
        }
        false
    }

    /// `unanswered`: not by an answer, but by a caller that waited for nothing.
    fn fail(&mut self, unanswered: bool, now: u64) -> bool {
        self.release();
        let record = self.record();
        let Record { stats, shared, .. } = record;
        if shared.is_timed() {
            shared.pool.failure(now);
        }
        if !unanswered {
            stats.answers(now);
            self.record_failure(now);
        }
        if self.probe.is_some() {
            let outcome = if unanswered {
                Probed::Unanswered
            } else {
                Probed::Failure
            };
            return shared.probed(record, outcome, now);
        }
        let run = stats.failed(self.picked_at, now);
        let Some(config) = shared.outlier.load_full() else {
            return false;
        };
        shared.suspect();
        match outlier::detect(record, &config, run, unanswered, now) {
            Some(reason) => shared.detected(record, reason, now),
            None => false,
        }
    }

    /// The caller went away.
    fn give_up(&mut self, now: u64) -> bool {
        let Record { stats, shared, .. } = self.record();
        if self.latency.is_some() {
            return match self.probe {
                // It did answer: what a caller does not want to read to the end is no fault of it.
                Some(_) => self.succeed(now),
                None => {
                    self.record_wait(now);
                    false
                }
            };
        }
        let waited = now.saturating_sub(self.picked_at);
        let answered_since = stats.answered_at() > self.picked_at;
        let mean = shared.pool.mean();
        let mut unanswered = shared.outlier.load().as_ref().is_some_and(|config| {
            let least = nanos(config.unanswered_after());
            outlier::unanswered(waited, least, mean, answered_since)
        });
        self.record_wait(now);
        if self.probe.is_some() && !answered_since {
            unanswered |= shared.probe.is_silent_for(waited, mean);
        }
        unanswered && self.fail(true, now)
    }

    /// Gives the slot back with an outcome.
    fn release(&mut self) {
        if std::mem::replace(&mut self.armed, false) {
            self.record().stats.release();
        }
    }

    fn latency(&self, now: u64) -> u64 {
        self.latency
            .map_or_else(|| now.saturating_sub(self.picked_at), NonZeroU64::get)
    }

    fn record_failure(&self, now: u64) {
        let Record { stats, shared, .. } = self.record();
        let mean = shared.pool.mean();
        if shared.measures_latency() && mean > 0.0 {
            stats.latency().record(FAILURE_COST * mean, now);
        }
    }

    /// A wait longer than the member's latency is evidence of at least that latency.
    fn record_wait(&self, now: u64) {
        let Record { stats, shared, .. } = self.record();
        let mean = shared.pool.mean();
        if !shared.measures_latency() {
            return;
        }
        if self.latency.is_some() {
            self.record_latency(now);
        } else if mean > 0.0 {
            let waited = now.saturating_sub(self.picked_at) as f32;
            if waited > stats.latency().read(now, mean) {
                stats.latency().record(waited.min(FAILURE_COST * mean), now);
            }
        }
    }

    fn record_latency(&self, now: u64) {
        if self.picked_at == UNTIMED {
            return;
        }
        let Record { stats, shared, .. } = self.record();
        let latency = self.latency(now);
        let mean = shared.pool.mean();
        if mean > 0.0 {
            let latency = (latency as f32).clamp(FINEST, (SLOWEST * mean).max(FINEST));
            if shared.measures_latency() {
                stats.latency().record(latency, now);
            }
            shared.pool.success(latency as u64, now);
        } else {
            shared.pool.success(latency.max(FINEST as u64), now);
        }
    }
}
