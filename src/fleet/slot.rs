//! One request's hold on a member: from the pick to the verdict.

use std::fmt;
use std::time::{Duration, Instant};

use super::member::{Hold, Record, Recorded};
use crate::Instance;

/// A failure costs this many times the fleet's mean latency, whatever it took.
const FAILURE_COST: f32 = 20.0;
/// Longer answers count as this many times the fleet's mean latency. One that waited out a pause of the instance or of
/// the machine would else move the mean away from everybody; and at fifteen, one among thirty ordinary answers leaves
/// its member within the band that counts as ordinary, two do not.
const SLOWEST: f32 = 15.0;
/// Shorter latencies count as this, in nanoseconds: what differs below is the doing of the pick and of the clock.
const FINEST: f32 = 1_000.0;

const OVERLOAD_DEFAULT: Duration = Duration::from_secs(1);
const OVERLOAD_MAX: Duration = Duration::from_secs(60);

/// The time of a pick that was made without looking at a clock: its latency is nobody's.
pub(super) const UNTIMED: u64 = u64::MAX;

/// A member chosen for one request: holds its slot until it is dropped.
///
/// One of the verdicts says how the request ended; each returns `true` if
/// [`Fleet::next_deadline`](super::Fleet::next_deadline) moved earlier by it. Dropped without a verdict, it judges
/// nobody.
///
/// A pick outlives what happens to its member meanwhile, also the fleet itself.
#[must_use = "a dropped pick gives its slot back"]
pub struct Pick<S>(pub(crate) Slot<Hold<S>>);

/// A pick by whatever keeps its member in being.
pub(crate) struct Slot<H: Recorded> {
    latency: Option<u64>,
    picked_at: u64,
    armed: bool,
    holder: H,
}

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

impl<S> Pick<S> {
    /// The picked instance, as it was announced when its connection was dialled: id and address are what they are,
    /// weight, availability and metadata may be older than the newest announcement.
    pub fn instance(&self) -> &Instance {
        self.0.instance()
    }

    /// What was handed to [`Fleet::connected`](super::Fleet::connected) for it.
    pub fn service(&self) -> &S {
        &self.0.holder.service
    }

    /// Whether verdicts use their `now` at all: not with [`Load::LeastInFlight`](super::Load::LeastInFlight), where
    /// any instant will do for `success`, `failure` and `answered`.
    pub fn reads_clock(&self) -> bool {
        self.0.reads_clock()
    }

    /// Stamps the latency now and keeps the slot: the answer has begun, its body is still to come. The first stamp
    /// counts.
    pub fn answered(&mut self, now: Instant) {
        self.0.answered(now);
    }

    /// The request was answered well.
    pub fn success(self, now: Instant) -> bool {
        self.0.judge(Verdict::Success, now)
    }

    /// The request was answered badly: costs the member twenty times the fleet's mean latency, whatever it took.
    pub fn failure(self, now: Instant) -> bool {
        self.0.judge(Verdict::Failure, now)
    }

    /// The caller went away. A wait that was longer than the member's latency is evidence of at least that latency; a
    /// shorter one is none (hedged requests, closed browsers). After [`answered`](Self::answered) it is the latency of
    /// the answer.
    pub fn cancelled(self, now: Instant) -> bool {
        self.0.judge(Verdict::Cancelled, now)
    }

    /// Frees the slot and judges nobody.
    pub fn neutral(self) -> bool {
        false
    }

    /// The request never left: the connection it was picked for is lost and is dialled again. Its successor, if there
    /// is one already, is not touched.
    pub fn unsent(self, now: Instant) -> bool {
        self.0.judge(Verdict::Unsent, now)
    }

    /// The instance said that it has too much to do: its load reads twenty times as high for `duration` (default 1 s,
    /// at most 60 s).
    pub fn overloaded(self, duration: Option<Duration>, now: Instant) -> bool {
        self.0.judge(Verdict::Overloaded(duration), now)
    }
}

