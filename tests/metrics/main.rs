//! What `metrics::report` reports, by the Prometheus exporter and a parser of its format.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "../../examples/metrics/exposition.rs"]
mod exposition;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use http_body_util::Full;
use hyper::{Request, Response, StatusCode};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rolecall::discovery::{DiscoveryError, no_peers};
use rolecall::http::{HttpClassifier, ReplayBody, ResendLayer};
use rolecall::retry::Retry;
use rolecall::{
    Balance, BalanceLayer, Boundary, BoxError, Discovery, Instance, InstanceSet, List, Target,
    Zone, connect, metrics as ours,
};
use tower::retry::RetryLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::exposition::{Sample, parse};

const SECOND: Duration = Duration::from_secs(1);

/// Sets that a test gives.
struct Fed(std::sync::Mutex<Option<mpsc::UnboundedReceiver<InstanceSet>>>);

impl Discovery for Fed {
    fn watch(&self, _: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let sets = self.0.lock().unwrap().take().unwrap();
        sets.map(Ok).boxed()
    }

    fn peers(&self, _: &Boundary) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        no_peers()
    }

    fn refresh(&self, _: &Target) {}
}

fn feed() -> (mpsc::UnboundedSender<InstanceSet>, Fed) {
    let (sender, sets) = mpsc::unbounded();
    (sender, Fed(std::sync::Mutex::new(Some(sets))))
}

fn set(ids: impl IntoIterator<Item = String>) -> InstanceSet {
    let ids = ids.into_iter();
    let zone = Zone::new("eu-1").unwrap();
    let instance = |id| Instance::new(id, ([127, 0, 0, 1], 80)).with_zone(zone.clone());
    ids.map(instance).collect::<InstanceSet>().confirmed()
}

type Served = futures::future::BoxFuture<'static, Result<(), &'static str>>;

/// A balancer whose instances fail while `fails` is on.
fn balance(
    discovery: Fed,
    fails: &Arc<AtomicBool>,
) -> Balance<
    impl Service<(), Response = (), Error = &'static str, Future = Served>
    + Clone
    + Send
    + Sync
    + 'static,
> {
    let fails = Arc::clone(fails);
    let connector = connect::per_instance(move |instance: &Instance| {
        let fails = Arc::clone(&fails);
        let is_bad = instance.id() == "bad";
        service_fn(move |(): ()| {
            let result = if is_bad && fails.load(SeqCst) {
                Err("bad")
            } else {
                Ok(())
            };
            async move { result }.boxed()
        })
    });
    BalanceLayer::new(discovery, "shop/worker:http")
        .unwrap()
        .boundary(Boundary::new("shop").unwrap())
        .layer(connector)
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let is_it = |sample: &&Sample| {
        let has =
            |&(label, value): &(&str, &str)| sample.labels.get(label).is_some_and(|v| v == value);
        sample.name == name && labels.iter().all(has)
    };
    let mut found = samples.iter().filter(is_it);
    let sample = found
        .next()
        .unwrap_or_else(|| panic!("no {name} {labels:?}"));
    assert!(found.next().is_none(), "several {name} {labels:?}");
    sample.value
}

fn scrape(handle: &PrometheusHandle) -> Vec<Sample> {
    handle.run_upkeep();
    parse(&handle.render()).unwrap()
}

/// The names without the ends that the format gives to the parts of a histogram.
fn names<'a>(samples: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    let base = |name: &'a str| {
        let mut bases = ["_count", "_sum", "_bucket"]
            .iter()
            .filter_map(|end| name.strip_suffix(end));
        bases.next().unwrap_or(name).to_owned()
    };
    samples.into_iter().map(base).collect()
}

