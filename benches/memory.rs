//! What a call takes from the heap once a balancer is warm, and what a member keeps of it.
//!
//! `cargo bench --bench memory`. Apart from the timed benches because a counting allocator makes
//! every allocation dearer, which would flatter whoever allocates less. It counts per thread: on
//! the one that calls, which for `Buffer` is also the one that runs its worker.

mod support {
    pub(crate) mod caller;
    #[expect(
        dead_code,
        reason = "a smoke run needs nothing less: counting is quick"
    )]
    pub(crate) mod options;
    pub(crate) mod ours;
    #[expect(dead_code, reason = "ratios are for the timed benches")]
    pub(crate) mod report;
    pub(crate) mod service;
    pub(crate) mod tower_balance;
}

use std::fmt::Debug;
use std::future::poll_fn;

use rolecall::fleet::Fleet;
use rolecall::{BalanceConfig, Instance, InstanceSet, Load};
use support::options::Options;
use support::report::{self, Bound, Cost, Promise};
use support::service::{Ready, Request};
use support::{caller, ours, tower_balance};
use tokio::runtime::Builder;
use tower::Service;
use tower::buffer::Buffer;

const LATENCY: &str = "rolecall, defaults";
const IN_FLIGHT: &str = "rolecall, LeastInFlight";

const SIZES: [u16; 2] = [10, 10_000];
const CALLS: u32 = 10_000;

fn main() {
    if Options::from_args().is_none() {
        return;
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("a runtime with one thread");
    let _context = runtime.enter();
    report::heading(
        "memory: heap allocations of a call, ready inner service",
        &format!("counted over {CALLS} calls of a warm balancer"),
    );

    let in_flight = BalanceConfig::builder()
        .load(Load::least_in_flight())
        .outlier(None)
        .build()
        .expect("a valid configuration");
    let costs: Vec<Cost> = SIZES
        .iter()
        .flat_map(|&instances| {
            let balance = |config| ours::balance::<Ready>(&runtime, instances, config);
            [
                in_place(LATENCY, instances, balance(BalanceConfig::default())),
                in_place(IN_FLIGHT, instances, balance(in_flight.clone())),
                in_place(
                    "tower Balance, PeakEwma",
                    instances,
                    tower_balance::peak_ewma::<Ready>(instances),
                ),
                in_place(
                    "tower Balance, PendingRequests",
                    instances,
                    tower_balance::pending_requests::<Ready>(instances),
                ),
                buffered(instances),
            ]
        })
        .collect();
    report::costs("allocations per call", &costs);

    let none = |name, what: &str| {
        let counts = costs
            .iter()
            .filter(|cost| cost.name == name)
            .flat_map(|cost| &cost.rounds);
        let most = counts.copied().fold(0.0, f64::max);
        Promise {
            what: what.into(),
            measured: vec![most],
            bound: Some(Bound::AtMost(0.0)),
        }
    };
    report::promises(&[
        none(LATENCY, "allocations per request, defaults"),
        none(IN_FLIGHT, "allocations per request, LeastInFlight"),
    ]);
    members();
    balancer();
}

/// A program may have a balancer for each of hundreds of targets.
fn balancer() {
    const INSTANCES: u16 = 3;
    report::heading(
        "memory: live heap of a balancer",
        "counted once three members are connected; its driver included",
    );
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime on this thread");
    let balance = || ours::balance::<Ready>(&runtime, INSTANCES, BalanceConfig::default());
    // What the runtime and this thread keep after the first is theirs.
    drop(balance());
    runtime.block_on(tokio::task::yield_now());
    let mut kept = None;
    let unheard = allocation_counter::measure(|| kept = Some(balance()));
    let mut events = None;
    let heard =
        allocation_counter::measure(|| events = kept.as_ref().map(|kept| kept.control().events()));
    drop((kept, events));
    let live = |bytes: i64| vec![bytes as f64 / 1024.0];
    report::promises(&[
        Promise {
            what: "live heap of a balancer without a listener, KiB".into(),
            measured: live(unheard.bytes_current),
            bound: Some(Bound::AtMost(16.0)),
        },
        Promise {
            what: "the same, more for its first listener".into(),
            measured: live(heard.bytes_current),
            bound: None,
        },
    ]);
}

/// What is live once all members are connected: without services, which are of no size here, and without the instances,
/// which the set has.
fn members() {
    report::heading(
        "memory: live heap of a member, besides its service and its instance",
        "counted once all are connected",
    );
    let costs: Vec<Cost> = [10, 1000, 10_000].into_iter().map(live_heap).collect();
    report::costs("bytes per member", &costs);
    let promises: Vec<_> = costs
        .into_iter()
        .filter(|cost| cost.instances >= 1000)
        .map(|cost| Promise {
            what: format!("live heap of a member, N = {}", cost.instances),
            measured: cost.rounds,
            bound: Some(Bound::AtMost(320.0)),
        })
        .collect();
    report::promises(&promises);
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn live_heap(instances: u16) -> Cost {
    let set: InstanceSet = (0..instances)
        .map(|instance| Instance::new(format!("instance-{instance}"), ([127, 0, 0, 1], 1)))
        .collect();
    let now = std::time::Instant::now();
    let mut kept = None;
    let counted = allocation_counter::measure(|| {
        let fleet = Fleet::<()>::new(BalanceConfig::default(), 1, now);
        let dials = fleet.apply(set.clone(), now);
        fleet.connected(dials.into_iter().map(|dial| (dial.ticket, ())), now);
        drop(fleet.take_events());
        kept = Some(fleet);
    });
    drop(kept);
    Cost {
        name: "rolecall",
        instances,
        rounds: vec![counted.bytes_current as f64 / f64::from(instances)],
    }
}

fn in_place<S>(name: &'static str, instances: u16, mut service: S) -> Cost
where
    S: Service<Request, Response = u16, Error: Debug>,
{
    count(name, instances, |calls| {
        caller::call_in_place(&mut service, calls)
    })
}

fn buffered(instances: u16) -> Cost {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime on this thread");
    let mut service =
        runtime.block_on(async { Buffer::new(tower_balance::peak_ewma::<Ready>(instances), 1024) });
    count("Buffer, PeakEwma", instances, |calls| {
        runtime.block_on(async {
            for _ in 0..calls {
                poll_fn(|cx| service.poll_ready(cx))
                    .await
                    .expect("a balancer of ready services is ready");
                service
                    .call(Request)
                    .await
                    .expect("ready services do not fail");
            }
        });
    })
}

/// Warms up, then counts.
fn count(name: &'static str, instances: u16, mut call: impl FnMut(u64)) -> Cost {
    call(4 * u64::from(instances));
    let counted = allocation_counter::measure(|| call(u64::from(CALLS))).count_total;
    Cost {
        name,
        instances,
        rounds: vec![counted as f64 / f64::from(CALLS)],
    }
}
