//! Which members are checked before they are tried with a request, and what a check changes.
//!
//! ```text
//!             waits for a trial           succeeded
//!   unchecked ────────────────▶ due ▶ running ────────▶ passed: may be tried with a request
//!       ▲                                │  │                        │
//!       │ failed, which fails a trial    │  │ told nothing           │ tried, or 5 s are over
//!       ├────────────────────────────────┘  └─────▶ paused           │
//!       └───────────────────────────────────────────────┴────────────┘
//! ```
//!
//! Without a check of its own a balancer has only its callers' requests to find out whether a member has recovered. With
//! checks on, a member on probation, or a suspect, is offered no trial before a check has succeeded. A check that fails counts
//! as a failed trial, and costs no request. One that succeeds allows the next trial: what a check says is no proof that
//! requests succeed. So an instance whose checks lie costs one request for each return, rationed like any trial.
//!
//! A check that lacked a local resource, or that spans a stall of this process, tells nothing. It is repeated after a second.

use std::sync::Arc;

use super::checks::{CheckFailure, State};
use super::dials::Ticket;
use super::{PeersNow, Roster};
use crate::event::Event;
use crate::fleet::branch::Branch;
use crate::fleet::members::member::Member;
use crate::fleet::rules::trial::TrialEnd;

/// For how many nanoseconds a check that succeeded allows a trial. After that the member is checked again.
const VALID_FOR: u64 = 5_000_000_000;
/// Nanoseconds before a check is repeated that told nothing.
const PAUSE: u64 = 1_000_000_000;
/// The label of a failed trial that was a check.
const FAILED: &str = "check failed";

impl<T> Roster<T> {
    pub(crate) fn use_checks(&mut self) {
        self.checks.switch_on();
        self.dirty = true;
    }

    /// Keeps the members that may be tried with a request, and makes checks of the others due.
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

    /// Gives the due checks out, and ends what counts no more.
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

    /// The connections whose checks were given out at the last deadline.
    pub(crate) fn take_checks(&mut self, now: u64) -> Vec<(Ticket, Arc<Member<T>>)> {
        let given_out = std::mem::take(&mut self.checks.given_out);
        let mut taken = Vec::with_capacity(given_out.len());
        for ticket in given_out {
            let Some(index) = self.find(ticket.id()) else {
                continue;
            };
            let seat = &mut self.seats[index];
            // A new connection may have brought its own outcome.
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

    /// Applies the outcome of a check. One that no [`take_checks`](Self::take_checks) gave out is of a new connection.
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
        let tells = |failure: &CheckFailure| !failure.is_local_fault && !spans_stall;
        let is_known = failure.as_ref().is_none_or(tells);
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
        let state = match (is_known, has_failed) {
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
        if !is_known {
            Branch::CheckToldNothing.reach();
            return;
        }
        if let Some(checked) = &mut seat.check.0 {
            checked.last = Some((now, text));
        }
        let is_tried = awaits_trial && !seat.stats.trial().is_in_flight();
        if has_failed && is_tried {
            Branch::CheckFailed.reach();
            let stats = Arc::clone(&seat.stats);
            stats.label().set(Some(FAILED));
            self.apply_trial_end(&id, &stats, TrialEnd::Failure, peers, now);
        }
    }
}
