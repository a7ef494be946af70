//! What a call costs when many tasks share one balancer, against tower's behind a `Buffer`, which
//! is what makes it `Clone`; and what it costs two threads without a scheduler, against the floor of any balancer.
//!
//! `cargo bench --bench shared`, with `-- --quick` for a smoke run.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod support {
    pub(crate) mod caller;
    pub(crate) mod floor;
    pub(crate) mod next_turn;
    pub(crate) mod options;
    pub(crate) mod ours;
    pub(crate) mod plain;
    pub(crate) mod report;
    pub(crate) mod rounds;
    pub(crate) mod service;
    pub(crate) mod tasks;
    pub(crate) mod tower_balance;
}

use std::fmt::Debug;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rolecall::BalanceConfig;
use support::caller::call_in_place;
use support::floor::TwoDraws;
use support::next_turn::NextTurn;
use support::options::Options;
use support::plain::{RandomPick, RoundRobin};
use support::report::{Bound, Cost, Promise};
use support::rounds::Case;
use support::service::{Ready, Request};
use support::{ours, report, rounds, tasks, tower_balance};
use tokio::runtime::{Builder, Runtime};
use tower::buffer::Buffer;
use tower::{BoxError, Service};

const OURS: &str = "rolecall";
const OURS_ONE_THREAD: &str = "rolecall, on 1 thread";
const BUFFER: &str = "Buffer, PeakEwma";
const BUFFERED_IN_FLIGHT: &str = "Buffer, PendingRequests";
const RANDOM_PICK: &str = "random pick";
const ROUND_ROBIN: &str = "round robin";
const FLOOR: &str = "two draws over padded counters";

const INNER: &str = "inner service alone";
const INNER_ONE_THREAD: &str = "inner service alone, on 1 thread";

const TASKS: u64 = 64;
const MANY_TASKS: usize = 1024;

/// Room for every task's request, as `Buffer`'s documentation advises.
const BUFFER_BOUND: usize = MANY_TASKS;

fn main() {
    let Some(options) = Options::from_args() else {
        return;
    };
    let one = runtime(1);
    let two = runtime(2);

    let mut promises = throughput(options, &one, &two);
    promises.extend(beside_the_floor(options, &two));
    promises.push(waits(options, &two));
    report::promises(&promises);
}

/// What a call takes of the wall clock while tasks keep the threads busy.
fn throughput(options: Options, one: &Runtime, two: &Runtime) -> Vec<Promise> {
    let rounds = options.rounds(41);
    let batch = options.batch(Duration::from_millis(40));
    report::heading(
        &format!("shared: {TASKS} tasks on 2 threads, one balancer, ready inner service"),
        &format!(
            "{rounds} rounds of {batch:?} a case, cases in turn, a processor a thread; medians, quartiles in brackets"
        ),
    );
    let mut cases = vec![
        case(INNER_ONE_THREAD, 10, one, Ready::from(0)),
        case(INNER, 10, two, Ready::from(0)),
        case(
            OURS_ONE_THREAD,
            10,
            one,
            ours::balance::<Ready>(one, 10, BalanceConfig::default()),
        ),
    ];
    for instances in [10, 10_000] {
        cases.extend([
            case(
                OURS,
                instances,
                two,
                ours::balance::<Ready>(two, instances, BalanceConfig::default()),
            ),
            case(
                BUFFER,
                instances,
                two,
                buffered(two, || tower_balance::peak_ewma::<Ready>(instances)),
            ),
            case(
                BUFFERED_IN_FLIGHT,
                instances,
                two,
                buffered(two, || tower_balance::pending_requests::<Ready>(instances)),
            ),
            case(
                RANDOM_PICK,
                instances,
                two,
                RandomPick::<Ready>::new(instances),
            ),
            case(
                ROUND_ROBIN,
                instances,
                two,
                RoundRobin::<Ready>::new(instances),
            ),
        ]);
    }
    let costs = rounds::interleave(cases, rounds, batch);
    report::costs("wall-clock ns per call", &costs);

    let rows = [
        (
            "times faster than Buffer, N = 10",
            (BUFFER, 10),
            (OURS, 10),
            Some(Bound::AtLeast {
                must: 4.5,
                want: 5.5,
            }),
        ),
        (
            "times faster than Buffer, N = 10 000",
            (BUFFER, 10_000),
            (OURS, 10_000),
            Some(Bound::AtLeast {
                must: 6.0,
                want: 9.0,
            }),
        ),
        (
            "cost at N = 10 000 over N = 10",
            (OURS, 10_000),
            (OURS, 10),
            Some(Bound::AtMost(1.2)),
        ),
        (
            "second thread's gain in throughput, N = 10",
            (OURS_ONE_THREAD, 10),
            (OURS, 10),
            Some(Bound::AtLeast {
                must: 1.4,
                want: 1.5,
            }),
        ),
        (
            "the same of the inner service alone: what this machine has",
            (INNER_ONE_THREAD, 10),
            (INNER, 10),
            None,
        ),
    ];
    rows.into_iter()
        .map(|(what, case, over, bound)| Promise::of_ratio(what, &costs, case, over, bound))
        .collect()
}

