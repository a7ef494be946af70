//! A pick: a member chosen for one request, until the request ends.

use std::fmt;
use std::time::{Duration, Instant};

use super::members::member::MemberRef;
use super::shared::Bound;
use super::slot::Slot;
use super::verdict::Verdict;
use crate::model::instance::Instance;

/// A member chosen for one request. Holds a slot of the member until it is dropped.
///
/// The methods that consume it report how the request ended. Each returns `true` if it moved
/// [`Fleet::next_deadline`](super::Fleet::next_deadline) earlier. A pick dropped without a verdict is no evidence about the
/// member.
///
/// A pick stays valid if its member leaves the fleet, or if the fleet is dropped.
#[must_use = "a dropped pick gives its slot back"]
pub struct Pick<S>(pub(crate) Slot<MemberRef<Bound<S>>>);

impl<S> Pick<S> {
    /// The picked instance, as announced when its connection was dialled. Its id and address are current; weight,
    /// availability and metadata may be older than the latest announcement.
    pub fn instance(&self) -> &Instance {
        self.0.instance()
    }

    /// The service that [`Fleet::connected`](super::Fleet::connected) received for the member.
    pub fn service(&self) -> &S {
        self.0.holder.service()
    }

    /// Whether this pick may have moved [`Fleet::next_deadline`](super::Fleet::next_deadline) earlier, because it is the
    /// first one after an idle period.
    pub fn moves_deadline(&self) -> bool {
        self.0.moves_deadline()
    }

    /// Whether verdicts use their `now` argument. They do if [`Fleet::reads_clock`](super::Fleet::reads_clock) was true
    /// when the pick was made. If not, any instant will do for `success`, `failure`, `cancelled` and `answered`.
    pub fn reads_clock(&self) -> bool {
        self.0.reads_clock()
    }

    /// Reports that the response has begun while its body is still to come. Records the latency and keeps the slot. Only
    /// the first call counts.
    pub fn answered(&mut self, now: Instant) {
        self.0.answered(now);
    }

    /// Reports that the request succeeded.
    pub fn success(mut self, now: Instant) -> bool {
        self.0.judge(Verdict::Success, now)
    }

    /// Reports that the request failed. It counts as twenty times the fleet's mean latency, however long it took.
    pub fn failure(mut self, now: Instant) -> bool {
        self.0.judge(Verdict::Failure, now)
    }

    /// Like [`failure`](Self::failure), with a short label such as `"503"`, which status and ejection reasons show.
    pub fn failure_labelled(mut self, label: &'static str, now: Instant) -> bool {
        self.0.label_failure(label);
        self.0.judge(Verdict::Failure, now)
    }

    /// Reports that the caller went away. If it waited longer than the member's latency, this is evidence of at least that
    /// latency; a shorter wait is no evidence (hedged requests, closed browsers).
    ///
    /// After [`answered`](Self::answered) it counts as a success, unless the member has failed since: the instance is not
    /// at fault if the caller does not read the whole body.
    pub fn cancelled(mut self, now: Instant) -> bool {
        self.0.judge(Verdict::Cancelled, now)
    }

    /// Frees the slot; the request is no evidence about the member.
    pub fn neutral(self) -> bool {
        false
    }

    /// Reports that the request was not sent because the member's connection is lost. The fleet dials it again, unless a
    /// newer connection has already replaced it.
    pub fn unsent(mut self, now: Instant) -> bool {
        self.0.judge(Verdict::Unsent, now)
    }

    /// Reports that the instance said it is overloaded. Its load counts twenty times as much for `duration` (default 1 s,
    /// at most 60 s). For a trial this is an answer: the member returns, with that load.
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
