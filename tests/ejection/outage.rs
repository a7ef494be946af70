//! All servers fail at once for a while, and are well again.

use std::time::{Duration, Instant};

use crate::server::Work;
use crate::stage::{Length, Stage, pass};

const SECOND: Duration = Duration::from_secs(1);
const WORK: Work = Work {
    slots: 4,
    queue: 1000,
    mean: Duration::from_millis(20),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_all_failed_nobody_is_flooded_and_latency_is_what_it_was() {
    all_fail(Length::Short).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "2 minutes: five outages of 5 s"]
async fn after_outages_of_five_seconds_shares_stay_below_1_6_and_latency_is_back_in_two_seconds() {
    for _ in 0..5 {
        all_fail(Length::Full).await;
    }
}

async fn all_fail(length: Length) {
    let (outage, afterwards) = match length {
        Length::Full => (5 * SECOND, 15),
        Length::Short => (2 * SECOND, 5),
    };
    let mut stage = Stage::of(3, WORK).await;
    let load = stage.load(0.5 * 3.0 * WORK.capacity(), None);
    pass(3 * SECOND).await;
    let began = Instant::now();
    stage.servers.iter_mut().for_each(|server| server.fail(true));
    pass(outage).await;
    stage.servers.iter_mut().for_each(|server| server.fail(false));
    let healed = Instant::now();
    pass(afterwards * SECOND).await;
    let calls = load.finish().await;

    let before = calls.sent(began - 2 * SECOND, began).mean_latency();
    let failed = calls.sent(began, healed).failed_percent();
    assert!(failed > 95.0, "the outage was one: {failed} % failed");
    let mut most: f64 = 0.0;
    let mut seconds = Vec::new();
    for second in 0..afterwards {
        let from = healed + second * SECOND;
        let window = calls.sent(from, from + SECOND);
        seconds.push((window.mean_latency(), window.failed()));
        let window = calls.sent(from, from + 2 * SECOND);
        most = ["a", "b", "c"].map(|id| 3.0 * window.share(id)).into_iter().fold(most, f64::max);
    }
    println!("{failed:.1} % of the outage failed; most in 2 s {most:.2} of a fair share; mean {before:?} before, then {seconds:?}; {}\n{}", stage.census(), stage.timeline());
}
