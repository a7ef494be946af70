//! What the end of a request says of its member.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::member::{Record, Recorded};
use super::outlier;
use super::probe::{Probed, Token};
use super::shared::Transition;
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
    /// No answer came within the time that the program gives an attempt.
    Unanswered,
    Cancelled,
    Neutral,
    Unsent,
    Overloaded(Option<Duration>),
}

impl<H: Recorded> Slot<H> {
    /// Gives a verdict, once, by a pick that is about to be dropped. Returns whether the fleet's next deadline moved
    /// earlier.
    pub(crate) fn judge(&mut self, verdict: Verdict, now: Instant) -> bool {
        let probe = self.probe.take();
        if !self.let_go() {
            return false;
        }
        let record = self.holder.record();
        let now = match verdict {
            Verdict::Unsent | Verdict::Overloaded(_) => record.shared.nanos(now),
            _ => record.shared.moment(now),
        };
        let end = End {
            record,
            picked_at: self.picked_at,
            latency: self.latency,
            heard: self.is_heard(),
            probe,
            now,
        };
        end.judge(verdict)
    }
}

/// A pick at its end. However it is judged, its slot is given back once: with an outcome, or without.
struct End<'a> {
    record: &'a Record,
    picked_at: u64,
    latency: Option<NonZeroU64>,
    heard: bool,
    probe: Option<Token>,
    now: u64,
}

impl End<'_> {
    fn judge(&self, verdict: Verdict) -> bool {
        let Record { stats, shared, .. } = self.record;
        match verdict {
            Verdict::Success if self.counts() => {
                stats.answers(self.now);
                self.succeed()
            }
            Verdict::Failure if self.counts() => self.fail(false),
            // A wait that the program calls too long counts, however short it is by the fleet's own standard.
            Verdict::Unanswered if self.counts() => {
                self.record_wait();
                self.fail(true)
            }
            Verdict::Cancelled if self.counts() => self.give_up(),
            Verdict::Success
            | Verdict::Failure
            | Verdict::Unanswered
            | Verdict::Cancelled
            | Verdict::Neutral => {
                self.end_probe();
                stats.release_unjudged();
                false
            }
            Verdict::Unsent => {
                self.end_probe();
                stats.release_unjudged();
                self.befalls(Transition::Lost)
            }
            Verdict::Overloaded(duration) => {
                stats.release_unjudged();
                stats.answers(self.now);
                let duration = duration.unwrap_or(OVERLOAD_DEFAULT).min(OVERLOAD_MAX);
                let until = self.now.saturating_add(nanos(duration));
                stats.overloaded_until(until);
                shared.overloaded_until(until);
                // A member that says so is alive. As long as it probes, it would be asked before any other one.
                self.end_probe() && self.probed(Probed::Success(self.latency()))
            }
        }
    }

    /// Makes room for the next probe. Returns whether this was the one in flight.
    fn end_probe(&self) -> bool {
        self.probe
            .is_some_and(|probe| self.record.shared.probe.end(probe))
    }

    fn probed(&self, outcome: Probed) -> bool {
        self.befalls(Transition::Probed(outcome))
    }

    fn befalls(&self, what: Transition) -> bool {
        self.record.shared.befalls(self.record, what, self.now)
    }

    /// Whether this pick says anything of its member: not one from before the member left play or came back, no probe that was
    /// given up, and none that spans a standstill of our own. In panic mode those that are out are picked from, and what
    /// they answer moves their load and is counted, though it ejects nobody and brings nobody back.
    fn counts(&self) -> bool {
        let Record { stats, shared, .. } = self.record;
        let known = match self.probe {
            Some(_) => self.end_probe(),
            // Nobody knows whether it was before or after, once it matters.
            None if self.picked_at == UNTIMED => !shared.is_timed(),
            None => stats.is_told_by(self.picked_at),
        };
        known && !shared.pulse.stood(self.picked_at, self.now)
    }

    fn succeed(&self) -> bool {
        let Record { stats, shared, .. } = self.record;
        stats.release();
        if self.probe.is_some() {
            return self.probed(Probed::Success(self.latency()));
        }
        stats.succeeded(self.now);
        if shared.is_timed() {
            self.record_latency();
        }
        false
    }

    /// `unanswered`: not by an answer, but by a caller or a time limit that waited for nothing.
    fn fail(&self, unanswered: bool) -> bool {
        let (record, now) = (self.record, self.now);
        let Record { stats, shared, .. } = record;
        stats.release();
        if shared.is_timed() {
            shared.pool.failure(now);
        }
        if !unanswered {
            stats.answers(now);
            self.record_failure();
        }
        if self.probe.is_some() {
            let outcome = if unanswered {
                Probed::Unanswered
            } else {
                Probed::Failure
            };
            return self.probed(outcome);
        }
        let run = stats.failed(self.picked_at, now);
        let Some(config) = shared.outlier.load_full().filter(|_| !stats.is_out()) else {
            return false;
        };
        shared.suspect();
        match outlier::detect(record, &config, run, unanswered, now) {
            Some(reason) => self.befalls(Transition::Detected(reason, self.picked_at)),
            None => false,
        }
    }

    /// The caller went away.
    fn give_up(&self) -> bool {
        let Record { stats, shared, .. } = self.record;
        if let Some(latency) = self.latency {
            // It did answer, then and not now: what a caller does not want to read to the end is no fault of it, and ends no
            // run of failures since.
            let answered_at = self.picked_at.saturating_add(latency.get());
            if self.probe.is_none() && stats.fails_since(answered_at, self.now) {
                stats.release_unjudged();
                return false;
            }
            return self.succeed();
        }
        let waited = self.now.saturating_sub(self.picked_at);
        let answered = self.heard || stats.answered_at() > self.picked_at;
        let unanswered = shared.outlier.load().as_ref().is_some_and(|config| {
            let least = nanos(config.unanswered_after());
            outlier::unanswered(waited, least, shared.pool.mean(), answered)
        });
        self.record_wait();
        if unanswered {
            return self.fail(true);
        }
        stats.release_unjudged();
        // In less than the mean latency nobody could have answered.
        let silent = !answered && waited as f32 >= shared.pool.mean();
        self.probe.is_some() && silent && self.probed(Probed::Silent(waited))
    }

    fn latency(&self) -> u64 {
        let until_now = || self.now.saturating_sub(self.picked_at);
        self.latency.map_or_else(until_now, NonZeroU64::get)
    }

    fn record_failure(&self) {
        let Record { stats, shared, .. } = self.record;
        let mean = shared.pool.mean();
        if shared.measures_latency() && mean > 0.0 {
            stats.latency().record(FAILURE_COST * mean, self.now);
        }
    }

    /// A wait longer than the member's latency is evidence of at least that latency.
    fn record_wait(&self) {
        let (now, Record { stats, shared, .. }) = (self.now, self.record);
        let mean = shared.pool.mean();
        if shared.measures_latency() && mean > 0.0 {
            let waited = now.saturating_sub(self.picked_at) as f32;
            if waited > stats.latency().read(now, mean) {
                stats.latency().record(waited.min(FAILURE_COST * mean), now);
            }
        }
    }

    fn record_latency(&self) {
        if self.picked_at == UNTIMED {
            return;
        }
        let (now, Record { stats, shared, .. }) = (self.now, self.record);
        let latency = self.latency();
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
