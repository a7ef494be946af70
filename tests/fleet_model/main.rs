//! The fleet against a naive model: a hundred thousand random steps, with everything observable compared after each.
//!
//! The test runs once without ejection and once with it. Which members are out, the model takes from the status. It knows no
//! rule, only what follows for picks, for the cap, and for ejecting and restoring by hand.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod compare;
mod membership;
mod picks;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rolecall::fleet::{Dial, Fleet, Pick, Ticket};
use rolecall::{BalanceConfig, Instance, InstanceId, InstanceSet, OutlierConfig};

const STEPS: usize = 25_000;
const CAP: u32 = 3;
const GRACE: Duration = Duration::from_secs(30);

/// A service that is registered as alive until it is dropped.
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
    /// Tells apart an instance that left and one that came back under the same id.
    tenure: u64,
    /// Number and address of the connected service.
    up: Option<(u64, SocketAddr)>,
    dial: Option<Ticket>,
    waiting: bool,
}

struct Held {
    pick: Pick<Service>,
    number: u64,
    tenure: u64,
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
    tenures: u64,
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

/// Rules that fire often and eject for short times.
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
        // Far from the beginning of the clock, so that it has room to go back.
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
            tenures: 0,
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
            // Otherwise all requests in flight span a stall and do not count.
            self.let_deadlines_pass();
        }
        match self.rng.random_range(0..100) {
            // An instance that comes and goes all the time is seldom judged.
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
        // A leap that looks like a stall of the process is rare where members are judged.
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

    /// The time as the fleet counts it, which starts when it was created.
    fn counted(&self) -> Instant {
        self.now.max(self.start)
    }

    fn reach_deadline(&mut self) {
        // Not the far future, where ejections for ever end.
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
fn with_ejection_the_fleet_does_what_a_naive_model_does() {
    for seed in 4..8 {
        run(seed, true);
    }
}
