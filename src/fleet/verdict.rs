//! What the end of a request says about its member.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::measures::latency::{FAILURE_COST, sample};
use super::members::member::Record;
use super::rules::outlier::Evidence;
use super::rules::trial::{Token, TrialEnd};
use super::rules::unresponsive::is_one_event;
use super::rules::{overload, unresponsive};
use super::shared::{InFleet, Report, Shared};
use super::slot::Slot;
use super::time::{UNTIMED, nanos};

/// The mean latency assumed while it is unknown, in nanoseconds, when a caller goes away.
const UNKNOWN_MEAN: f32 = 50e6;

/// The label of a failure without a response.
const UNANSWERED: &str = "no answer";

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Success,
    Failure,
    /// No response came within the time limit that the program set for an attempt.
    Unanswered,
    Cancelled,
    Neutral,
    Unsent,
    /// The request went to another member, since this one's service was not ready. It was no pick after all.
    Unused,
    Overloaded(Option<Duration>),
}

impl<H: InFleet> Slot<H> {
    /// Applies the verdict of a pick that is about to be dropped; only the first one counts. Returns whether the fleet's
    /// next deadline moved earlier.
    pub(crate) fn judge(&mut self, verdict: Verdict, now: Instant) -> bool {
        let trial = self.trial.take();
        if !self.let_go() {
            return false;
        }
        let (record, shared) = self.holder.parts();
        let knows_time =
            self.reads_clock() || matches!(verdict, Verdict::Unsent | Verdict::Overloaded(_));
        let end = End {
            record,
            shared,
            picked_at: self.picked_at,
            latency: self.latency,
            heard: self.is_heard(),
            is_labelled: self.is_labelled(),
            is_late: trial.is_some_and(|trial| !record.stats.trial().judge(trial)),
            trial,
            now: if knows_time { shared.nanos(now) } else { 0 },
        };
        end.judge(verdict)
    }
}

/// A pick at its end. Every verdict gives its slot back exactly once, with or without an outcome.
struct End<'a> {
    record: &'a Record,
    shared: &'a Shared,
    picked_at: u64,
    latency: Option<NonZeroU64>,
    heard: bool,
    is_labelled: bool,
    trial: Option<Token>,
    /// Whether its trial had already ended: it was given up, or its member was ejected, restored or got a new address.
    is_late: bool,
    /// Zero, the start of the fleet's clock, if the pick was made without reading a clock.
    now: u64,
}

