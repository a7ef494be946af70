//! What news of discovery costs: a whole set in which one instance moved, taken in by a fleet whose members are all
//! connected.
//!
//! `cargo bench --bench churn`, with `-- --quick` for a smoke run. Backends differ in how much of the former set they hand
//! out again: a registry shares the instances that stayed, a decoder of files or answers builds all of them anew. The
//! time is that of `apply`, the old snapshot's end included; the set is built, and dropped, outside of it.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod support {
    #[expect(dead_code, reason = "sets are counted, not timed in batches")]
    pub(crate) mod options;
    #[expect(dead_code, reason = "no case is compared with another")]
    pub(crate) mod report;
}

use std::net::SocketAddr;
use std::time::Instant;

use rolecall::fleet::Fleet;
use rolecall::{BalanceConfig, Instance, InstanceSet};
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

        let anew = |index: usize| instance(index as u16, present[index].addr().port());
        let mut rebuilt: Vec<Instance> = (0..present.len()).map(anew).collect();
        rebuilt[first] = instance(first as u16, port);
        costs[0].push(apply(&fleet, rebuilt.iter().cloned().collect()));

        present = rebuilt;
        present[second] = instance(second as u16, port);
        costs[1].push(apply(&fleet, present.iter().cloned().collect()));

        let anew = |index: usize| instance(index as u16, present[index].addr().port());
        let unchanged: InstanceSet = (0..present.len()).map(anew).collect();
        costs[2].push(apply(&fleet, unchanged));
    }
    costs
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
