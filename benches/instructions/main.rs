//! What `count.sh` counts the instructions of: one operation of a fleet at a time, under traffic that is always the same.
//!
//! `instructions --bench OPERATION MEMBERS` prints how often the operation was done. Only the functions named `counted_*`
//! are counted, so that neither the traffic around them nor the start of the process is.

#![expect(
    clippy::disallowed_methods,
    reason = "the first instant comes from the clock"
)]

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rolecall::fleet::{Dial, Fleet, Pick};
use rolecall::{BalanceConfig, Instance, InstanceSet};

/// Requests of a run.
const REQUESTS: u32 = 20_000;
/// Before anything is counted.
const WARM_UP: u32 = 5_000;
/// How long a request takes in the mean.
const LATENCY: Duration = Duration::from_millis(10);
/// Between two sets.
const SECOND: Duration = Duration::from_secs(1);
const SETS: u16 = 20;
/// Members that are made to fail until they are ejected: fewer than the cap allows.
const EJECTED: usize = 3;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test` and test runners start this, too, and ask for nothing.
    let [flag, operation, members] = &args[..] else {
        return;
    };
    let members = members.parse().expect("a number of members");
    assert_eq!(
        flag, "--bench",
        "only `count.sh` starts this with arguments"
    );
    let mut world = World::new(members);
    let count = match operation.as_str() {
        "pick" | "success" => world.requests(false),
        "failure" => world.requests(true),
        "ejection" => world.ejections(),
        "apply" => world.sets(),
        _ => unreachable!("`count.sh` knows the operations"),
    };
    println!("{count:?} {operation}");
}

#[inline(never)]
fn counted_pick(fleet: &Fleet<()>, now: Instant, rng: &mut SmallRng) -> Pick<()> {
    fleet.pick(now, rng, &[]).expect("all members are usable")
}

#[inline(never)]
fn counted_success(pick: Pick<()>, now: Instant) -> bool {
    pick.success(now)
}

#[inline(never)]
fn counted_failure(pick: Pick<()>, now: Instant) -> bool {
    pick.failure(now)
}

#[inline(never)]
fn counted_apply(fleet: &Fleet<()>, set: InstanceSet, now: Instant) -> Vec<Dial> {
    fleet.apply(set, now)
}

/// A fleet and its traffic: half a request in flight for each member.
struct World {
    fleet: Fleet<()>,
    rng: SmallRng,
    now: Instant,
    set: Vec<Instance>,
    under_way: VecDeque<Pick<()>>,
}

/// How often each operation was done.
#[derive(Debug, Default)]
struct Count {
    pick: u32,
    success: u32,
    failure: u32,
    ejection: u32,
    apply: u32,
}

impl World {
    fn new(members: u16) -> Self {
        let now = Instant::now();
        let mut world = Self {
            fleet: Fleet::new(BalanceConfig::default(), 1, now),
            rng: SmallRng::seed_from_u64(1),
            now,
            set: (0..members).map(instance).collect(),
            under_way: VecDeque::new(),
        };
        let dials = world.fleet.apply(world.instances(), now);
        world.connect(dials);
        for _ in 0..WARM_UP {
            let pick = world.fleet.pick(world.now, &mut world.rng, &[]);
            world
                .under_way
                .push_back(pick.expect("all members are usable"));
            world.pass();
            if let Some(pick) = world.due() {
                pick.success(world.now);
            }
        }
        world
    }

    fn instances(&self) -> InstanceSet {
        self.set
            .iter()
            .cloned()
            .collect::<InstanceSet>()
            .confirmed()
    }

    fn connect(&self, dials: Vec<Dial>) {
        let services = dials.into_iter().map(|dial| (dial.ticket, ()));
        self.fleet.connected(services, self.now);
    }

    /// Until the next request. All together take `LATENCY` where half a request for each member is under way.
    fn pass(&mut self) {
        let gap = 2 * LATENCY / self.set.len() as u32;
        self.now += gap.mul_f64(2.0 * self.rng.random::<f64>());
        while self
            .fleet
            .next_deadline()
            .is_some_and(|due| due <= self.now)
        {
            let dials = self.fleet.on_deadline(self.now);
            self.connect(dials);
        }
    }

    /// The oldest request, if as many are under way as should be.
    fn due(&mut self) -> Option<Pick<()>> {
        let is_due = self.under_way.len() > self.set.len() / 2;
        is_due.then(|| self.under_way.pop_front())?
    }

    /// Picks and successes; where some fail, one in fifty.
    fn requests(&mut self, some_fail: bool) -> Count {
        let mut count = Count::default();
        for number in 0..REQUESTS {
            let pick = counted_pick(&self.fleet, self.now, &mut self.rng);
            count.pick += 1;
            self.under_way.push_back(pick);
            self.pass();
            let Some(pick) = self.due() else {
                continue;
            };
            if some_fail && number % 50 == 0 {
                count.failure += 1;
                counted_failure(pick, self.now);
            } else {
                count.success += 1;
                counted_success(pick, self.now);
            }
        }
        assert_eq!(self.ejected(), 0, "one in fifty fails of each member");
        count
    }

    /// Some members fail, each until it is ejected.
    fn ejections(&mut self) -> Count {
        let mut count = Count::default();
        let mut held = BTreeMap::<_, Vec<_>>::new();
        for _ in 0..30 * self.set.len() {
            let pick = self.fleet.pick(self.now, &mut self.rng, &[]);
            let pick = pick.expect("all members are usable");
            held.entry(pick.instance().id().clone())
                .or_default()
                .push(pick);
            self.pass();
        }
        for picks in held
            .into_values()
            .filter(|picks| picks.len() >= 20)
            .take(EJECTED)
        {
            let before = self.ejected();
            for pick in picks {
                self.now += Duration::from_millis(1);
                if self.ejected() == before {
                    counted_failure(pick, self.now);
                }
            }
            assert_eq!(
                self.ejected(),
                before + 1,
                "a member that only fails is ejected"
            );
            count.ejection += 1;
        }
        assert_eq!(count.ejection as usize, EJECTED);
        count
    }

    /// One instance is replaced by a new one, again and again.
    fn sets(&mut self) -> Count {
        let mut count = Count::default();
        let members = self.set.len() as u16;
        for turn in 0..SETS {
            self.now += SECOND;
            let position = usize::from(turn * 7 % members);
            self.set[position] = instance(members + turn);
            let set = self.instances();
            let dials = counted_apply(&self.fleet, set, self.now);
            assert_eq!(dials.len(), 1, "the new instance is dialled");
            self.connect(dials);
            count.apply += 1;
        }
        count
    }

    fn ejected(&mut self) -> u64 {
        self.fleet.status(self.now).ejections.ejected
    }
}

fn instance(number: u16) -> Instance {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1024 + number));
    Instance::new(format!("instance-{number:05}"), addr)
}
