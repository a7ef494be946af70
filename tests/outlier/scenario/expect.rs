//! The state of the fleet, and what is expected of it.

use std::time::{Duration, Instant};

use rolecall::{EjectionCounters, EjectionStatus, Event, MemberState, MemberStatus, Status};

use super::{Reason, Scenario};

/// Expectations.
impl Scenario {
    #[track_caller]
    pub(crate) fn is(&mut self, id: &str, state: MemberState) -> &mut Self {
        let is = self.member(id).state;
        assert!(is == state, "{id} is {is}, not {state}\n{}", self.table());
        self
    }

    /// Expects the states of all members, in order.
    #[track_caller]
    pub(crate) fn are<const N: usize>(&mut self, states: [MemberState; N]) -> &mut Self {
        let are: Vec<_> = self.status().members.iter().map(|m| m.state).collect();
        assert!(are == states, "not {states:?}\n{}", self.table());
        self
    }

    #[track_caller]
    pub(crate) fn run_is(&mut self, id: &str, failures: u32) -> &mut Self {
        let run = self.member(id).failures_in_row;
        let table = self.table();
        assert!(
            run == failures,
            "{id} has a run of {run}, not {failures}\n{table}"
        );
        self
    }

    /// Expects how many recent requests had an outcome, and how many of those failed.
    #[track_caller]
    pub(crate) fn lately(&mut self, id: &str, requests: u32, failures: u32) -> &mut Self {
        let member = self.member(id);
        let lately = (member.recent_requests, member.recent_failures);
        assert!(
            lately == (requests, failures),
            "{id} had {lately:?} recently, not {:?}\n{}",
            (requests, failures),
            self.table()
        );
        self
    }

    #[track_caller]
    pub(crate) fn reason_is(&mut self, id: &str, reason: Reason) -> &mut Self {
        let is = self.ejection(id).reason;
        assert!(
            is.to_string() == reason.to_string(),
            "{id}: {is}; not: {reason}\n{}",
            self.table()
        );
        self
    }

    /// Expects the events about a member's ejections so far, one word each.
    #[track_caller]
    pub(crate) fn story_is<const N: usize>(&mut self, id: &str, words: [&str; N]) -> &mut Self {
        let story = self.story(id);
        assert!(
            story == words,
            "{story:?} was reported of {id}, not {words:?}\n{}",
            self.table()
        );
        self
    }

    /// Expects the counters: detected, ejected, withheld by the cap, trials, returned, panic modes.
    #[track_caller]
    pub(crate) fn counted(&mut self, counters: [u64; 6]) -> &mut Self {
        let EjectionCounters {
            detected,
            ejected,
            refused_by_cap,
            trials,
            returned,
            panic_modes,
            ..
        } = self.status().ejections;
        let counted = [
            detected,
            ejected,
            refused_by_cap,
            trials,
            returned,
            panic_modes,
        ];
        assert!(
            counted == counters,
            "[detected, ejected, refused by the cap, trials, returned, panic modes]: {counted:?}, not {counters:?}\n{}",
            self.table()
        );
        self
    }

    #[track_caller]
    pub(crate) fn in_panic_mode(&mut self, expected: bool) -> &mut Self {
        let panic_mode = self.status().panic_mode;
        assert!(
            panic_mode == expected,
            "panic mode: {panic_mode}\n{}",
            self.table()
        );
        self
    }

    #[track_caller]
    pub(crate) fn in_flight_is(&mut self, id: &str, requests: u32) -> &mut Self {
        let is = self.member(id).in_flight;
        assert!(
            is == requests,
            "{id} has {is} in flight, not {requests}\n{}",
            self.table()
        );
        self
    }

    /// Expects that none of many picks goes to this member.
    #[track_caller]
    pub(crate) fn takes_nothing(&mut self, id: &str) -> &mut Self {
        for _ in 0..200 {
            let pick = self.fleet.pick(self.now, &mut self.rng, &[]).unwrap();
            assert!(
                *pick.instance().id() != *id,
                "{id} was picked\n{}",
                self.table()
            );
        }
        self
    }
}

/// State.
impl Scenario {
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn status(&self) -> Status {
        self.fleet.status(self.now)
    }

    /// The status, for messages.
    pub(crate) fn table(&self) -> String {
        let at = self.now.saturating_duration_since(self.start);
        format!("at {at:?}: {}", self.status())
    }

    #[track_caller]
    pub(crate) fn member(&self, id: &str) -> MemberStatus {
        let status = self.status();
        let member = status.members.iter().find(|m| *m.instance.id() == *id);
        member
            .cloned()
            .unwrap_or_else(|| panic!("no {id}\n{status}"))
    }

    #[track_caller]
    pub(crate) fn ejection(&self, id: &str) -> EjectionStatus {
        let ejection = self.member(id).ejection;
        ejection.unwrap_or_else(|| panic!("{id} was never ejected\n{}", self.table()))
    }

    /// The rest of a member's ejection.
    #[track_caller]
    pub(crate) fn remaining(&self, id: &str) -> Duration {
        let remaining = self.ejection(id).remaining;
        remaining.unwrap_or_else(|| panic!("{id} is not ejected\n{}", self.table()))
    }

    pub(crate) fn events(&mut self) -> &[Event] {
        self.events.extend(self.fleet.take_events());
        &self.events
    }

    pub(crate) fn story(&mut self, of: &str) -> Vec<&'static str> {
        let word = |event: &Event| {
            let (id, word) = match event {
                Event::Ejected { id, .. } => (id, "ejected"),
                Event::EjectionWithheld { id, .. } => (id, "withheld"),
                Event::Probation { id, .. } => (id, "probation"),
                Event::TrialFailed { id, .. } => (id, "trial failed"),
                Event::Returned { id, .. } => (id, "returned"),
                _ => return None,
            };
            (*id == *of).then_some(word)
        };
        self.events().iter().filter_map(word).collect()
    }
}
