//! More load than there is capacity; what is too much is answered 503.

use std::time::Duration;

use rolecall::BalanceConfig;

use crate::server::Work;
use crate::stage::{Length, Stage, insist, pass};

const SERVERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_shed_are_not_ejected_for_it() {
    insist(Length::Short, async |length| overload(6, 1, length).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "3 minutes: with a queue, without one, and with ten balancers"]
async fn at_120_percent_of_capacity_ejection_costs_less_than_a_hundredth() {
    for (queue, clients) in [(6, 1), (0, 1), (6, 10)] {
        insist(Length::Full, async |length| {
            overload(queue, clients, length).await
        })
        .await;
    }
}

/// Nothing, if the machine was too busy.
async fn overload(queue: usize, clients: usize, length: Length) -> Option<()> {
    let work = Work {
        slots: 2,
        queue,
        mean: Duration::from_millis(40),
    };
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
            let stage = Stage::with_config(SERVERS, work, clients, &config).await;
            let load = stage.load(1.2 * SERVERS as f64 * work.capacity(), None);
            pass(Duration::from_secs(time)).await;
            let calls = load.finish().await;
            println!(
                "queue {queue}, {clients} clients, ejection {}: {} of {} failed, {:.2} %; mean {:?}; {}",
                config.outlier().map_or("off", |_| "on"),
                calls.failed(),
                calls.0.len(),
                calls.failed_percent(),
                calls.mean_latency(),
                stage.census(),
            );
            if stage.ejections() > 0 {
                println!("{}", stage.timeline());
            }
            (!calls.starved()).then(|| calls.failed_percent())
        });
    }
    let failed = futures::future::join_all(failed).await;
    let (on, off) = (failed[0]?, failed[1]?);
    assert!(off > 5.0, "it was an overload: {off:.2} % failed");
    assert!(
        on <= off + allowed,
        "{on:.2} % failed with ejection, {off:.2} % without"
    );
    Some(())
}
