//! What the end of a request says of its member.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::labels::Label;
use super::member::{Record, Recorded};
use super::outlier;
use super::shared::Transition;
use super::slot::{FAILURE_COST, Slot, UNTIMED, nanos};
use super::trial::{Token, TrialEnd};

/// Longer answers count as this many times the fleet's mean latency. One that waited out a pause of the instance or of
/// the machine would else move the mean away from everybody; and at fifteen, one among thirty ordinary answers leaves
/// its member within the band that counts as ordinary, two do not.
const SLOWEST: f32 = 15.0;
/// Shorter latencies count as this, in nanoseconds: what differs below is the doing of the pick and of the clock.
const FINEST: f32 = 1_000.0;

/// What counts as the mean latency, in nanoseconds, of callers that go away while it is unknown.
const UNKNOWN_MEAN: f32 = 50e6;

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
        let trial = self.trial.take();
        if !self.let_go() {
            return false;
        }
        let record = self.holder.record();
        let knows_time =
            self.reads_clock() || matches!(verdict, Verdict::Unsent | Verdict::Overloaded(_));
        let end = End {
            record,
            picked_at: self.picked_at,
            latency: self.latency,
            heard: self.is_heard(),
            label: self.label(),
            // One that was given up, or whose member moved, is none any more.
            is_late: trial.is_some_and(|trial| !record.stats.trial().end(trial)),
            trial,
            now: if knows_time {
                record.shared.nanos(now)
            } else {
                0
            },
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
    /// The label of a failure, if it has one.
    label: Label,
    trial: Option<Token>,
    /// Whether its trial was over before.
    is_late: bool,
    /// The beginning of the fleet's time if the pick was made without reading a clock.
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
                self.give_token_back();
                stats.release_unjudged();
                false
            }
            Verdict::Unsent => {
                self.give_token_back();
                stats.release_unjudged();
                self.apply(Transition::Lost)
            }
            Verdict::Overloaded(duration) => {
                stats.release_unjudged();
                stats.answers(self.now);
                let duration = duration.unwrap_or(OVERLOAD_DEFAULT).min(OVERLOAD_MAX);
                let until = self.now.saturating_add(nanos(duration));
                stats.overloaded_until(until);
                shared.overloaded_until(until);
                self.give_token_back();
                // A member that says so is alive.
                self.trial.is_some()
                    && !self.is_late
                    && self.tried(TrialEnd::Success(self.latency()))
            }
        }
    }

    /// A trial that did no harm costs nothing.
    fn give_token_back(&self) {
        if let Some(trial) = self.trial.filter(|_| !self.is_late) {
            self.record.shared.trials.give_back(trial);
        }
    }

    fn tried(&self, end: TrialEnd) -> bool {
        self.apply(Transition::Tried(end))
    }

    fn apply(&self, what: Transition) -> bool {
        self.record
            .shared
            .apply_transition(self.record, what, self.now)
    }

    /// Whether this pick says anything of its member: not one from before the member left play or came back, no trial that was
    /// given up, and none that spans a stall of our own. In panic mode those that are out are picked from, and what
    /// they answer moves their load and is counted, though it ejects nobody and brings nobody back.
    fn counts(&self) -> bool {
        let Record { stats, shared, .. } = self.record;
        let known = match self.trial {
            Some(_) => !self.is_late,
            // Without a time it cannot be ordered against an ejection; it counts only where nobody is ejected.
            None if self.picked_at == UNTIMED => return !shared.is_timed(),
            None => stats.accepts_evidence_from(self.picked_at),
        };
        known && !shared.pulse.spans_stall(self.picked_at, self.now)
    }

    fn succeed(&self) -> bool {
        let stats = &self.record.stats;
        stats.release();
        if self.trial.is_some() {
            self.give_token_back();
            return self.tried(TrialEnd::Success(self.latency()));
        }
        stats.succeeded(self.now);
        if self.picked_at != UNTIMED {
            self.record_latency();
        }
        false
    }

    /// `unanswered`: the caller or a time limit gave up before any response.
    fn fail(&self, unanswered: bool) -> bool {
        let (record, now) = (self.record, self.now);
        let Record { stats, shared, .. } = record;
        stats.release();
        let label = match unanswered {
            true => Label::UNANSWERED,
            false => self.label,
        };
        if self.picked_at != UNTIMED {
            if !unanswered {
                stats.answers(now);
                self.record_failure();
            }
            shared.pool.failure(now);
        }
        if self.trial.is_some() {
            stats.label_failure(label);
            let end = if unanswered {
                TrialEnd::Unanswered
            } else {
                TrialEnd::Failure
            };
            return self.tried(end);
        }
        let run = stats.failed(self.picked_at, label, now);
        let Some(config) = shared.outlier.load_full().filter(|_| !stats.is_out()) else {
            return false;
        };
        shared.suspect();
        match outlier::detect(record, &config, run, unanswered, now) {
            Some(reason) => {
                let reason = reason.labelled(shared.labels.text(label));
                self.apply(Transition::Detected(reason, self.picked_at))
            }
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
            if self.trial.is_none() && stats.fails_since(answered_at, self.now) {
                stats.release_unjudged();
                return false;
            }
            return self.succeed();
        }
        let waited = self.now.saturating_sub(self.picked_at);
        let answered = self.heard || stats.answered_at() > self.picked_at;
        let unanswered = self.picked_at != UNTIMED
            && shared.outlier.load().as_ref().is_some_and(|config| {
                let least = nanos(config.unanswered_after());
                outlier::unanswered(waited, least, shared.pool.mean(), answered)
            });
        if self.picked_at != UNTIMED {
            self.record_wait();
        }
        if unanswered {
            return self.fail(true);
        }
        stats.release_unjudged();
        if self.trial.is_none() {
            return false;
        }
        // In less than the mean latency nobody could have answered.
        let mean = shared.pool.mean();
        let least = if mean > 0.0 { mean } else { UNKNOWN_MEAN };
        if !answered && waited as f32 >= least {
            return self.tried(TrialEnd::Silent(waited));
        }
        self.give_token_back();
        false
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
        let (now, Record { stats, shared, .. }) = (self.now, self.record);
        let latency = self.latency();
        let mean = shared.pool.mean();
        if mean > 0.0 {
            let latency = (latency as f32).clamp(FINEST, (SLOWEST * mean).max(FINEST));
            if shared.measures_latency() {
                // One that waited while another one did is not another sample.
                if self.picked_at >= stats.latency().stamp() {
                    stats.typical().record(latency, mean);
                }
                stats.latency().record(latency, now);
            }
            shared.pool.success(latency as u64, now);
        } else {
            shared.pool.success(latency.max(FINEST as u64), now);
        }
    }
}
