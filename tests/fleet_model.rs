//! The fleet against a naive model: a hundred thousand random steps, every observable compared after each.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rolecall::fleet::{Dial, Fleet, Pick, PickError, Ticket};
use rolecall::{
    Availability, BalanceConfig, Instance, InstanceId, InstanceSet, MemberState, Weight,
};

const STEPS: usize = 25_000;
const CAP: u32 = 3;
const GRACE: Duration = Duration::from_secs(30);

/// A service that is known to live until it is dropped.
struct Service {
    number: u64,
    alive: Arc<Mutex<BTreeSet<u64>>>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.alive.lock().unwrap().remove(&self.number);
    }
}

#[derive(Debug)]
struct Modelled {
    instance: Instance,
    /// Number and address of the service that stands.
    up: Option<(u64, SocketAddr)>,
    dial: Option<Ticket>,
    waiting: bool,
}

struct Held {
    pick: Pick<Service>,
    number: u64,
}

struct World {
    rng: SmallRng,
    picks: SmallRng,
    fleet: Fleet<Service>,
    cap: Option<u32>,
    start: Instant,
    now: Instant,
    services: u64,
    alive: Arc<Mutex<BTreeSet<u64>>>,
    members: BTreeMap<InstanceId, Modelled>,
    answered: bool,
    doubt: Option<(InstanceSet, Instant)>,
    dials: Vec<Dial>,
    held: Vec<Held>,
}