impl End<'_> {
    fn judge(&self, verdict: Verdict) -> bool {
        let stats = &self.record.stats;
        match verdict {
            Verdict::Success if self.counts() => {
                stats.answers(self.now);
                self.succeed()
            }
            Verdict::Failure if self.counts() => self.fail(false),
            // A wait over the program's own limit counts, even if the fleet would consider it short.
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
                self.end_trial();
                stats.release_unjudged();
                false
            }
            Verdict::Unsent => {
                self.end_trial();
                stats.release_unjudged();
                self.report(Report::Lost)
            }
            Verdict::Unused => {
                self.end_trial();
                stats.release_unused();
                false
            }
            Verdict::Overloaded(duration) => {
                stats.release_unjudged();
                stats.answers(self.now);
                let until = overload::ends_at(duration, self.now);
                stats.overload().extend(until);
                self.shared.overload.extend(until);
                // A member that reports overload is alive.
                let alive = TrialEnd::Success(self.latency());
                self.report_trial(alive)
            }
        }
    }

    /// Ends a trial without a verdict. It did no harm, so its token is given back.
    fn end_trial(&self) {
        if let Some(trial) = self.trial.filter(|_| !self.is_late)
            && self.record.stats.trial().settle(trial)
        {
            self.shared.tokens.give_back(trial);
        }
    }

    /// Reports the end of a trial. Returns whether the next deadline moved earlier; false if the pick is not a trial.
    fn report_trial(&self, end: TrialEnd) -> bool {
        let trial = self.trial.filter(|_| !self.is_late);
        trial.is_some_and(|trial| self.report(Report::Tried { trial, end }))
    }

    fn report(&self, report: Report) -> bool {
        self.shared.report(self.record, report, self.now)
    }

    /// Whether this pick is evidence about its member. It is not if it was made before the member's last ejection or
    /// return, if it is a trial that was given up, or if it spans a stall of this process. In panic mode, ejected members
    /// are picked, too: their outcomes change their load and are counted, but eject no member and return none.
    fn counts(&self) -> bool {
        let known = match self.trial {
            Some(_) => !self.is_late,
            // A pick without a timestamp cannot be ordered against an ejection; it counts while no member is ejected.
            None if self.picked_at == UNTIMED => return !self.shared.is_timed(),
            None => self.record.stats.accepts_evidence_from(self.picked_at),
        };
        known && !self.shared.stalls.spans_stall(self.picked_at, self.now)
    }

    fn succeed(&self) -> bool {
        let stats = &self.record.stats;
        stats.release();
        if self.trial.is_some() {
            return self.report_trial(TrialEnd::Success(self.latency()));
        }
        stats.succeeded(self.now);
        if self.picked_at != UNTIMED {
            self.record_latency();
        }
        false
    }

    /// `unanswered`: the caller or a time limit gave up before any response.
    fn fail(&self, unanswered: bool) -> bool {
        let (stats, shared, now) = (&self.record.stats, self.shared, self.now);
        stats.release();
        if unanswered {
            stats.label().set(Some(UNANSWERED));
        } else if !self.is_labelled {
            stats.label().set(None);
        }
        if self.picked_at != UNTIMED {
            if !unanswered {
                stats.answers(now);
                self.record_failure();
            }
            shared.pool.failure(now);
        }
        if self.trial.is_some() {
            return self.report_trial(if unanswered {
                TrialEnd::Unanswered
            } else {
                TrialEnd::Failure
            });
        }
        let config = shared.outlier.load_full();
        let since_stall = shared.stalls.since_stall(now);
        let weight = f32::from(self.record.instance.weight().get());
        let record = stats.failed(self.picked_at, weight, now, |run| {
            let floor = config.as_ref().map(|config| config.failures_in_row());
            unanswered && is_one_event(run, floor, since_stall, now)
        });
        let Some(config) = config.filter(|_| !stats.is_out()) else {
            return false;
        };
        shared.suspect();
        if !record.looks_bad(&config) || stats.cooldown().is_on(now) {
            return false;
        }
        let evidence = Evidence {
            record,
            unanswered,
            since_stall,
            mean: shared.pool.mean(),
            now,
        };
        let picked_at = self.picked_at;
        self.report(Report::LooksBad {
            evidence,
            picked_at,
        })
    }

    /// The caller went away.
    fn give_up(&self) -> bool {
        let (stats, shared) = (&self.record.stats, self.shared);
        if let Some(latency) = self.latency {
            // The member answered at that time, not now. It is not at fault if the caller does not read the whole body, but
            // this must not end a run of failures that began since.
            let answered_at = self.picked_at.saturating_add(latency.get());
            if self.trial.is_none() && stats.fails_since(answered_at, self.now) {
                stats.release_unjudged();
                return false;
            }
            return self.succeed();
        }
        let waited = self.now.saturating_sub(self.picked_at);
        let answered = self.heard || stats.answered_at() > self.picked_at;
        let mean = shared.pool.mean();
        let unanswered = self.picked_at != UNTIMED
            && shared.outlier.load().as_ref().is_some_and(|config| {
                let least = nanos(config.unanswered_after());
                unresponsive::unanswered(waited, least, mean, answered)
            });
        if self.picked_at != UNTIMED {
            self.record_wait();
        }
        if unanswered {
            return self.fail(true);
        }
        stats.release_unjudged();
        // In less than the mean latency no member could have been expected to answer.
        let least = if mean > 0.0 { mean } else { UNKNOWN_MEAN };
        if !answered && waited as f32 >= least {
            let silent = TrialEnd::Silent(waited);
            return self.report_trial(silent);
        }
        self.end_trial();
        false
    }

    fn latency(&self) -> u64 {
        let until_now = || self.now.saturating_sub(self.picked_at);
        self.latency.map_or_else(until_now, NonZeroU64::get)
    }

    fn record_failure(&self) {
        let mean = self.shared.pool.mean();
        if self.shared.measures_latency() && mean > 0.0 {
            let latency = self.record.stats.latency();
            latency.record(FAILURE_COST * mean, self.now);
        }
    }

    /// A wait longer than the member's latency is evidence of at least that latency.
    fn record_wait(&self) {
        let mean = self.shared.pool.mean();
        if self.shared.measures_latency() && mean > 0.0 {
            let latency = self.record.stats.latency();
            let waited = self.now.saturating_sub(self.picked_at) as f32;
            if waited > latency.read(self.now, mean) {
                latency.record(waited.min(FAILURE_COST * mean), self.now);
            }
        }
    }

    fn record_latency(&self) {
        let (stats, now) = (&self.record.stats, self.now);
        let mean = self.shared.pool.mean();
        let sample = sample(self.latency(), mean);
        if mean > 0.0 && self.shared.measures_latency() {
            // Requests that were in flight at the same time are one sample.
            if self.picked_at >= stats.latency().stamp() {
                stats.typical().record(sample, mean);
            }
            stats.latency().record(sample, now);
        }
        self.shared.pool.success(sample as u64, now);
    }
}
