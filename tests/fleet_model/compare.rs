//! Compares everything that can be observed of the fleet with the model.

use std::collections::BTreeSet;
use std::time::Instant;

use rolecall::{Availability, EjectionReason, Event, MemberState};

use crate::{GRACE, World};

impl World {
    pub(super) fn moved_earlier(&self, before: Option<Instant>) -> bool {
        let after = self.fleet.next_deadline();
        after.is_some_and(|after| before.is_none_or(|before| after < before))
    }

    pub(super) fn compare(&mut self) {
        let status = self.fleet.status(self.now);
        let usable = self.usable();
        assert_eq!(status.usable, usable.len(), "{status}\n{:#?}", self.members);
        assert_eq!(self.fleet.unusable_since().is_none(), !usable.is_empty());
        let out = self.out();
        let all_out = !usable.is_empty() && usable.keys().all(|id| out.contains_key(id));
        assert_eq!(status.panic_mode, all_out, "panic mode: {status}");
        assert_eq!(status.doubted_for.is_some(), self.doubt.is_some());
        assert_eq!(status.members.len(), self.members.len());
        for (status, (id, member)) in status.members.iter().zip(&self.members) {
            assert_eq!(status.instance, member.instance);
            let availability = member.instance.availability();
            let expected = match (member.up, &member.dial) {
                _ if availability == Availability::Draining => MemberState::Draining,
                (Some(_), _) if out.contains_key(id) => {
                    let ejection = status.ejection.as_ref();
                    match ejection.and_then(|ejection| ejection.remaining) {
                        Some(_) => MemberState::Ejected,
                        None => MemberState::Probation,
                    }
                }
                (Some(_), _) if usable.contains_key(id) => MemberState::Usable,
                (Some(_), _) if member.instance.weight().get() == 0 => MemberState::Weightless,
                (Some(_), _) => MemberState::Busy,
                (None, Some(_)) => MemberState::Connecting,
                (None, None) => MemberState::Disconnected,
            };
            assert_eq!(status.state, expected, "{id}");
            assert_eq!(status.in_flight, self.in_flight(id), "{id}: {member:?}");
        }
        let mut alive: BTreeSet<u64> = self.held.iter().map(|held| held.number).collect();
        alive.extend(
            self.members
                .values()
                .filter_map(|member| Some(member.up?.0)),
        );
        assert_eq!(
            *self.alive.lock().unwrap(),
            alive,
            "a service lives while it is connected or held, and no longer"
        );
        let waits = self.doubt.is_some() || self.members.values().any(|m| m.waiting);
        assert!(!waits || self.fleet.next_deadline().is_some());
        let events = self.fleet.take_events();
        assert!(events.len() <= 1025);
        let by_rule = |event: &Event| matches!(event, Event::Ejected { reason, .. } if *reason != EjectionReason::Manual);
        if events.iter().any(by_rule) {
            let eligible = self.eligible();
            let out = eligible.keys().filter(|id| out.contains_key(*id)).count();
            let cap = (eligible.len() / 2).max(1).min(eligible.len() - 1);
            assert!(
                out <= cap,
                "a rule ejected beyond the cap, {out} are out: {status}"
            );
        }
    }

    pub(super) fn end(mut self) {
        let counted = self.fleet.status(self.now).ejections;
        let judged = counted.detected > 0 && counted.trials > 0 && counted.returned > 0;
        assert!(
            judged || !self.ejects,
            "no member was ejected, tried and returned: {counted:?}"
        );
        self.held.clear();
        for _ in 0..2 {
            self.now += GRACE;
            self.let_deadlines_pass();
        }
        let waits = self.members.values().any(|m| m.waiting);
        // The end of an ejection for ever.
        let far = |next: Instant| next > self.now + 1000 * GRACE;
        assert!(
            waits || self.fleet.next_deadline().is_none_or(far),
            "no deadline is left"
        );
        for member in self.fleet.status(self.now).members {
            assert_eq!(member.in_flight, 0, "a slot leaked");
        }
        drop(self.fleet);
        assert!(self.alive.lock().unwrap().is_empty(), "a service leaked");
    }
}