#[derive(Clone, Copy)]
enum Absent {
    Leave,
    Stay,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let cap = rng.random_bool(0.5).then_some(CAP);
        let config = BalanceConfig::builder()
            .max_in_flight(cap)
            .shrink_grace(GRACE)
            .outlier(None)
            .build()
            .unwrap();
        // Far from the beginning of the clock, so that time has room to go back.
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant has to come from somewhere"
        )]
        let start = Instant::now() + Duration::from_secs(1000);
        Self {
            picks: SmallRng::seed_from_u64(seed ^ 1),
            fleet: Fleet::new(config, seed, start),
            rng,
            cap,
            start,
            now: start,
            services: 0,
            alive: Arc::default(),
            members: BTreeMap::new(),
            answered: false,
            doubt: None,
            dials: Vec::new(),
            held: Vec::new(),
        }
    }

    fn step(&mut self) {
        self.pass_time();
        match self.rng.random_range(0..100) {
            0..8 => self.announce(),
            8..25 => self.end_dial(),
            25..60 => self.pick(),
            60..90 => self.end_pick(),
            90..95 => self.reach_deadline(),
            _ => {
                self.let_deadlines_pass();
            }
        }
        self.compare();
    }

    fn pass_time(&mut self) {
        match self.rng.random_range(0..20) {
            0 => self.now -= Duration::from_millis(self.rng.random_range(0..3000)),
            1 => self.now += Duration::from_millis(self.rng.random_range(0..3000)),
            2..6 => {}
            _ => self.now += Duration::from_micros(self.rng.random_range(0..3000)),
        }
        self.now = self.now.max(self.start - Duration::from_secs(900));
    }

    /// Time as the fleet counts it: it began at its start.
    fn counted(&self) -> Instant {
        self.now.max(self.start)
    }

    fn announce(&mut self) {
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

    fn changed(&mut self, id: &str, known: Option<Instance>) -> Instance {
        let addr = |rng: &mut SmallRng| ([127, 0, 0, 1], rng.random_range(1..4)).into();
        let fresh = Instance::new(id, addr(&mut self.rng));
        let instance = known.unwrap_or(fresh);
        match self.rng.random_range(0..5) {
            0 => instance.with_weight(Weight::new([0, 1, 1, 1, 7][self.rng.random_range(0..5)])),
            1 => instance.with_availability(Availability::Available),
            2 => instance.with_availability(
                [Availability::Busy, Availability::Draining][self.rng.random_range(0..2)],
            ),
            3 => instance.with_addr(addr(&mut self.rng)),
            _ => instance.with_metadata("version", self.rng.random_range(0..9).to_string()),
        }
    }

    fn follow(&mut self, set: &InstanceSet, absent: Absent, expected: &mut BTreeSet<InstanceId>) {
        if let Absent::Leave = absent {
            self.members.retain(|id, _| set.get(id).is_some());
        }
        for instance in set {
            let draining = instance.availability() == Availability::Draining;
            let new = || Modelled {
                instance: instance.clone(),
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
            let moved = member.instance.addr() != instance.addr();
            member.instance = instance.clone();
            if draining {
                *member = new();
                continue;
            }
            if member.up.is_some_and(|(_, addr)| addr == instance.addr()) {
                member.dial = None;
                member.waiting = false;
            } else if moved || member.dial.is_none() && !member.waiting {
                expected.insert(instance.id().clone());
            }
        }
    }

    /// `must` and nobody outside `must` and `may`.
    fn expect_dials(
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

    fn end_dial(&mut self) {
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
            member.up = Some((number, member.instance.addr()));
        }
        // A stale ticket's service is dropped, which `compare` sees.
        self.fleet.connected([(ticket, service)], self.now);
    }

    /// Who may be picked, with the number of their service.
    fn usable(&self) -> BTreeMap<InstanceId, u64> {
        let eligible = |availability| {
            self.members
                .iter()
                .filter(|(_, m)| m.instance.availability() == availability)
                .filter(|(_, m)| m.instance.weight().get() > 0)
                .filter_map(|(id, m)| Some((id.clone(), m.up?.0)))
                .collect::<BTreeMap<_, _>>()
        };
        let available = eligible(Availability::Available);
        if available.is_empty() {
            eligible(Availability::Busy)
        } else {
            available
        }
    }

    fn in_flight(&self, number: u64) -> u32 {
        self.held
            .iter()
            .filter(|held| held.number == number)
            .count() as u32
    }

    fn pick(&mut self) {
        let avoid: Vec<InstanceId> = (0..self.rng.random_range(0..4))
            .map(|_| InstanceId::from(format!("i{}", self.rng.random_range(0..8))))
            .collect();
        let mut free = self.usable();
        let usable = free.len();
        free.retain(|_, number| self.cap.is_none_or(|cap| self.in_flight(*number) < cap));
        let before = self.fleet.next_deadline();
        match self.fleet.pick(self.now, &mut self.picks, &avoid) {
            Ok(pick) => {
                let earlier = self.moved_earlier(before);
                assert!(
                    !earlier || pick.moves_deadline(),
                    "a pick tells of the deadline"
                );
                let id = pick.instance().id().clone();
                let number = pick.service().number;
                assert_eq!(free.get(&id), Some(&number), "picked who may not be picked");
                let preferred = free.keys().any(|id| !avoid.contains(id));
                assert!(
                    !preferred || !avoid.contains(&id),
                    "picked {id}, to be avoided, where others were free"
                );
                self.held.push(Held { pick, number });
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

    fn end_pick(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let Held { mut pick, number } = self
            .held
            .swap_remove(self.rng.random_range(0..self.held.len()));
        if self.rng.random_bool(0.2) {
            pick.answered(self.now);
        }
        let now = self.now;
        let before = self.fleet.next_deadline();
        let id = pick.instance().id().clone();
        let hurried = match self.rng.random_range(0..12) {
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
        assert_eq!(
            hurried, earlier,
            "a verdict tells whether the deadline moved"
        );
    }

    fn moved_earlier(&self, before: Option<Instant>) -> bool {
        let after = self.fleet.next_deadline();
        after.is_some_and(|after| before.is_none_or(|before| after < before))
    }

    fn reach_deadline(&mut self) {
        if let Some(deadline) = self.fleet.next_deadline() {
            self.now = self.now.max(deadline);
            self.let_deadlines_pass();
        }
    }

    fn let_deadlines_pass(&mut self) {
        let dials = self.fleet.on_deadline(self.now);
        let mut must = BTreeSet::new();
        let counted = self.counted();
        let believed = self.doubt.take_if(|(_, until)| *until <= counted);
        if let Some((set, _)) = &believed {
            self.follow(set, Absent::Leave, &mut must);
        }
        let may = self.members.iter().filter(|(_, m)| m.waiting);
        let may = may.map(|(id, _)| id.clone()).collect();
        self.expect_dials(dials, &must, &may);
        let next = self.fleet.next_deadline();
        assert!(
            next.is_none_or(|next| next > counted),
            "what was due is still due: {next:?} at {counted:?}"
        );
    }

    fn compare(&mut self) {
        let status = self.fleet.status(self.now);
        let usable = self.usable();
        assert_eq!(status.usable, usable.len(), "{status}\n{:#?}", self.members);
        assert_eq!(self.fleet.unusable_since().is_none(), !usable.is_empty());
        assert_eq!(status.doubted_for.is_some(), self.doubt.is_some());
        assert_eq!(status.members.len(), self.members.len());
        for (status, (id, member)) in status.members.iter().zip(&self.members) {
            assert_eq!(status.instance, member.instance);
            let availability = member.instance.availability();
            let expected = match (member.up, &member.dial) {
                _ if availability == Availability::Draining => MemberState::Draining,
                (Some(_), _) if usable.contains_key(id) => MemberState::Usable,
                (Some(_), _) if member.instance.weight().get() == 0 => MemberState::Weightless,
                (Some(_), _) => MemberState::Busy,
                (None, Some(_)) => MemberState::Connecting,
                (None, None) => MemberState::Disconnected,
            };
            assert_eq!(status.state, expected, "{id}");
            if let Some((number, _)) = member.up {
                assert_eq!(status.in_flight, self.in_flight(number), "{id}");
            }
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
            "a service lives while it stands or is held, and no longer"
        );
        let waits = self.doubt.is_some() || self.members.values().any(|m| m.waiting);
        assert!(!waits || self.fleet.next_deadline().is_some());
        assert!(self.fleet.take_events().len() <= 1025);
    }

    fn end(mut self) {
        self.held.clear();
        for _ in 0..2 {
            self.now += GRACE;
            self.let_deadlines_pass();
        }
        let waits = self.members.values().any(|m| m.waiting);
        assert!(
            waits || self.fleet.next_deadline().is_none(),
            "nothing is left to wait for"
        );
        for member in self.fleet.status(self.now).members {
            assert_eq!(member.in_flight, 0, "a slot leaked");
        }
        drop(self.fleet);
        assert!(self.alive.lock().unwrap().is_empty(), "a service leaked");
    }
}

fn run(seed: u64) {
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.end();
    });
    if let Err(panic) = outcome {
        eprintln!("seed {seed}");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn the_fleet_does_what_a_naive_model_does_for_a_hundred_thousand_steps() {
    for seed in 0..4 {
        run(seed);
    }
}
