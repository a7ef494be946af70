//! What news of discovery costs: a whole set in which one instance moved, taken in by a fleet whose members are all
//! connected.
//!
//! `cargo bench --bench churn`, with `-- --quick` for a smoke run. Backends differ in how much of the former set they hand
//! out again: a registry shares the instances that stayed, a decoder of files or answers builds all of them anew. The
//! time is that of `apply`, the old snapshot's end included; the set is built, and dropped, outside of it.
//!
//! Then what a pick costs that finds nobody with room, and what a fault of half a large fleet costs: each of its members is
//! ejected and restored by a call of its own that takes the writers' lock, and all that a rule ejected are restored by one
//! call that switches the rules off and takes the lock several times. A single eject, restore, failure or deadline takes the
//! lock once: the CPU time of its longest call bounds that for which the lock was held. The wall clock would count the time
//! slices of other programs, and they are longer than that. The reconfiguration restores a thousand at a time: one of them is
//! timed as well. Beside the whole of it a second thread asks for the lock all the time, and its longest wait is told; that is
//! an upper bound, since the writer may take the lock again first, and tells something only of a machine with nothing else to do.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod support {
    #[expect(dead_code, reason = "sets are counted, not timed in batches")]
    pub(crate) mod options;
    #[expect(dead_code, reason = "no case is compared with another")]
    pub(crate) mod report;
}

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rolecall::fleet::Fleet;
use rolecall::{BalanceConfig, Instance, InstanceSet, Load, MemberState};
use rustix::time::{ClockId, clock_gettime};
use support::options::Options;
use support::report::{self, Bound, Cost, Promise};

const REBUILT: &str = "every instance built anew";
const SHARED: &str = "instances that stay are shared";
const UNCHANGED: &str = "nothing changed, built anew";

/// Sizes, and the most microseconds that one change may take.
const SIZES: [(u16, f64); 2] = [(1000, 60.0), (10_000, 600.0)];

fn main() {
    let Some(options) = Options::from_args() else {
        return;
    };
    let rounds = options.rounds(201);
    report::heading(
        "churn: a new whole set with one change",
        &format!("{rounds} sets a case, in turn; medians, quartiles in brackets"),
    );
    let mut costs = Vec::new();
    let mut promises = Vec::new();
    for (instances, most) in SIZES {
        let [rebuilt, shared, unchanged] = measure(instances, rounds);
        for (name, rounds) in [
            (REBUILT, &rebuilt),
            (SHARED, &shared),
            (UNCHANGED, &unchanged),
        ] {
            costs.push(Cost {
                name,
                instances,
                rounds: rounds.clone(),
            });
        }
        for (what, measured) in [(REBUILT, rebuilt), (SHARED, shared)] {
            promises.push(Promise {
                what: format!("µs, {what}, N = {instances}"),
                measured,
                bound: Some(Bound::AtMost(most)),
            });
        }
    }
    promises.push(Promise {
        what: "a pick when all are at their cap, N = 10 000 over N = 10".to_owned(),
        measured: saturated(options.rounds(101)),
        bound: Some(Bound::AtMost(2.0)),
    });
    let half = eject_half(options.rounds(11));
    for (what, measured, most) in [
        (
            "CPU ms, half of 10 000 ejected and restored, one by one",
            half.by_hand,
            50.0,
        ),
        (
            "CPU ms, the longest call of those",
            half.longest_by_hand,
            1.0,
        ),
        (
            "CPU ms, the longest failure while a rule ejects half",
            half.longest_failure,
            1.0,
        ),
        (
            "CPU ms, the longest deadline meanwhile",
            half.longest_deadline,
            1.0,
        ),
        (
            "CPU ms, 1000 of 10 000 restored by switching rules off",
            half.one_step,
            1.0,
        ),
        (
            "ms, half of 10 000 restored by switching rules off",
            half.switched_off,
            10.0,
        ),
        (
            "ms, the longest wait for the writers' lock meanwhile",
            half.longest_wait,
            1.0,
        ),
    ] {
        promises.push(Promise {
            what: what.to_owned(),
            measured,
            bound: Some(Bound::AtMost(most)),
        });
    }
    report::costs("µs per set", &costs);
    report::promises(&promises);
}

