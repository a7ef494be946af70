//! One server is killed: its connections are reset, new ones refused.

use std::time::{Duration, Instant};

use crate::server::Work;
use crate::stage::{Length, Stage, pass};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_among_two_or_three_takes_no_request_with_it_but_those_in_its_hands() {
    for (servers, clients) in [(2, 1), (3, 10)] {
        one_is_killed(servers, clients, Length::Short).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "4 minutes: 30 s after a kill, for each of two, three and ten servers, shared and apart"]
async fn after_the_first_loss_none_of_fifteen_thousand_requests_fails() {
    for clients in [1, 10] {
        for servers in [2, 3, 10] {
            one_is_killed(servers, clients, Length::Full).await;
        }
    }
}

async fn one_is_killed(servers: usize, clients: usize, length: Length) {
    let (rate, time) = match length {
        Length::Full => (500.0, Duration::from_secs(30)),
        Length::Short => (200.0, Duration::from_secs(2)),
    };
    let work = Work::unlimited(Duration::from_millis(2));
    let mut stage = Stage::with_clients(servers, work, clients).await;
    let load = stage.load(rate, None);
    pass(Duration::from_secs(1)).await;
    let before = Instant::now();
    stage.servers[0].kill();
    let killed = Instant::now();
    pass(time).await;
    let calls = load.finish().await;
    let in_hand = calls.sent(before - Duration::from_secs(1), killed);
    let later = calls.sent(killed, Instant::now());
    println!(
        "{servers} servers, {clients} clients, one killed: {} failed of those in hand, {} of {} later; {}",
        in_hand.failed(),
        later.failed(),
        later.0.len(),
        stage.census(),
    );
    assert!(
        later.0.len() as f64 > 0.9 * rate * time.as_secs_f64(),
        "the load went on"
    );
    assert_eq!(
        later.failed(),
        0,
        "failed later:{}\n{}",
        later.errors(),
        stage.timeline()
    );
}
