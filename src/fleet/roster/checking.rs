//! Which members are checked before they are tried with a request, and what a check changes.
//!
//! ```text
//!             waits for a trial           succeeded
//!   unchecked ────────────────▶ due ▶ running ────────▶ passed: may be tried with a request
//!       ▲                                │  │                        │
//!       │ failed, which fails a trial    │  │ inconclusive           │ tried, or 5 s are over
//!       ├────────────────────────────────┘  └─────▶ paused           │
//!       └───────────────────────────────────────────────┴────────────┘
//! ```
//!
//! Without checks, a balancer learns that a member has recovered only by sending it a caller's request. With checks, a member
//! on probation and a suspect get no trial until a check succeeds. A failed check counts as a failed trial if no trial is in
//! flight, and costs no request. A successful check permits the next trial, because requests may still fail. If an instance
//! passes checks and fails requests, each return costs one request, rationed like any trial.
//!
//! A check is inconclusive if it lacked a local resource or spans a stall of this process. It may run again after a second.

use std::sync::Arc;

use super::checks::{CheckFailure, State};
use super::dials::Ticket;
use super::{PeersNow, Roster};
use crate::event::Event;
use crate::fleet::branch::Branch;
use crate::fleet::members::member::Member;
use crate::fleet::rules::trial::TrialEnd;

/// How long a successful check is valid, in nanoseconds. It is renewed while a trial is in flight.
const VALID_FOR: u64 = 5_000_000_000;
/// The pause before an inconclusive check may run again, in nanoseconds.
const PAUSE: u64 = 1_000_000_000;
/// The failure label of a failed check that counts as a failed trial.
const FAILED: &str = "check failed";

impl<T> Roster<T> {
    pub(crate) fn use_checks(&mut self) {
        self.checks.switch_on();
        self.dirty = true;
    }

    /// Keeps only members with a valid check, and makes a check due for each unchecked one. Does nothing if checks are off.
    pub(super) fn keep_checked(&mut self, waiting: &mut Vec<Arc<Member<T>>>) {
        if !self.checks.is_on {
            return;
        }
        waiting.retain(|member| {
            let Some(index) = self.find(member.instance.id()) else {
                return false;
            };
            let (check, generation) = (&mut self.seats[index].check, member.generation);
            let state = check.state(generation);
            if state == State::Unchecked {
                check.set(generation, State::Due);
                let id = member.instance.id().clone();
                self.checks.due.push(Ticket::new(id, generation));
            }
            matches!(state, State::Passed { .. })
        });
    }

    /// Queues the due checks for [`take_checks`](Self::take_checks), and ends states whose time is over.
    pub(super) fn advance_checks(&mut self, now: u64) {
        let due = std::mem::take(&mut self.checks.due);
        self.checks.given_out.extend(due);
        while let Some((at, id)) = self.checks.take_ended(now) {
            let Some(index) = self.find(&id) else {
                continue;
            };
            let seat = &mut self.seats[index];
            let Some(checked) = &mut seat.check.0 else {
                continue;
            };
            match checked.state {
                State::Passed { until } if until == at && seat.stats.trial().is_in_flight() => {
                    let until = now.saturating_add(VALID_FOR);
                    checked.state = State::Passed { until };
                    self.checks.ends.insert((until, id));
                }
                State::Passed { until } | State::Paused { until } if until == at => {
                    checked.state = State::Unchecked;
                    self.dirty = true;
                }
                _ => {}
            }
        }
    }

    /// Takes the queued checks and marks them as running. Skips those whose connection is gone or that are not due any more.
    pub(crate) fn take_checks(&mut self, now: u64) -> Vec<(Ticket, Arc<Member<T>>)> {
        let given_out = std::mem::take(&mut self.checks.given_out);
        let mut taken = Vec::with_capacity(given_out.len());
        for ticket in given_out {
            let Some(index) = self.find(ticket.id()) else {
                continue;
            };
            let seat = &mut self.seats[index];
            // The warm-up of a new connection may have recorded a result already.
            if seat.check.state(ticket.generation()) != State::Due {
                continue;
            }
            let is_it = |member: &&Arc<Member<T>>| member.generation == ticket.generation();
            let Some(member) = seat.member().filter(is_it).map(Arc::clone) else {
                continue;
            };
            let since = now;
            seat.check
                .set(ticket.generation(), State::Running { since });
            taken.push((ticket, member));
        }
        taken
    }

    /// Applies the result of a check. Without a running check, it is the result of a new connection's warm-up.
    pub(crate) fn checked(
        &mut self,
        ticket: &Ticket,
        failure: Option<CheckFailure>,
        peers: PeersNow<'_>,
        now: u64,
    ) {
        let Some(index) = self.find(ticket.id()) else {
            return;
        };
        let seat = &mut self.seats[index];
        let is_it = |member: &Arc<Member<T>>| member.generation == ticket.generation();
        if !seat.member().is_some_and(is_it) {
            return;
        }
        self.dirty = true;
        let since = match seat.check.state(ticket.generation()) {
            State::Running { since } => Some(since),
            _ => None,
        };
        let spans_stall = since.is_some_and(|since| self.shared.stalls.spans_stall(since, now));
        let counts = |failure: &CheckFailure| !failure.is_local_fault && !spans_stall;
        let is_conclusive = failure.as_ref().is_none_or(counts);
        let has_failed = failure.is_some();
        let text = failure.map(|failure| failure.text);
        if since.is_none()
            && let Some(error) = &text
        {
            let (id, error) = (ticket.id().clone(), error.clone());
            let address = seat.instance.address().clone();
            self.note(Event::WarmUpFailed { id, address, error });
        }
        let seat = &mut self.seats[index];
        let (id, generation) = (ticket.id().clone(), ticket.generation());
        let awaits_trial = seat.standing.awaits_trial();
        let state = match (is_conclusive, has_failed) {
            (true, true) => State::Unchecked,
            (true, false) if !awaits_trial => State::Unchecked,
            (true, false) => State::Passed {
                until: now.saturating_add(VALID_FOR),
            },
            (false, _) => State::Paused {
                until: now.saturating_add(PAUSE),
            },
        };
        seat.check.set(generation, state);
        if let State::Passed { until } | State::Paused { until } = state {
            self.checks.ends.insert((until, id.clone()));
        }
        if !is_conclusive {
            Branch::CheckToldNothing.reach();
            return;
        }
        if let Some(checked) = &mut seat.check.0 {
            checked.last = Some((now, text));
        }
        let may_be_tried = awaits_trial && !seat.stats.trial().is_in_flight();
        if has_failed && may_be_tried {
            Branch::CheckFailed.reach();
            let stats = Arc::clone(&seat.stats);
            stats.label().set(Some(FAILED));
            self.apply_trial_end(&id, &stats, TrialEnd::Failure, peers, now);
        }
    }
}
