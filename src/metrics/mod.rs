//! Counters, gauges and histograms of balancers, by the [`metrics`](https://docs.rs/metrics) facade (feature `metrics`).
//!
//! Any exporter of the facade works: Prometheus, OpenTelemetry, StatsD. Install its recorder first, then spawn
//! [`report`] once for each balancer.
//!
//! ```no_run
//! use rolecall::{Instance, List, BalanceLayer, connect, metrics};
//! use tower::{Layer, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let list = List::from_addrs(["127.0.0.1:8001".parse()?])?;
//! # let connector = connect::per_instance(|_: &Instance| {
//! #     service_fn(|request: u32| async move { Ok::<_, std::io::Error>(request) })
//! # });
//! let balance = BalanceLayer::new(list, "worker:http")?.layer(connector);
//! tokio::spawn(metrics::report(balance.control()));
//! # Ok(())
//! # }
//! ```
//!
//! # What is reported
//!
//! All have the labels `boundary`, `role` and `endpoint`. There is no label per instance, because each instance that leaves
//! would leave a dead series behind. [`Control::explain`] tells instances apart.
//!
//! | Name | Type | Unit | Further labels | Meaning |
//! |---|---|---|---|---|
//! | `rolecall_attempt_duration_seconds` | histogram | seconds | `outcome`: `success`, `failure`, `unanswered`, `cancelled`, `unsent`, `overloaded` | from the pick to the beginning of the answer, or to the end without one; its count is the number of attempts |
//! | `rolecall_wait_duration_seconds` | histogram | seconds | | how long requests waited for a usable instance or a ready service; those that did not wait are left out |
//! | `rolecall_resends_total` | counter | requests | | requests that no instance acted on and that were sent once more, by [`http::Resend`](crate::http::Resend) or [`retry`](crate::retry) |
//! | `rolecall_retries_total` | counter | requests | | requests that were sent again by [`retry`](crate::retry), or by any caller that [avoids](crate::Hints::avoid) an instance |
//! | `rolecall_waiting` | gauge | requests | | requests that wait now |
//! | `rolecall_in_flight` | gauge | requests | | requests that instances have now |
//! | `rolecall_members` | gauge | instances | `state`: `usable`, `busy`, `weightless`, `ejected`, `probation`, `draining`, `connecting`, `disconnected` | known instances by state |
//! | `rolecall_zone_usable` | gauge | instances | `zone` | usable instances by zone; 0 once the zone has left |
//! | `rolecall_zone_requests` | gauge | requests per second | `zone` | requests that the instances of the zone ended in the last 10 s, over 10 |
//! | `rolecall_share_least` | gauge | 1 | | the least share of a usable instance over its fair share, in the last 10 s; 1 is fair |
//! | `rolecall_share_most` | gauge | 1 | | the same for the largest share |
//! | `rolecall_panic_mode` | gauge | 0 or 1 | | all instances are out, and are picked anyway |
//! | `rolecall_outliers_total` | counter | outliers | | a rule found an outlier |
//! | `rolecall_ejections_total` | counter | ejections | `reason`: `failures-in-row`, `unresponsive`, `failure-rate`, `manual` | ejections that took place |
//! | `rolecall_ejections_withheld_total` | counter | ejections | `reason`: `by-cap`, `in-shadow` | an outlier stayed in play; at most one a second for each instance |
//! | `rolecall_trials_total` | counter | trials | `result`: `returned`, `failed` | trials of ejected instances |
//! | `rolecall_dials_total` | counter | dials | `result`: `connected`, `failed` | dials that ended |
//! | `rolecall_connections_lost_total` | counter | connections | | connections that were lost |
//! | `rolecall_set_age_seconds` | gauge | seconds | | time since discovery last answered with a set; not a number (`NaN`) before the first; no sign of trouble in itself |
//! | `rolecall_sets_doubted_total` | counter | sets | | answers of discovery that were suspiciously small |
//! | `rolecall_discovery_errors_total` | counter | errors | | errors that discovery reported |
//! | `rolecall_discovery_failing` | gauge | 0 or 1 | | discovery's last answer was an error |
//! | `rolecall_stalls_total` | counter | stalls | | this process stalled for more than 250 ms |
//! | `rolecall_events_missed_total` | counter | events | | events that the counters above lack, because more than 1024 came within a second |
//!
//! Instances without a zone are in no series with the label `zone`. After the first 16 zones further ones are reported
//! together as the zone `other`.
//!
//! Several balancers of one target write to the same series, and each gauge shows the last one to write. [`report_as`] keeps
//! them apart by one more label. When a balancer has ended, its members are not a number (`NaN`), so that no alert fires.
//!
//! Attempts have no sample where picks read no clock: with [`Load::least_in_flight`](crate::Load::least_in_flight) and
//! ejection off.
//!
//! # Alerts worth having
//!
//! | Alert | Condition in PromQL | What to do |
//! |---|---|---|
//! | nobody is usable | `rolecall_members{state="usable"} == 0` for 10 s | the warning `unavailable` in the log has the census and the cause |
//! | all are out | `rolecall_panic_mode == 1` for 1 min | the fault is shared: look below the instances, not at one |
//! | one in ten fails | `sum by (role) (rate(rolecall_attempt_duration_seconds_count{outcome!~"success\|cancelled"}[5m])) > 0.1 * sum by (role) (rate(rolecall_attempt_duration_seconds_count[5m]))` | [`explain`](Control::explain) says which instances fail, and why they are not ejected |
//! | retries multiply the load | `sum by (role) (rate(rolecall_retries_total[5m])) > 0.1 * sum by (role) (rate(rolecall_attempt_duration_seconds_count[5m]))` | the fault is wider than one instance: lower the retry budget before the retries overload the rest |
//! | a zone is lost | `rolecall_zone_usable == 0` for 1 min | requests go to other zones; look at that zone's network |
//! | ejection cannot follow | `rate(rolecall_ejections_withheld_total{reason="by-cap"}[5m]) > 0` | more instances are bad than may be out |
//! | instances do not connect | `rolecall_members{state="disconnected"} > 0` for 5 min | the warning `unreachable` has address and error |
//! | discovery fails | `rolecall_discovery_failing == 1` for 5 min | requests go on with the last known set; repair discovery before instances change |
//! | this process stalls | `rate(rolecall_stalls_total[5m]) > 0.1` | CPU limits, or code that blocks the runtime |
//!
//! `dashboards/grafana.json` draws all of them.
//!
//! # Cost
//!
//! An attempt adds one sample to one histogram. Everything else is computed once a second from [`Control::status`], and
//! counted from [`Control::events`]. Without the feature nothing is compiled in.

