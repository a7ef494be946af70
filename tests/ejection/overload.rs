//! More load than there is capacity; what is too much is answered 503.

use std::time::Duration;

use rolecall::BalanceConfig;

use crate::server::Work;
use crate::stage::{Length, Stage, pass};

const WORK: Work = Work {
    slots: 2,
    queue: 6,
    mean: Duration::from_millis(40),
};
const SERVERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_shed_are_not_ejected_for_it() {
    overload(Length::Short).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "1 minute"]
async fn at_120_percent_of_capacity_ejection_costs_less_than_a_hundredth() {
    overload(Length::Full).await;
}

async fn overload(length: Length) {
    let (time, allowed) = match length {
        Length::Full => (60, 1.0),
        // The two differ by chance, too; one ejection costs ten points at least.
        Length::Short => (8, 5.0),
    };
    let (on, off) = (BalanceConfig::default(), BalanceConfig::builder());
    let off = off.outlier(None).build().unwrap();
    let mut failed = Vec::new();
    for config in [on, off] {
        failed.push(async move {
            let stage = Stage::with_config(SERVERS, WORK, &config).await;
            let load = stage.load(1.2 * SERVERS as f64 * WORK.capacity(), None);
            pass(Duration::from_secs(time)).await;
            let calls = load.finish().await;
            println!(
                "ejection {}: {} of {} failed, {:.2} %; mean {:?}; {}\n{}",
                config.outlier().map_or("off", |_| "on"),
                calls.failed(),
                calls.0.len(),
                calls.failed_percent(),
                calls.mean_latency(),
                stage.census(),
                stage.timeline(),
            );
            calls.failed_percent()
        });
    }
    let failed = futures::future::join_all(failed).await;
    let (on, off) = (failed[0], failed[1]);
    assert!(off > 5.0, "it was an overload: {off:.2} % failed");
    assert!(
        on <= off + allowed,
        "{on:.2} % failed with ejection, {off:.2} % without"
    );
}
