//! One server answers 503 at once.

use std::time::Duration;

use crate::server::Work;
use crate::stage::{Length, Stage, insist, pass};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_that_answers_errors_at_once_costs_a_shared_balancer_hardly_a_request() {
    insist(Length::Short, async |length| {
        one_answers_errors(2, 1, length).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_that_answers_errors_at_once_costs_a_shared_balancer_hardly_a_request() {
    insist(Length::Short, async |length| {
        one_answers_errors(3, 1, length).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_ten_that_answers_errors_at_once_costs_a_shared_balancer_hardly_a_request() {
    insist(Length::Short, async |length| {
        one_answers_errors(10, 1, length).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_that_answers_errors_at_once_costs_ten_balancers_a_few_requests_each() {
    insist(Length::Short, async |length| {
        one_answers_errors(2, 10, length).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "3 minutes: 30 s for each of two, three and ten servers, shared and apart"]
async fn of_fifteen_thousand_requests_at_most_three_per_mille_meet_the_one_that_answers_errors() {
    for clients in [1, 10] {
        for servers in [2, 3, 10] {
            insist(Length::Full, async |length| {
                one_answers_errors(servers, clients, length).await
            })
            .await;
        }
    }
}

/// Nothing, if the machine was too busy.
async fn one_answers_errors(servers: usize, clients: usize, length: Length) -> Option<()> {
    let (rate, time, allowed) = match (length, clients) {
        (Length::Full, 1) => (500.0, 30, 0.003 * 15_000.0),
        (Length::Full, _) => (500.0, 30, 0.01 * 15_000.0),
        // Fewer requests, and as many failures: the first come at once, the next with a trial.
        (Length::Short, _) => (200.0, 6, 12.0 * clients as f64),
    };
    let work = Work::unlimited(Duration::from_millis(2));
    let mut stage = Stage::with_clients(servers, work, clients).await;
    stage.servers[0].fail(true);
    // From before the first request on: what is lost while nothing is known of anybody is lost here.
    let load = stage.load(rate, None);
    pass(Duration::from_secs(time)).await;
    // One that failed once and is hardly picked since may be judged later than that.
    stage.until(0, |_| stage.ejections() > 0).await;
    let calls = load.finish().await;
    let failed = calls.failed_percent();
    println!(
        "{servers} servers, {clients} clients, one answers 503: {} of {} failed, {failed:.3} %; mean {:?}; {}",
        calls.failed(),
        calls.0.len(),
        calls.mean_latency(),
        stage.census(),
    );
    if calls.starved() {
        return None;
    }
    assert!(
        calls.failed() as f64 <= allowed,
        "{failed:.2} % failed:{}\n{}",
        calls.errors(),
        stage.timeline()
    );
    Some(())
}
