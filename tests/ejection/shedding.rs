//! Small fleets that shed load with a plain 503, after one instance answered nothing but errors once.
//!
//! There is no short form: what goes wrong here is a cycle of ejections, each as long as the window by which the rules
//! compare members, which no configuration shortens.

use std::time::{Duration, Instant};

use futures::future::join;
use rolecall::BalanceConfig;

use crate::server::Work;
use crate::stage::{Length, Stage, insist, pass};

/// No queue: a request that finds both slots taken is answered 503.
const WORK: Work = Work {
    slots: 2,
    queue: 0,
    mean: Duration::from_millis(40),
};
const WARM_UP: Duration = Duration::from_secs(3);
/// For how long one instance answers nothing but errors.
const ERRORS: Duration = Duration::from_secs(3);
/// From the end of the errors until requests are counted.
const SETTLE: Duration = Duration::from_secs(9);
/// For how long requests are counted.
const COUNTED: Duration = Duration::from_secs(50);
const PAIRS: usize = 5;
/// Percentage points, in the median.
const MOST_WORSE: f64 = 3.0;
/// Of any pair. A cycle of ejections costs 20 to 35 points, and begins in about half of the runs: the median of five may not
/// see it.
const MOST_OF_ONE: f64 = 10.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "6 minutes: five pairs"]
async fn two_servers_that_shed_lose_at_most_three_points_by_ejection() {
    shed(2, 0.9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "6 minutes: five pairs"]
async fn three_servers_that_shed_lose_at_most_three_points_by_ejection() {
    shed(3, 1.5).await;
}

async fn shed(servers: usize, load: f64) {
    let mut differences = Vec::new();
    for _ in 0..PAIRS {
        let pair = insist(Length::Full, async |_| pair(servers, load).await).await;
        let (on, off) = pair.expect("a full length is measured");
        assert!(off > 5.0, "the servers shed: {off:.2} % failed");
        differences.push(on - off);
    }
    differences.sort_unstable_by(f64::total_cmp);
    let median = differences[PAIRS / 2];
    println!("{servers} servers at {load}: {median:+.2} points, median of {differences:.2?}");
    assert!(
        median <= MOST_WORSE && differences[PAIRS - 1] <= MOST_OF_ONE,
        "{servers} servers at {load}: worse with ejection"
    );
}

/// Percent of the requests that failed with ejection and without, both at the same time on the same machine. Nothing, if
/// that was too busy.
async fn pair(servers: usize, load: f64) -> Option<(f64, f64)> {
    let on = BalanceConfig::default();
    let off = BalanceConfig::builder().outlier(None).build().unwrap();
    let (on, off) = join(failed(servers, load, on), failed(servers, load, off)).await;
    Some((on?, off?))
}

async fn failed(servers: usize, load: f64, config: BalanceConfig) -> Option<f64> {
    let mut stage = Stage::with_config(servers, WORK, 1, &config).await;
    let running = stage.load(load * servers as f64 * WORK.capacity(), None);
    pass(WARM_UP).await;
    stage.servers[0].fail(true);
    pass(ERRORS).await;
    stage.servers[0].fail(false);
    pass(SETTLE).await;
    let from = Instant::now();
    pass(COUNTED).await;
    let calls = running.finish().await;
    let counted = calls.sent(from, from + COUNTED);
    println!(
        "{servers} servers at {load}, ejection {}: {} of {} failed, {:.2} %; {} ejections",
        config.outlier().map_or("off", |_| "on"),
        counted.failed(),
        counted.0.len(),
        counted.failed_percent(),
        stage.ejections(),
    );
    (!calls.starved()).then(|| counted.failed_percent())
}
