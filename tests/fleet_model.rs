//! The fleet against a naive model: a hundred thousand random steps, every observable compared after each.
//!
//! Once without ejection and once with it. Who is out the model takes from the status: it knows no rule, but what follows
//! for picks, for the cap, and for people who eject and restore.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rolecall::fleet::{Dial, Fleet, Pick, PickError, Ticket};
use rolecall::{
    Availability, BalanceConfig, EjectionReason, Event, Instance, InstanceId, InstanceSet,
    MemberState, OutlierConfig, Weight,
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
    ejects: bool,
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

/// Rules that fire often and for short.
fn outliers() -> OutlierConfig {
    OutlierConfig::builder()
        .failures_in_row(2)
        .unanswered_after(Duration::from_millis(1))
        .base_ejection_time(Duration::from_millis(50))
        .max_ejection_time(Duration::from_secs(1))
        .build()
        .unwrap()
}

impl World {
    fn new(seed: u64, ejects: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let cap = rng.random_bool(0.5).then_some(CAP);
        let config = BalanceConfig::builder()
            .max_in_flight(cap)
            .shrink_grace(GRACE)
            .outlier(ejects.then(outliers))
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
            ejects,
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
        if self.ejects && self.rng.random_bool(0.95) {
            // Else all that is under way waits for us, and judges nobody.
            self.let_deadlines_pass();
        }
        match self.rng.random_range(0..100) {
            // Who comes and goes all the time is seldom judged.
            0..7 if self.ejects => self.end_pick(),
            0..8 => self.announce(),
            8..25 => self.end_dial(),
            25..60 => self.pick(),
            60..90 => self.end_pick(),
            90..95 => self.reach_deadline(),
            95..97 if self.ejects => self.eject_or_restore(),
            _ => {
                self.let_deadlines_pass();
            }
        }
        self.compare();
    }

    fn pass_time(&mut self) {
        // A leap that makes the process seem to have stood still is rare where somebody is judged.
        let far = match self.ejects && self.rng.random_bool(0.9) {
            true => 100,
            false => 3000,
        };
        match self.rng.random_range(0..20) {
            0 => self.now -= Duration::from_millis(self.rng.random_range(0..far)),
            1 => self.now += Duration::from_millis(self.rng.random_range(0..far)),
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

    /// Who is ejected or probing, connected or not.
    fn out(&self) -> BTreeMap<InstanceId, MemberState> {
        let members = self.fleet.status(self.now).members.into_iter();
        let out = |ejection: &rolecall::EjectionStatus| !ejection.is_over;
        let out: BTreeMap<_, _> = members
            .filter(|member| member.ejection.as_ref().is_some_and(out))
            .map(|member| (member.instance.id().clone(), member.state))
            .collect();
        assert!(self.ejects || out.is_empty(), "nobody ejects");
        out
    }

    /// Who may be picked as far as they and their instances go, with the number of their service.
    fn eligible(&self) -> BTreeMap<InstanceId, u64> {
        self.members
            .iter()
            .filter(|(_, m)| m.instance.availability() != Availability::Draining)
            .filter(|(_, m)| m.instance.weight().get() > 0)
            .filter_map(|(id, m)| Some((id.clone(), m.up?.0)))
            .collect()
    }

    /// Who may be picked, with the number of their service: for want of available members the busy ones, and for want of
    /// those the ones that are out.
    fn usable(&self) -> BTreeMap<InstanceId, u64> {
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

    /// Who may be picked by the next probe.
    fn probing(&self) -> BTreeMap<InstanceId, u64> {
        let (mut probing, out) = (self.eligible(), self.out());
        probing.retain(|id, _| out.get(id) == Some(&MemberState::Probing));
        probing
    }

    fn eject_or_restore(&mut self) {
        let id = InstanceId::from(format!("i{}", self.rng.random_range(0..14)));
        let known = self.members.contains_key(&id);
        let was_out = self.out().contains_key(&id);
        if self.rng.random_bool(0.5) {
            let time = match self.rng.random_range(0..10) {
                0 => Duration::ZERO,
                1 if self.rng.random_bool(0.1) => Duration::MAX,
                _ => Duration::from_millis(self.rng.random_range(0..500)),
            };
            assert_eq!(self.fleet.eject(&id, time, self.now), known, "who is known");
            assert_eq!(self.out().contains_key(&id), known, "it is out");
        } else {
            assert_eq!(self.fleet.restore(&id, self.now), was_out, "who was out");
            assert!(!self.out().contains_key(&id), "it is back");
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
        let (mut free, mut probing) = (self.usable(), self.probing());
        let usable = free.len();
        let has_room = |number| self.cap.is_none_or(|cap| self.in_flight(number) < cap);
        free.retain(|_, number| has_room(*number));
        probing.retain(|id, number| has_room(*number) && !avoid.contains(id));
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
                let is_probe = probing.get(&id) == Some(&number);
                assert!(
                    is_probe || free.get(&id) == Some(&number),
                    "picked {id}, who may not be picked, avoiding {avoid:?}: {free:?} or {probing:?}\n{}",
                    self.fleet.status(self.now)
                );
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
        // Not the end of time, to which some are ejected.
        let near = |deadline: &Instant| *deadline < self.now + 10 * GRACE;
        if let Some(deadline) = self.fleet.next_deadline().filter(near) {
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
                        None => MemberState::Probing,
                    }
                }
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
        let events = self.fleet.take_events();
        assert!(events.len() <= 1025);
        let by_rule = |event: &Event| matches!(event, Event::Ejected { reason, .. } if *reason != EjectionReason::Manual);
        if events.iter().any(by_rule) {
            let eligible = self.eligible();
            let out = eligible.keys().filter(|id| out.contains_key(*id)).count();
            let cap = (eligible.len() / 2).max(1).min(eligible.len() - 1);
            assert!(out <= cap, "a rule ejected, and {out} are out: {status}");
        }
    }

    fn end(mut self) {
        let counted = self.fleet.status(self.now).ejections;
        let judged = counted.detected > 0 && counted.probes > 0 && counted.returned > 0;
        assert!(judged || !self.ejects, "nothing was tried: {counted:?}");
        self.held.clear();
        for _ in 0..2 {
            self.now += GRACE;
            self.let_deadlines_pass();
        }
        let waits = self.members.values().any(|m| m.waiting);
        // Of those that were ejected for ever.
        let far = |next: Instant| next > self.now + 1000 * GRACE;
        assert!(
            waits || self.fleet.next_deadline().is_none_or(far),
            "nothing is left to wait for"
        );
        for member in self.fleet.status(self.now).members {
            assert_eq!(member.in_flight, 0, "a slot leaked");
        }
        drop(self.fleet);
        assert!(self.alive.lock().unwrap().is_empty(), "a service leaked");
    }
}

fn run(seed: u64, ejects: bool) {
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new(seed, ejects);
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
        run(seed, false);
    }
}

#[test]
fn with_ejection_it_does_what_a_naive_model_of_who_is_out_does() {
    for seed in 4..8 {
        run(seed, true);
    }
}