fn measure(instances: u16, rounds: usize) -> [Vec<f64>; 3] {
    let start = Instant::now();
    let fleet = Fleet::<()>::new(BalanceConfig::default(), 1, start);
    let mut present: Vec<Instance> = (0..instances).map(|index| instance(index, 1)).collect();
    apply(&fleet, present.iter().cloned().collect());
    let mut costs = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..rounds as u16 {
        let moved = |round| usize::from(round % instances);
        let (first, second) = (moved(round), moved(round + instances / 2));
        let port = round + 2;

        let anew = |index: usize| {
            instance(
                index as u16,
                present[index].address().port().expect("a TCP address"),
            )
        };
        let mut rebuilt: Vec<Instance> = (0..present.len()).map(anew).collect();
        rebuilt[first] = instance(first as u16, port);
        costs[0].push(apply(&fleet, rebuilt.iter().cloned().collect()));

        present = rebuilt;
        present[second] = instance(second as u16, port);
        costs[1].push(apply(&fleet, present.iter().cloned().collect()));

        let anew = |index: usize| {
            instance(
                index as u16,
                present[index].address().port().expect("a TCP address"),
            )
        };
        let unchanged: InstanceSet = (0..present.len()).map(anew).collect();
        costs[2].push(apply(&fleet, unchanged));
    }
    costs
}

/// What a pick costs that finds all members at their cap, of a large fleet over a small one.
fn saturated(rounds: usize) -> Vec<f64> {
    const PICKS: u32 = 1000;
    let start = Instant::now();
    let config = || BalanceConfig::builder().max_in_flight(1).build();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut full = |members: u16| {
        let fleet = Fleet::<()>::new(config().expect("valid"), 1, start);
        apply(
            &fleet,
            (0..members).map(|index| instance(index, 1)).collect(),
        );
        let mut held = Vec::new();
        // Beyond 16 members a pick may overlook the last ones that have room.
        while held.len() < members.into() {
            held.extend(fleet.pick(start, &mut rng, &[]).ok());
        }
        (fleet, held)
    };
    let (large, small) = (full(10_000), full(10));
    let mut cost = |fleet: &Fleet<()>| {
        let began = Instant::now();
        for _ in 0..PICKS {
            assert!(fleet.pick(start, &mut rng, &[]).is_err(), "all are full");
        }
        began.elapsed().as_secs_f64()
    };
    (0..rounds)
        .map(|_| cost(&large.0) / cost(&small.0))
        .collect()
}

const MEMBERS: u16 = 10_000;
/// Members that a reconfiguration restores under one lock.
const ONE_STEP: usize = 1000;
/// Milliseconds of a wait in which another thread met the writer.
const MET: f64 = 0.02;

/// Milliseconds, one value a round; of CPU time but for the last two.
#[derive(Default)]
struct Half {
    /// All calls that eject and restore half of a large fleet one by one.
    by_hand: Vec<f64>,
    longest_by_hand: Vec<f64>,
    longest_failure: Vec<f64>,
    longest_deadline: Vec<f64>,
    /// A call that takes the lock twice: for the rules, and for a thousand members that are restored.
    one_step: Vec<f64>,
    /// The call that restores all.
    switched_off: Vec<f64>,
    /// Of the rounds in which the other thread waited at all.
    longest_wait: Vec<f64>,
}

