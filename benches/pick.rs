//! What one caller pays per call, against tower's balancers and plain picks.
//!
//! `cargo bench --bench pick`, with `-- --quick` for a smoke run. The service behind every balancer
//! is always ready and answers at once, and calls are polled by hand: neither a scheduler nor a
//! network covers the difference.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod support {
    pub(crate) mod caller;
    pub(crate) mod options;
    pub(crate) mod ours;
    pub(crate) mod plain;
    pub(crate) mod report;
    pub(crate) mod rounds;
    pub(crate) mod service;
    pub(crate) mod tower_balance;
}

use std::fmt::Debug;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusBuilder;
use rolecall::{Balance, BalanceConfig, Load};
use support::options::Options;
use support::plain::{RandomPick, RoundRobin};
use support::report::{Bound, Cost, Promise};
use support::rounds::Case;
use support::service::{Ready, Request};
use support::{caller, ours, report, rounds, tower_balance};
use tokio::runtime::{Builder, Runtime};
use tower::Service;

const LATENCY: &str = "rolecall, defaults";
const METRICS: &str = "rolecall, defaults, Prometheus exporter";
const NO_EJECTION: &str = "rolecall, ejection off";
const IN_FLIGHT: &str = "rolecall, LeastInFlight, ejection off";
const PEAK_EWMA: &str = "tower Balance, PeakEwma";
const PENDING_REQUESTS: &str = "tower Balance, PendingRequests";

const SIZES: [u16; 4] = [10, 100, 1000, 10_000];

fn main() {
    let Some(options) = Options::from_args() else {
        return;
    };
    // Its one worker runs the drivers. Calls are made on this thread, in context for the clock.
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("a runtime with one thread");
    let _context = runtime.enter();

    let rounds = options.rounds(41);
    let batch = options.batch(Duration::from_millis(10));
    report::heading(
        "pick: one caller, one thread, ready inner service",
        &format!(
            "{rounds} rounds of {batch:?} a case, cases in turn; medians, quartiles in brackets"
        ),
    );

    let cases = SIZES
        .iter()
        .flat_map(|&instances| contestants(&runtime, instances))
        .collect();
    let costs = rounds::interleave(cases, rounds, batch);
    report::costs("ns per call", &costs);
    let mut promises = promises(&costs);
    promises.push(exporter_cost(&costs));
    report::promises(&promises);
}

fn promises(costs: &[Cost]) -> Vec<Promise> {
    let rows = [
        (
            "times faster than tower's PeakEwma, N = 10",
            (PEAK_EWMA, 10),
            (LATENCY, 10),
            Some(Bound::AtLeast {
                must: 3.0,
                want: 4.0,
            }),
        ),
        (
            "LeastInFlight: times faster than PendingRequests, N = 10",
            (PENDING_REQUESTS, 10),
            (IN_FLIGHT, 10),
            Some(Bound::AtLeast {
                must: 2.0,
                want: 2.7,
            }),
        ),
        (
            "cost at N = 1000 over N = 10",
            (LATENCY, 1000),
            (LATENCY, 10),
            Some(Bound::AtMost(1.08)),
        ),
        (
            "cost with the exporter over without, N = 10",
            (METRICS, 10),
            (LATENCY, 10),
            None,
        ),
        (
            "cost with ejection over without, N = 10",
            (LATENCY, 10),
            (NO_EJECTION, 10),
            None,
        ),
    ];
    rows.into_iter()
        .map(|(what, case, over, bound)| Promise::of_ratio(what, costs, case, over, bound))
        .collect()
}

/// What a call costs more with the exporter, round by round.
fn exporter_cost(costs: &[Cost]) -> Promise {
    let rounds = |name| {
        let mut costs = costs.iter();
        let case = costs.find(|cost| cost.name == name && cost.instances == 10);
        &case.expect("both cases were measured").rounds
    };
    let pairs = rounds(METRICS).iter().zip(rounds(LATENCY));
    Promise {
        what: "ns that a call costs more with the exporter, N = 10".into(),
        measured: pairs.map(|(with, without)| with - without).collect(),
        bound: Some(Bound::AtMost(40.0)),
    }
}

fn contestants(runtime: &Runtime, instances: u16) -> Vec<Case<'static>> {
    let defaults = BalanceConfig::default();
    let in_flight = BalanceConfig::builder()
        .load(Load::least_in_flight())
        .outlier(None)
        .build()
        .expect("a valid configuration");
    let no_ejection = BalanceConfig::builder()
        .outlier(None)
        .build()
        .expect("a valid configuration");
    vec![
        case(
            LATENCY,
            instances,
            ours::balance::<Ready>(runtime, instances, defaults.clone()),
        ),
        case(
            METRICS,
            instances,
            reported(
                runtime,
                ours::balance::<Ready>(runtime, instances, defaults),
            ),
        ),
        case(
            NO_EJECTION,
            instances,
            ours::balance::<Ready>(runtime, instances, no_ejection),
        ),
        case(
            IN_FLIGHT,
            instances,
            ours::balance::<Ready>(runtime, instances, in_flight),
        ),
        case(
            PEAK_EWMA,
            instances,
            tower_balance::peak_ewma::<Ready>(instances),
        ),
        case(
            PENDING_REQUESTS,
            instances,
            tower_balance::pending_requests::<Ready>(instances),
        ),
        case(
            "random pick",
            instances,
            RandomPick::<Ready>::new(instances),
        ),
        case(
            "round robin",
            instances,
            RoundRobin::<Ready>::new(instances),
        ),
        case("inner service alone", instances, Ready::from(0)),
    ]
}

/// Reports the metrics of a balancer to a recorder of its own.
fn reported<S>(runtime: &Runtime, balance: Balance<S>) -> Balance<S> {
    let recorder = PrometheusBuilder::new().build_recorder();
    let report =
        metrics::with_local_recorder(&recorder, || rolecall::metrics::report(balance.control()));
    runtime.spawn(report);
    balance
}

fn case<S>(name: &'static str, instances: u16, mut service: S) -> Case<'static>
where
    S: Service<Request, Response = u16, Error: Debug> + 'static,
{
    let run = move |calls| {
        let start = Instant::now();
        caller::call_in_place(&mut service, calls);
        start.elapsed()
    };
    Case {
        name,
        instances,
        run: Box::new(run),
    }
}