#[tokio::test(start_paused = true)]
async fn an_exporter_shows_attempts_members_ejections_and_dials() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _on = metrics::set_default_local_recorder(&recorder);
    let (sets, discovery) = feed();
    let fails = Arc::new(AtomicBool::new(false));
    let mut balance = balance(discovery, &fails);
    tokio::spawn(ours::report(balance.control()));
    sets.unbounded_send(set(["a", "b", "bad"].map(String::from)))
        .unwrap();
    balance.control().wait_usable(SECOND).await.unwrap();
    for _ in 0..100 {
        balance.call(()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fails.store(true, SeqCst);
    let mut failed = 0;
    while balance.control().status().ejections.ejected == 0 {
        failed += u32::from(balance.call(()).await.is_err());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(2 * SECOND).await;
    let samples = scrape(&handle);
    let target = [
        ("boundary", "shop"),
        ("role", "worker"),
        ("endpoint", "http"),
    ];
    let of = |name: &str, label: (&'static str, &'static str)| {
        let [boundary, role, endpoint] = target;
        value(&samples, name, &[boundary, role, endpoint, label])
    };
    let attempts = |outcome| {
        of(
            "rolecall_attempt_duration_seconds_count",
            ("outcome", outcome),
        )
    };
    assert!(attempts("success") >= 100.0);
    assert_eq!(attempts("failure"), f64::from(failed));
    assert_eq!(of("rolecall_members", ("state", "usable")), 2.0);
    assert_eq!(of("rolecall_members", ("state", "ejected")), 1.0);
    assert_eq!(of("rolecall_members", ("state", "draining")), 0.0);
    assert_eq!(
        of("rolecall_ejections_total", ("reason", "failures-in-row")),
        1.0
    );
    assert_eq!(of("rolecall_dials_total", ("result", "connected")), 3.0);
    assert_eq!(value(&samples, "rolecall_outliers_total", &target), 1.0);
    assert_eq!(of("rolecall_zone_usable", ("zone", "eu-1")), 2.0);
    assert!(of("rolecall_zone_requests", ("zone", "eu-1")) > 1.0);

    // The table in the docs and the dashboard have these names and no others.
    let scraped = names(samples.iter().map(|sample| sample.name.as_str()));
    let docs = include_str!("../../src/metrics/mod.rs");
    let rows = docs
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `rolecall_"));
    let told = rows
        .filter_map(|row| row.split_once("` | "))
        .filter(|(_, rest)| {
            ["histogram", "gauge", "counter"]
                .iter()
                .any(|kind| rest.starts_with(kind))
        });
    let told: BTreeSet<_> = told.map(|(name, _)| format!("rolecall_{name}")).collect();
    assert_eq!(scraped, told);
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../dashboards/grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions: Vec<_> = targets
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let words = expressions
        .iter()
        .flat_map(|text| text.split(|char| !is_word(char)));
    let drawn = names(words.filter(|word| word.starts_with("rolecall_")));
    assert_eq!(drawn, told);

    drop((balance, sets));
    tokio::time::sleep(2 * SECOND).await;
    let samples = scrape(&handle);
    let ejected = [("state", "ejected")];
    assert!(
        value(&samples, "rolecall_members", &ejected).is_nan(),
        "the balancer has ended, which is no alert about its members"
    );
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_restarts_of_instances_leave_no_series_behind() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _on = metrics::set_default_local_recorder(&recorder);
    let (sets, discovery) = feed();
    let mut balance = balance(discovery, &Arc::default());
    tokio::spawn(ours::report(balance.control()));
    let mut series = Vec::new();
    for restart in 0..10_000_u32 {
        sets.unbounded_send(set((0..3).map(|n| format!("i{restart}-{n}"))))
            .unwrap();
        if restart % 100 == 0 {
            tokio::time::sleep(SECOND).await;
            balance.call(()).await.unwrap();
            let samples = scrape(&handle);
            let named = samples
                .iter()
                .map(|sample| (sample.name.clone(), sample.labels.clone()));
            series.push(named.collect::<BTreeSet<_>>());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (first, last) = (&series[1], &series[series.len() - 1]);
    assert!(first.len() > 30, "{}", first.len());
    assert_eq!(first, last);
    let labels = last.iter().flat_map(|(_, labels)| labels.values());
    assert!(
        labels
            .clone()
            .all(|value| !value.starts_with("i0-") && !value.starts_with("i9"))
    );
}

type Answered = futures::future::BoxFuture<'static, Result<Response<Full<Bytes>>, BoxError>>;

#[tokio::test(start_paused = true)]
async fn resends_and_retries_are_counted_apart() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _on = metrics::set_default_local_recorder(&recorder);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let connector = connect::per_instance(move |_: &Instance| {
        let calls = Arc::clone(&counted);
        service_fn(move |_: Request<ReplayBody>| -> Answered {
            let call = calls.fetch_add(1, SeqCst);
            async move {
                let status = match call {
                    0 => return Err(unsent().await.into()),
                    1 => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::OK,
                };
                Ok(Response::builder().status(status).body(Full::default())?)
            }
            .boxed()
        })
    });
    let list = List::new(["a", "b"].map(|id| Instance::new(id, ([127, 0, 0, 1], 80)))).unwrap();
    let balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .classify(HttpClassifier::new())
        .layer(connector);
    tokio::spawn(ours::report(balance.control()));
    balance.control().wait_usable(SECOND).await.unwrap();
    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(Retry::new().idempotent_methods()))
        .layer(ResendLayer::new())
        .service(balance);
    let response = client.oneshot(Request::new(Full::<Bytes>::default())).await;
    let response = response.unwrap();
    assert_eq!((response.status(), calls.load(SeqCst)), (StatusCode::OK, 3));
    let samples = scrape(&handle);
    let role = [("role", "worker")];
    assert_eq!(value(&samples, "rolecall_resends_total", &role), 1.0);
    assert_eq!(value(&samples, "rolecall_retries_total", &role), 1.0);
}

/// An error of a request that was not sent.
async fn unsent() -> rolecall::Error {
    let connector = connect::per_instance(|_: &Instance| {
        service_fn(async |(): ()| Ok::<(), std::convert::Infallible>(()))
    });
    let empty = BalanceLayer::new(List::new([]).unwrap(), "nobody:http").unwrap();
    empty.layer(connector).oneshot(()).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn two_balancers_of_one_target_can_be_told_apart() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _on = metrics::set_default_local_recorder(&recorder);
    let mut kept = Vec::new();
    for (name, instances) in [("jobs", 1), ("mails", 3)] {
        let (sets, discovery) = feed();
        sets.unbounded_send(set((0..instances).map(|n| n.to_string())))
            .unwrap();
        let balance = balance(discovery, &Arc::default());
        tokio::spawn(ours::report_as(balance.control(), name));
        kept.push((balance, sets));
    }
    tokio::time::sleep(2 * SECOND).await;
    let samples = scrape(&handle);
    let usable = |name| {
        let labels = [("balancer", name), ("state", "usable")];
        value(&samples, "rolecall_members", &labels)
    };
    assert_eq!((usable("jobs"), usable("mails")), (1.0, 3.0));
}

#[tokio::test(start_paused = true)]
async fn the_number_of_series_by_zone_is_bounded() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _on = metrics::set_default_local_recorder(&recorder);
    let (sets, discovery) = feed();
    let balance = balance(discovery, &Arc::default());
    tokio::spawn(ours::report(balance.control()));
    let in_zones = |zones: std::ops::Range<u32>| -> InstanceSet {
        let instance = |n: u32| {
            let zone = Zone::new(format!("z{n}")).unwrap();
            Instance::new(n.to_string(), ([127, 0, 0, 1], 80)).with_zone(zone)
        };
        zones.map(instance).collect::<InstanceSet>().confirmed()
    };
    let zones = |samples: &[Sample]| -> Vec<(String, f64)> {
        let is_it = |sample: &&Sample| sample.name == "rolecall_zone_usable";
        let zone = |sample: &Sample| (sample.labels["zone"].clone(), sample.value);
        samples.iter().filter(is_it).map(zone).collect()
    };
    sets.unbounded_send(in_zones(0..20)).unwrap();
    tokio::time::sleep(2 * SECOND).await;
    let first = zones(&scrape(&handle));
    assert_eq!(first.len(), 17, "{first:?}");
    let other = first.iter().find(|(zone, _)| zone == "other").unwrap();
    assert_eq!(other.1, 4.0);
    sets.unbounded_send(in_zones(100..200)).unwrap();
    tokio::time::sleep(2 * SECOND).await;
    let second = zones(&scrape(&handle));
    assert_eq!(second.len(), 17, "{second:?}");
    for (zone, usable) in second {
        let expected = if zone == "other" { 100.0 } else { 0.0 };
        assert_eq!(usable, expected, "{zone}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_age_of_the_set_is_not_a_number_before_the_first() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _on = metrics::set_default_local_recorder(&recorder);
    let (sets, discovery) = feed();
    let balance = balance(discovery, &Arc::default());
    tokio::spawn(ours::report(balance.control()));
    let age = || value(&scrape(&handle), "rolecall_set_age_seconds", &[]);
    tokio::time::sleep(3 * SECOND).await;
    assert!(age().is_nan());
    sets.unbounded_send(set(["a".to_owned()])).unwrap();
    tokio::time::sleep(3 * SECOND).await;
    assert!((2.0..=3.0).contains(&age()));
}

#[test]
fn the_parser_refuses_what_is_not_of_the_format() {
    let typed = "# TYPE a counter\n";
    assert_eq!(
        parse(&format!("{typed}a{{b=\"c\\\"d\"}} 1\n")).unwrap()[0].labels["b"],
        "c\"d"
    );
    for bad in [
        "a 1\n",
        "# TYPE a counter\na\n",
        "# TYPE a counter\na{b=\"c} 1\n",
        "# TYPE a x\n",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert!(parse(&format!("{typed}{typed}")).is_err(), "the type twice");
}