mod attempts;
mod fleet;
mod zones;

use std::future::{Future, pending};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use metrics::{Label, Unit, describe_counter, describe_gauge, describe_histogram};

use self::fleet::Gauges;
use crate::balance::control::Control;
use crate::model::target::Target;
use crate::runtime::{clock, timer};

/// The time between two updates of gauges.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reports the metrics of a balancer until it ends. Spawn it as a task, once for each balancer.
///
/// The recorder is the one that is installed when this function is called. A second report of the same balancer adds no
/// samples of attempts. Needs a tokio runtime with timers; without one only the attempts are sampled.
///
/// # Cancellation
///
/// Dropping the future ends the report. Attempts are still sampled.
pub fn report(control: &Control) -> impl Future<Output = ()> + Send + use<> {
    report_with(control, labels(control.target()))
}

/// Reports the metrics of a balancer with the additional label `balancer`, whose value is `name`.
///
/// For programs with several balancers of one target. Otherwise the same as [`report`].
///
/// # Cancellation
///
/// As with [`report`].
pub fn report_as(control: &Control, name: &str) -> impl Future<Output = ()> + Send + use<> {
    let mut labels = labels(control.target());
    labels.push(Label::new("balancer", name.to_owned()));
    report_with(control, labels)
}

fn report_with(control: &Control, labels: Vec<Label>) -> impl Future<Output = ()> + Send + use<> {
    describe();
    control.sample(attempts::samples(&labels));
    let mut gauges = Gauges::new(labels);
    let (control, mut events) = (control.clone(), control.events());
    async move {
        while let Some(waiting) = control.waiting() {
            gauges.set(&control.status(), waiting);
            let at = clock::now() + INTERVAL;
            let mut tick = pin!(async {
                match timer::sleep_until(at) {
                    Some(tick) => tick.await,
                    None => pending().await,
                }
            });
            loop {
                match select(events.next(), tick.as_mut()).await {
                    Either::Left((Some(event), _)) => gauges.count(&event),
                    Either::Left((None, _)) => {
                        gauges.end();
                        return;
                    }
                    Either::Right(_) => break,
                }
            }
        }
        gauges.end();
    }
}