/// What a call takes of the wall clock while two threads call one balancer and do nothing else.
fn beside_the_floor(options: Options, runtime: &Runtime) -> Vec<Promise> {
    let rounds = options.rounds(41);
    let batch = options.batch(Duration::from_millis(40));
    report::heading(
        "shared: 2 threads without a scheduler, one balancer, ready inner service",
        &format!(
            "{rounds} rounds of {batch:?} a case, cases in turn, a processor a thread; medians, quartiles in brackets"
        ),
    );
    let sizes = [3, 10, 1000];
    let mut cases = Vec::new();
    for instances in sizes {
        let config = BalanceConfig::default();
        let balance = ours::balance::<Ready>(runtime, instances, config);
        cases.extend([
            on_two_threads(OURS, instances, balance),
            on_two_threads(FLOOR, instances, TwoDraws::<Ready>::new(instances)),
        ]);
    }
    let costs = rounds::interleave(cases, rounds, batch);
    report::costs("wall-clock ns per call", &costs);
    let ratio = |instances| {
        Promise::of_ratio(
            &format!("cost on two threads over the floor's, N = {instances}"),
            &costs,
            (OURS, instances),
            (FLOOR, instances),
            Bound::AtMost(1.9),
        )
    };
    sizes.map(ratio).into()
}

/// Each thread calls through a clone of its own.
fn on_two_threads<'a, S>(name: &'static str, instances: u16, service: S) -> Case<'a>
where
    S: Service<Request, Response = u16, Error: Debug> + Clone + Send + 'a,
{
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    Case {
        name,
        instances,
        run: Box::new(move |calls| {
            let start = Barrier::new(2);
            thread::scope(|scope| {
                let threads = [0, 1].map(|number| {
                    let (start, core) = (&start, cores.get(number));
                    let mut service = service.clone();
                    scope.spawn(move || {
                        if let Some(&core) = core {
                            core_affinity::set_for_current(core);
                        }
                        start.wait();
                        let began = Instant::now();
                        call_in_place(&mut service, calls.div_ceil(2));
                        began.elapsed()
                    })
                });
                let took = threads.map(|thread| thread.join().expect("a caller does not panic"));
                took.into_iter().max().unwrap_or_default()
            })
        }),
    }
}

/// How long the unlucky wait while everyone calls at once.
///
/// A service that answers at once would let each task finish its calls undisturbed.
fn waits(options: Options, two: &Runtime) -> Promise {
    let passes = options.rounds(15);
    let each = if options.quick { 20 } else { 100 };
    report::heading(
        &format!(
            "shared: {MANY_TASKS} tasks on 2 threads, one balancer, answers a scheduler's turn later"
        ),
        &format!(
            "{passes} passes of {each} calls a task, cases in turn; medians, quartiles in brackets"
        ),
    );
    let mut cases = [
        waiting(
            OURS,
            each,
            two,
            ours::balance::<NextTurn>(two, 10, BalanceConfig::default()),
        ),
        waiting(
            BUFFER,
            each,
            two,
            buffered(two, || tower_balance::peak_ewma::<NextTurn>(10)),
        ),
        waiting(ROUND_ROBIN, each, two, RoundRobin::<NextTurn>::new(10)),
    ];
    let mut costs: Vec<_> = cases
        .iter()
        .map(|case| Cost {
            name: case.name,
            instances: 10,
            rounds: Vec::new(),
        })
        .collect();
    for _ in 0..passes {
        for (case, cost) in cases.iter_mut().zip(&mut costs) {
            cost.rounds.push((case.run)());
        }
    }
    report::costs("p99 of a call, µs", &costs);
    Promise::of_ratio(
        "p99 of a call over Buffer's, 1024 tasks, N = 10",
        &costs,
        (OURS, 10),
        (BUFFER, 10),
        Bound::AtMost(0.25),
    )
}

fn case<'a, S>(name: &'static str, instances: u16, runtime: &'a Runtime, service: S) -> Case<'a>
where
    S: Service<Request, Response = u16, Error: Debug, Future: Send> + Clone + Send + 'static,
{
    Case {
        name,
        instances,
        run: Box::new(move |calls| tasks::throughput(runtime, &service, TASKS, calls)),
    }
}

/// One contestant of [`waits`]; each run is one pass and gives its p99 in µs.
struct Waiting<'a> {
    name: &'static str,
    run: Box<dyn FnMut() -> f64 + 'a>,
}

fn waiting<'a, S>(name: &'static str, each: usize, runtime: &'a Runtime, service: S) -> Waiting<'a>
where
    S: Service<Request, Response = u16, Error: Debug, Future: Send> + Clone + Send + 'static,
{
    let run = move || {
        let mut latencies = tasks::latencies(runtime, &service, MANY_TASKS, each);
        let rank = latencies.len() * 99 / 100;
        *latencies.select_nth_unstable(rank).1 as f64 / 1e3
    };
    Waiting {
        name,
        run: Box::new(run),
    }
}

/// Puts what `make` makes behind a `Buffer` whose worker runs on `runtime`.
fn buffered<S>(runtime: &Runtime, make: impl FnOnce() -> S) -> Buffer<Request, S::Future>
where
    S: Service<Request, Error: Into<BoxError> + Send + Sync, Future: Send> + Send + 'static,
{
    let _context = runtime.enter();
    Buffer::new(make(), BUFFER_BOUND)
}

/// Threads that keep to a processor each: a scheduler that packs them onto one would measure itself.
fn runtime(threads: usize) -> Runtime {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let next = AtomicUsize::new(0);
    Builder::new_multi_thread()
        .worker_threads(threads)
        .on_thread_start(move || {
            if let Some(&core) = cores.get(next.fetch_add(1, Relaxed)) {
                core_affinity::set_for_current(core);
            }
        })
        .enable_time()
        .build()
        .expect("a runtime")
}
