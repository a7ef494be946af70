//! Applies what discovery and dials do, to the fleet and to the model.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::SmallRng;
use rolecall::fleet::Dial;
use rolecall::{Availability, Instance, InstanceId, InstanceSet, Weight};

use crate::{Absent, GRACE, Modelled, Service, World};

impl World {
    pub(super) fn announce(&mut self) {
        let many = match self.rng.random_range(0..10) {
            0 => 0,
            1 => 2,
            2 => 12,
            _ => 6,
        };
        let mut instances = Vec::new();
        for _ in 0..many {
            let id = format!("i{}", self.rng.random_range(0..many + 2));
            let known = self.members.get(id.as_str()).map(|m| m.instance.clone());
            let instance = match known {
                Some(known) if self.rng.random_bool(0.6) => known,
                known => self.changed(&id, known),
            };
            instances.push(instance);
        }
        let set: InstanceSet = instances.into_iter().collect();
        let set = if self.rng.random_bool(0.3) {
            set.confirmed()
        } else {
            set
        };
        let dials = self.fleet.apply(set.clone(), self.now);
        self.answered = true;

        let known = self.members.len();
        let gone = self
            .members
            .keys()
            .filter(|id| set.get(id).is_none())
            .count();
        let shrunk = set.len() * 2 < known && gone >= 3 || set.is_empty() && known > 0;
        let mut expected = BTreeSet::new();
        if shrunk && !set.is_confirmed() {
            let until = self
                .doubt
                .take()
                .map_or(self.counted() + GRACE, |(_, until)| until);
            self.follow(&set, Absent::Stay, &mut expected);
            self.doubt = Some((set, until));
        } else {
            self.doubt = None;
            self.follow(&set, Absent::Leave, &mut expected);
        }
        self.expect_dials(dials, &expected, &BTreeSet::new());
    }

    pub(super) fn changed(&mut self, id: &str, known: Option<Instance>) -> Instance {
        let addr = |rng: &mut SmallRng| ([127_u8, 0, 0, 1], rng.random_range(1..4_u16));
        let fresh = Instance::new(id, addr(&mut self.rng));
        let instance = known.unwrap_or(fresh);
        match self.rng.random_range(0..5) {
            0 => instance.with_weight(Weight::new([0, 1, 1, 1, 7][self.rng.random_range(0..5)])),
            1 => instance.with_availability(Availability::Available),
            2 => instance.with_availability(
                [Availability::Busy, Availability::Draining][self.rng.random_range(0..2)],
            ),
            3 => instance.with_address(addr(&mut self.rng)),
            _ => instance.with_metadata("version", self.rng.random_range(0..9).to_string()),
        }
    }

    pub(super) fn follow(
        &mut self,
        set: &InstanceSet,
        absent: Absent,
        expected: &mut BTreeSet<InstanceId>,
    ) {
        if let Absent::Leave = absent {
            self.members.retain(|id, _| set.get(id).is_some());
        }
        for instance in set {
            let draining = instance.availability() == Availability::Draining;
            self.tenures += 1;
            let tenure = self.tenures;
            let new = || Modelled {
                instance: instance.clone(),
                tenure,
                up: None,
                dial: None,
                waiting: false,
            };
            let Some(member) = self.members.get_mut(instance.id()) else {
                if !draining {
                    expected.insert(instance.id().clone());
                }
                self.members.insert(instance.id().clone(), new());
                continue;
            };
            if member.instance == *instance {
                continue;
            }
            let moved = member.instance.address() != instance.address();
            member.instance = instance.clone();
            if draining {
                let tenure = member.tenure;
                *member = Modelled { tenure, ..new() };
                continue;
            }
            if member
                .up
                .is_some_and(|(_, addr)| *instance.address() == addr)
            {
                member.dial = None;
                member.waiting = false;
            } else if moved || member.dial.is_none() && !member.waiting {
                expected.insert(instance.id().clone());
            }
        }
    }

    /// Expects dials of all of `must`, and of none outside `must` and `may`.
    pub(super) fn expect_dials(
        &mut self,
        dials: Vec<Dial>,
        must: &BTreeSet<InstanceId>,
        may: &BTreeSet<InstanceId>,
    ) {
        let dialled: BTreeSet<_> = dials.iter().map(|d| d.instance.id().clone()).collect();
        assert_eq!(dialled.len(), dials.len(), "dialled twice in one go");
        assert!(
            dialled.is_superset(must),
            "not dialled: {must:?}, but {dialled:?}"
        );
        let wanted: BTreeSet<_> = must.union(may).cloned().collect();
        assert!(
            dialled.is_subset(&wanted),
            "dialled {dialled:?} where {wanted:?} was wanted"
        );
        for dial in dials {
            let member = self.members.get_mut(dial.instance.id()).unwrap();
            assert_eq!(member.instance, dial.instance, "dialled as announced last");
            member.dial = Some(dial.ticket.clone());
            member.waiting = false;
            self.dials.push(dial);
        }
    }

    pub(super) fn end_dial(&mut self) {
        if self.dials.is_empty() {
            return;
        }
        let Dial {
            ticket, instance, ..
        } = self
            .dials
            .swap_remove(self.rng.random_range(0..self.dials.len()));
        let awaited = self
            .members
            .get_mut(instance.id())
            .filter(|member| member.dial.as_ref() == Some(&ticket));
        if self.rng.random_bool(0.3) {
            self.fleet.dial_failed(ticket, "no", self.now);
            if let Some(member) = awaited {
                member.dial = None;
                member.waiting = true;
            }
            return;
        }
        self.services += 1;
        let number = self.services;
        self.alive.lock().unwrap().insert(number);
        let service = Service {
            number,
            alive: Arc::clone(&self.alive),
        };
        if let Some(member) = awaited {
            member.dial = None;
            let addr = member.instance.address().tcp().unwrap();
            member.up = Some((number, addr));
        }
        // A stale ticket's service is dropped, which `compare` sees.
        self.fleet.connected([(ticket, service)], self.now);
    }
}
