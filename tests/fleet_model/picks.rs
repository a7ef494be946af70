//! Picks, which members they may choose, and how they end.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use rolecall::fleet::PickError;
use rolecall::{Availability, InstanceId, MemberState};

use crate::{Held, World};

impl World {
    /// The members that are ejected or on probation, connected or not.
    pub(super) fn out(&self) -> BTreeMap<InstanceId, MemberState> {
        let members = self.fleet.status(self.now).members.into_iter();
        let out = |ejection: &rolecall::EjectionStatus| !ejection.is_over;
        let out: BTreeMap<_, _> = members
            .filter(|member| member.ejection.as_ref().is_some_and(out))
            .map(|member| (member.instance.id().clone(), member.state))
            .collect();
        assert!(
            self.ejects || out.is_empty(),
            "members are out without ejection"
        );
        out
    }

    /// The eligible members, with the number of their service.
    pub(super) fn eligible(&self) -> BTreeMap<InstanceId, u64> {
        self.members
            .iter()
            .filter(|(_, m)| m.instance.availability() != Availability::Draining)
            .filter(|(_, m)| m.instance.weight().get() > 0)
            .filter_map(|(id, m)| Some((id.clone(), m.up?.0)))
            .collect()
    }

    /// The usable members, with the number of their service: the available ones, else the busy ones, else the ones that are
    /// out.
    pub(super) fn usable(&self) -> BTreeMap<InstanceId, u64> {
        let (eligible, out) = (self.eligible(), self.out());
        let listed = |availability| {
            let mut listed = eligible.clone();
            listed.retain(|id, _| {
                !out.contains_key(id) && self.members[id].instance.availability() == availability
            });
            listed
        };
        [Availability::Available, Availability::Busy]
            .map(listed)
            .into_iter()
            .find(|listed| !listed.is_empty())
            .unwrap_or(eligible)
    }

    /// The members that the next trial may pick. A pick that avoids any member is no trial.
    pub(super) fn on_probation(&self) -> BTreeMap<InstanceId, u64> {
        let (mut on_probation, out) = (self.eligible(), self.out());
        on_probation.retain(|id, _| out.get(id) == Some(&MemberState::Probation));
        on_probation
    }

    pub(super) fn eject_or_restore(&mut self) {
        let id = InstanceId::from(format!("i{}", self.rng.random_range(0..14)));
        let known = self.members.contains_key(&id);
        let was_out = self.out().contains_key(&id);
        if self.rng.random_bool(0.5) {
            let time = match self.rng.random_range(0..10) {
                0 => Duration::ZERO,
                1 if self.rng.random_bool(0.1) => Duration::MAX,
                _ => Duration::from_millis(self.rng.random_range(0..500)),
            };
            assert_eq!(
                self.fleet.eject(&id, time, self.now),
                known,
                "whether it was known"
            );
            assert_eq!(self.out().contains_key(&id), known, "it is out");
        } else {
            assert_eq!(
                self.fleet.restore(&id, self.now),
                was_out,
                "whether it was out"
            );
            assert!(!self.out().contains_key(&id), "it is in play");
        }
    }

    /// Requests in flight to an instance, over all its connections.
    pub(super) fn in_flight(&self, id: &InstanceId) -> u32 {
        let tenure = self.members.get(id).map(|member| member.tenure);
        let held = self.held.iter();
        held.filter(|held| Some(held.tenure) == tenure).count() as u32
    }

    pub(super) fn pick(&mut self) {
        let avoid: Vec<InstanceId> = (0..self.rng.random_range(0..4))
            .map(|_| InstanceId::from(format!("i{}", self.rng.random_range(0..8))))
            .collect();
        let (mut free, mut on_probation) = (self.usable(), self.on_probation());
        let usable = free.len();
        let has_room = |id: &InstanceId| self.cap.is_none_or(|cap| self.in_flight(id) < cap);
        free.retain(|id, _| has_room(id));
        on_probation.retain(|id, _| has_room(id) && avoid.is_empty());
        let before = self.fleet.next_deadline();
        match self.fleet.pick(self.now, &mut self.picks, &avoid) {
            Ok(pick) => {
                let earlier = self.moved_earlier(before);
                assert!(
                    !earlier || pick.moves_deadline(),
                    "whether the pick moved the deadline"
                );
                let id = pick.instance().id().clone();
                let number = pick.service().number;
                let is_trial = on_probation.get(&id) == Some(&number);
                assert!(
                    is_trial || free.get(&id) == Some(&number),
                    "picked {id}, which may not be picked, avoiding {avoid:?}: {free:?} or {on_probation:?}\n{}",
                    self.fleet.status(self.now)
                );
                let preferred = free.keys().any(|id| !avoid.contains(id));
                assert!(
                    !preferred || !avoid.contains(&id),
                    "picked {id}, which is to be avoided, although others were free"
                );
                let tenure = self.members[&id].tenure;
                self.held.push(Held {
                    pick,
                    number,
                    tenure,
                });
            }
            Err(PickError::Saturated) => assert!(usable > 0 && free.is_empty()),
            Err(PickError::Unresolved) => assert!(!self.answered),
            Err(PickError::Empty) => assert!(self.answered && self.members.is_empty()),
            Err(PickError::NoneUsable(census)) => {
                assert_eq!(usable, 0);
                assert_eq!(census.known(), self.members.len());
                let counted: usize = census.reasons().iter().map(|(_, count)| count).sum();
                assert_eq!(counted, census.known(), "{census}");
            }
            Err(other) => panic!("{other}"),
        }
    }

    pub(super) fn end_pick(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let Held {
            mut pick, number, ..
        } = self
            .held
            .swap_remove(self.rng.random_range(0..self.held.len()));
        if self.rng.random_bool(0.2) {
            pick.answered(self.now);
        }
        let now = self.now;
        let before = self.fleet.next_deadline();
        let id = pick.instance().id().clone();
        let fails = self.ejects && matches!(id.as_str(), "i0" | "i1" | "i2");
        let ending = match self.rng.random_range(0..12) {
            0..4 if fails => 5,
            ending => ending,
        };
        let hurried = match ending {
            0..5 => pick.success(now),
            5 => pick.failure(now),
            6 => pick.cancelled(now),
            7 => pick.neutral(),
            8 => pick.overloaded(Some(Duration::from_millis(5)), now),
            9 => {
                drop(pick);
                false
            }
            _ => {
                if let Some(member) = self.members.get_mut(&id)
                    && member.up.is_some_and(|(up, _)| up == number)
                {
                    member.up = None;
                    member.waiting |= member.dial.is_none();
                }
                pick.unsent(now)
            }
        };
        let earlier = self.moved_earlier(before);
        assert_eq!(hurried, earlier, "whether the verdict moved the deadline");
    }
}
