//! All servers fail at once for a while, and are well again.

use std::time::{Duration, Instant};

use crate::load::Calls;
use crate::server::Work;
use crate::stage::{Length, Stage, insist, pass};

const SECOND: Duration = Duration::from_secs(1);
const WORK: Work = Work {
    slots: 4,
    queue: 1000,
    mean: Duration::from_millis(20),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_all_failed_nobody_is_flooded_and_latency_is_what_it_was() {
    insist(Length::Short, async |length| all_fail(length).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "2 minutes: five outages of 5 s"]
async fn after_outages_of_five_seconds_nobody_is_flooded_and_latency_is_back_in_two_seconds() {
    for _ in 0..5 {
        insist(Length::Full, async |length| all_fail(length).await).await;
    }
}

/// Nothing, if the machine was too busy.
async fn all_fail(length: Length) -> Option<()> {
    let (mut stage, outage, afterwards) = match length {
        Length::Full => (Stage::of(3, WORK).await, 5 * SECOND, 15),
        Length::Short => (Stage::hasty(3, WORK).await, 2 * SECOND, 6),
    };
    let load = stage.load(0.5 * 3.0 * WORK.capacity(), None);
    pass(3 * SECOND).await;
    let began = Instant::now();
    stage
        .servers
        .iter_mut()
        .for_each(|server| server.fail(true));
    pass(outage).await;
    stage
        .servers
        .iter_mut()
        .for_each(|server| server.fail(false));
    let healed = Instant::now();
    pass(afterwards * SECOND).await;
    let calls = load.finish().await;

    let before = calls.sent(began - 2 * SECOND, began).mean_latency();
    let failed = calls.sent(began, healed).failed_percent();
    let windows = |length: u32| {
        (0..=afterwards - length).map(move |second| {
            let from = healed + second * SECOND;
            (from, from + length * SECOND)
        })
    };
    let most = |calls: &Calls| {
        let shares = ["a", "b", "c"].map(|id| 3.0 * calls.share(id));
        shares.into_iter().fold(0.0, f64::max)
    };
    let in_three_seconds = windows(3).map(|(from, to)| most(&calls.sent(from, to)));
    let in_three_seconds = in_three_seconds.fold(0.0, f64::max);
    let means = windows(1).map(|(from, to)| calls.sent(from, to).mean_latency());
    let means: Vec<_> = means.collect();
    let later = calls.sent(healed, Instant::now());
    println!(
        "all fail for {outage:?}: {failed:.1} % failed, {} later; at most {:.2} of a fair share, {in_three_seconds:.2} in 3 s; mean {before:.1?} before, then by second {means:.1?}; {}",
        later.failed(),
        most(&later),
        stage.census()
    );
    if calls.starved() {
        return None;
    }
    assert!(failed > 95.0, "the outage was one: {failed} % failed");
    // While one is out the other two have 1.5 each.
    assert!(
        most(&later) <= 1.6,
        "flooded: {:.2} of a fair share\n{}",
        most(&later),
        stage.timeline()
    );
    if length == Length::Full {
        assert!(
            in_three_seconds <= 1.75,
            "flooded for three seconds: {in_three_seconds:.2} of a fair share\n{}",
            stage.timeline()
        );
    }
    let slowest = means[2..].iter().max().copied().unwrap_or_default();
    assert!(
        slowest <= 2 * before,
        "{slowest:?} in a second, {before:?} before\n{}",
        stage.timeline()
    );
    // Those that were under way when it ended.
    assert!(later.failed() <= 10, "failed later:{}", later.errors());
    Some(())
}