impl<H: Recorded> Slot<H> {
    /// Of a member whose slot the caller has taken.
    pub(super) fn holding(holder: H, now: u64) -> Self {
        Self {
            latency: None,
            picked_at: now,
            armed: true,
            holder,
        }
    }

    /// The same pick by another holder of its member. What stays behind holds the member, but no slot, and is to be
    /// dropped.
    pub(crate) fn hand_over<T: Recorded>(&mut self, holder: impl FnOnce(&H) -> T) -> Slot<T> {
        Slot {
            latency: self.latency,
            picked_at: self.picked_at,
            holder: holder(&self.holder),
            armed: std::mem::replace(&mut self.armed, false),
        }
    }

    pub(crate) fn holder(&self) -> &H {
        &self.holder
    }

    pub(crate) fn instance(&self) -> &Instance {
        &self.record().instance
    }

    pub(crate) fn reads_clock(&self) -> bool {
        self.record().shared.reads_clock()
    }

    pub(crate) fn answered(&mut self, now: Instant) {
        let now = self.record().shared.nanos(now);
        self.latency
            .get_or_insert(now.saturating_sub(self.picked_at));
    }

    pub(super) fn record(&self) -> &Record {
        self.holder.record()
    }

    /// Whether both, of the same fleet, are of the same connection to the same instance.
    pub(crate) fn shares_member(&self, other: &Self) -> bool {
        self.record().generation == other.record().generation
    }

    /// Gives a verdict, once, by a pick that is about to be dropped.
    pub(crate) fn judge(&self, verdict: Verdict, now: Instant) -> bool {
        let Record { stats, shared, .. } = self.record();
        match verdict {
            Verdict::Success => {
                stats.succeeded();
                if shared.measures_latency() {
                    self.record_latency(shared.nanos(now));
                }
            }
            Verdict::Failure => {
                stats.failed();
                if shared.measures_latency() {
                    self.record_failure(shared.nanos(now));
                }
            }
            Verdict::Cancelled => {
                if shared.measures_latency() {
                    self.record_wait(shared.nanos(now));
                }
            }
            Verdict::Neutral => {}
            Verdict::Unsent => {
                let id = self.instance().id();
                return shared.lost(id, self.record().generation, now);
            }
            Verdict::Overloaded(duration) => {
                let duration = duration.unwrap_or(OVERLOAD_DEFAULT).min(OVERLOAD_MAX);
                let until = shared.nanos(now).saturating_add(nanos(duration));
                stats.overloaded_until(until);
                shared.overloaded_until(until);
            }
        }
        false
    }

    /// The beginning of the fleet's time: an instant for where no clock is read.
    pub(crate) fn epoch(&self) -> Instant {
        self.record().shared.epoch
    }

    fn record_failure(&self, now: u64) {
        let Record { stats, shared, .. } = self.record();
        let mean = shared.pool.mean();
        if mean > 0.0 {
            stats.latency().record(FAILURE_COST * mean, now);
        }
        shared.pool.failure(now);
    }

    fn record_wait(&self, now: u64) {
        let Record { stats, shared, .. } = self.record();
        let mean = shared.pool.mean();
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
        let latency = self
            .latency
            .unwrap_or_else(|| now.saturating_sub(self.picked_at));
        let mean = shared.pool.mean();
        if mean > 0.0 {
            let latency = (latency as f32).clamp(FINEST, (SLOWEST * mean).max(FINEST));
            stats.latency().record(latency, now);
            shared.pool.success(latency as u64, now);
        } else {
            shared.pool.success(latency.max(FINEST as u64), now);
        }
    }
}

/// Gives the slot back however the pick ends.
impl<H: Recorded> Drop for Slot<H> {
    fn drop(&mut self) {
        if self.armed {
            self.record().stats.release();
        }
    }
}

impl<S> fmt::Debug for Pick<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pick")
            .field("instance", self.instance())
            .field("latency", &self.0.latency)
            .finish_non_exhaustive()
    }
}

/// Whole nanoseconds; about 584 years at most.
pub(super) fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(duration.subsec_nanos()))
}
