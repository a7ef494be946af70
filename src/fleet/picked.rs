//! A pick: a member chosen for one request, until the request ends.

use std::fmt;
use std::time::{Duration, Instant};

use super::members::member::MemberRef;
use super::shared::Bound;
use super::slot::Slot;
use super::verdict::Verdict;
use crate::model::instance::Instance;

/// A member chosen for one request: holds its slot until it is dropped.
///
/// One of the verdicts says how the request ended; each returns `true` if
/// [`Fleet::next_deadline`](super::Fleet::next_deadline) moved earlier by it. Dropped without a verdict, it judges
/// nobody.
///
/// A pick outlives what happens to its member meanwhile, also the fleet itself.
#[must_use = "a dropped pick gives its slot back"]
pub struct Pick<S>(pub(crate) Slot<MemberRef<Bound<S>>>);

impl<S> Pick<S> {
    /// The picked instance, as it was announced when its connection was dialled: id and address are what they are,
    /// weight, availability and metadata may be older than the newest announcement.
    pub fn instance(&self) -> &Instance {
        self.0.instance()
    }

    /// What was handed to [`Fleet::connected`](super::Fleet::connected) for it.
    pub fn service(&self) -> &S {
        self.0.holder.service()
    }

    /// Whether [`Fleet::next_deadline`](super::Fleet::next_deadline) may have moved earlier by this pick: it is the first
    /// one after a rest.
    pub fn moves_deadline(&self) -> bool {
        self.0.moves_deadline()
    }

    /// Whether verdicts use their `now` at all. They do if the pick was made while [`Fleet::reads_clock`](super::Fleet::reads_clock)
    /// was true; if not, any instant will do for `success`, `failure`, `cancelled` and `answered`.
    pub fn reads_clock(&self) -> bool {
        self.0.reads_clock()
    }

    /// Stamps the latency now and keeps the slot: the answer has begun, its body is still to come. The first stamp
    /// counts.
    pub fn answered(&mut self, now: Instant) {
        self.0.answered(now);
    }

    /// The request was answered well.
    pub fn success(mut self, now: Instant) -> bool {
        self.0.judge(Verdict::Success, now)
    }

    /// The request was answered badly: costs the member twenty times the fleet's mean latency, whatever it took.
    pub fn failure(mut self, now: Instant) -> bool {
        self.0.judge(Verdict::Failure, now)
    }

    /// The same, under a label of a few words such as `"503"`: status and reasons of ejection show it.
    pub fn failure_labelled(mut self, label: &'static str, now: Instant) -> bool {
        self.0.label_failure(label);
        self.0.judge(Verdict::Failure, now)
    }

    /// The caller went away. A wait that was longer than the member's latency is evidence of at least that latency; a
    /// shorter one is none (hedged requests, closed browsers). After [`answered`](Self::answered) it is a success, unless the
    /// member has failed since: what a caller does not want to read to the end is no fault of the instance.
    pub fn cancelled(mut self, now: Instant) -> bool {
        self.0.judge(Verdict::Cancelled, now)
    }

    /// Frees the slot and judges nobody.
    pub fn neutral(self) -> bool {
        false
    }

    /// The request never left: the connection it was picked for is lost and is dialled again. Its successor, if there
    /// is one already, is not touched.
    pub fn unsent(mut self, now: Instant) -> bool {
        self.0.judge(Verdict::Unsent, now)
    }

    /// The instance said that it has too much to do: its load reads twenty times as high for `duration` (default 1 s,
    /// at most 60 s). A trial counts it as an answer: the member returns, with that load.
    pub fn overloaded(mut self, duration: Option<Duration>, now: Instant) -> bool {
        self.0.judge(Verdict::Overloaded(duration), now)
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