fn labels(target: &Target) -> Vec<Label> {
    let boundary = target.boundary().map(ToString::to_string);
    vec![
        Label::new("boundary", boundary.unwrap_or_default()),
        Label::new("role", target.role().to_string()),
        Label::new("endpoint", target.endpoint().to_string()),
    ]
}

fn describe() {
    use attempts::{ATTEMPT, RETRIES, WAIT};
    use fleet as f;
    describe_histogram!(
        ATTEMPT,
        Unit::Seconds,
        "from the pick to the answer, or to the end without one"
    );
    describe_histogram!(
        WAIT,
        Unit::Seconds,
        "how long requests waited for an instance"
    );
    #[cfg(feature = "http")]
    describe_counter!(
        attempts::RESENDS,
        Unit::Count,
        "requests that no instance acted on and that were sent once more"
    );
    describe_counter!(RETRIES, Unit::Count, "requests that were sent again");
    describe_gauge!(zones::USABLE, Unit::Count, "usable instances by zone");
    describe_gauge!(
        zones::REQUESTS,
        Unit::CountPerSecond,
        "requests per second by zone, over the last 10 s"
    );
    describe_gauge!(f::WAITING, Unit::Count, "requests that wait now");
    describe_gauge!(
        f::IN_FLIGHT,
        Unit::Count,
        "requests that instances have now"
    );
    describe_gauge!(f::MEMBERS, Unit::Count, "known instances by state");
    describe_gauge!(
        f::SHARE_LEAST,
        "the least share of a usable instance over its fair share"
    );
    describe_gauge!(
        f::SHARE_MOST,
        "the largest share of a usable instance over its fair share"
    );
    describe_gauge!(
        f::PANIC_MODE,
        "whether all instances are out, and are picked anyway"
    );
    describe_counter!(f::OUTLIERS, Unit::Count, "a rule found an outlier");
    describe_counter!(f::EJECTIONS, Unit::Count, "ejections by reason");
    describe_counter!(
        f::WITHHELD,
        Unit::Count,
        "outliers that stayed in play, by reason"
    );
    describe_counter!(
        f::TRIALS,
        Unit::Count,
        "trials of ejected instances, by result"
    );
    describe_counter!(f::DIALS, Unit::Count, "dials that ended, by result");
    describe_counter!(f::LOST, Unit::Count, "connections that were lost");
    describe_gauge!(
        f::SET_AGE,
        Unit::Seconds,
        "time since discovery last answered"
    );
    describe_counter!(
        f::DOUBTED,
        Unit::Count,
        "answers of discovery that were suspiciously small"
    );
    describe_counter!(
        f::DISCOVERY_ERRORS,
        Unit::Count,
        "errors that discovery reported"
    );
    describe_gauge!(
        f::DISCOVERY_FAILING,
        "whether discovery's last answer was an error"
    );
    describe_counter!(f::STALLS, Unit::Count, "stalls of this process");
    describe_counter!(f::MISSED, Unit::Count, "events that the counters lack");
}