fn eject_half(rounds: usize) -> Half {
    const HOUR: Duration = Duration::from_secs(3600);
    let least = || BalanceConfig::builder().load(Load::least_in_flight());
    let start = Instant::now();
    let fleet = Fleet::<()>::new(least().build().expect("valid"), 1, start);
    apply(
        &fleet,
        (0..MEMBERS).map(|index| instance(index, 1)).collect(),
    );
    let half = || (0..MEMBERS / 2).map(|index| instance(index, 1).id().clone());
    let mut rng = SmallRng::seed_from_u64(1);
    let mut measured = Half::default();
    let mut now = start;
    for _ in 0..rounds {
        let mut calls = Vec::with_capacity(MEMBERS.into());
        for id in half() {
            calls.push(cpu_milliseconds(|| fleet.eject(&id, HOUR, now)));
        }
        for id in half() {
            calls.push(cpu_milliseconds(|| fleet.restore(&id, now)));
        }
        measured.by_hand.push(calls.iter().sum());
        let longest = calls.iter().copied().fold(0.0, f64::max);
        measured.longest_by_hand.push(longest);

        let (failure, deadline) = eject_by_rule(&fleet, &mut now, &mut rng);
        measured.longest_failure.push(failure);
        measured.longest_deadline.push(deadline);
        let off = least().outlier(None).build().expect("valid");
        let (took, wait) = beside_a_waiter(&fleet, || fleet.reconfigure(off, now));
        measured.switched_off.push(took);
        if wait >= MET {
            measured.longest_wait.push(wait);
        }
        fleet.reconfigure(least().build().expect("valid"), now);

        eject_by_rule(&fleet, &mut now, &mut rng);
        for id in half().skip(ONE_STEP) {
            fleet.restore(&id, now);
        }
        let off = least().outlier(None).build().expect("valid");
        let step = cpu_milliseconds(|| fleet.reconfigure(off, now));
        measured.one_step.push(step);
        fleet.reconfigure(least().build().expect("valid"), now);
        fleet.take_events();
        now += Duration::from_secs(20);
        fleet.on_deadline(now);
    }
    measured
}

/// Half of the members fail until a rule has ejected all of those. Milliseconds of the longest failure and the longest deadline.
fn eject_by_rule(fleet: &Fleet<()>, now: &mut Instant, rng: &mut SmallRng) -> (f64, f64) {
    let ejected = |now| {
        let members = fleet.status(now).members;
        let is_out = members.iter().filter(|m| m.state == MemberState::Ejected);
        is_out.count()
    };
    let (mut failure, mut deadline) = (0.0_f64, 0.0_f64);
    while ejected(*now) < usize::from(MEMBERS / 2) {
        for request in 0..50_000 {
            *now += Duration::from_micros(10);
            if request % 1000 == 0 {
                deadline = deadline.max(cpu_milliseconds(|| fleet.on_deadline(*now)));
            }
            let pick = fleet.pick(*now, rng, &[]).expect("half of them are usable");
            let answered = *now + Duration::from_millis(1);
            if pick.instance().id().as_str() < "instance-05000" {
                failure = failure.max(cpu_milliseconds(|| pick.failure(answered)));
            } else {
                pick.success(answered);
            }
        }
    }
    (failure, deadline)
}

/// Milliseconds that `change` takes, and the longest that another thread waits for the writers' lock meanwhile.
fn beside_a_waiter(fleet: &Fleet<()>, change: impl FnOnce()) -> (f64, f64) {
    let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut longest = 0.0_f64;
            while !done.load(Relaxed) {
                // It takes the lock and reads two words.
                longest = longest.max(milliseconds(|| fleet.next_deadline()));
                begun.store(true, Relaxed);
            }
            longest
        });
        while !begun.load(Relaxed) {
            thread::yield_now();
        }
        let took = milliseconds(change);
        done.store(true, Relaxed);
        (took, waiter.join().expect("a waiter does not panic"))
    })
}

/// Milliseconds of this thread's CPU time.
fn cpu_milliseconds<T>(call: impl FnOnce() -> T) -> f64 {
    let cpu = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
    };
    let began = cpu();
    let answer = call();
    let took = cpu() - began;
    drop(answer);
    took
}

fn milliseconds<T>(call: impl FnOnce() -> T) -> f64 {
    let began = Instant::now();
    let answer = call();
    let took = began.elapsed();
    drop(answer);
    took.as_secs_f64() * 1e3
}

/// Takes a set in, and connects whoever is dialled for it; the microseconds of the former.
fn apply(fleet: &Fleet<()>, set: InstanceSet) -> f64 {
    let kept = set.clone();
    let start = Instant::now();
    let dials = fleet.apply(set, start);
    let took = start.elapsed();
    fleet.connected(dials.into_iter().map(|dial| (dial.ticket, ())), start);
    fleet.take_events();
    drop(kept);
    took.as_secs_f64() * 1e6
}

fn instance(index: u16, port: u16) -> Instance {
    Instance::new(
        format!("instance-{index:05}"),
        SocketAddr::from(([127, 0, 0, 1], port)),
    )
}
