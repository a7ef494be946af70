//! Instances that break under load: with retries of what is idempotent no request fails.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::load::{Client, Load, client, retrying, served, servers, usable};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_killed_one_erring_and_one_refusing_of_four_fail_no_request() {
    for http2 in [false, true] {
        let mut servers = servers();
        servers[2].kill().await;
        let client = client(servers.iter().map(|server| server.addr), http2);
        usable(&client, 3).await;
        let load = Load::start(retrying(&client), 200);
        served(&client, 50).await;
        servers[1].fail(true);
        served(&client, 50).await;
        servers[0].kill().await;
        served(&client, 200).await;
        load.finish().await.assert_no_failure(100);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_all_four_by_kill_fails_no_request() {
    for http2 in [false, true] {
        let mut servers = servers();
        let client = client(servers.iter().map(|server| server.addr), http2);
        usable(&client, 4).await;
        let load = Load::start(retrying(&client), 200);
        served(&client, 50).await;
        roll(&mut servers, &client).await;
        load.finish().await.assert_no_failure(70);
    }
}

/// Five hundred requests a second for a minute over each protocol, while one server after the other is killed, answers errors,
/// refuses, and all four are restarted, again and again:
///
/// ```sh
/// cargo test --all-features --test retry -- --ignored --nocapture a_minute
/// ```
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two minutes"]
async fn a_minute_of_faults_at_500_requests_a_second_fails_no_request() {
    for http2 in [false, true] {
        let mut servers = servers();
        let client = client(servers.iter().map(|server| server.addr), http2);
        usable(&client, 4).await;
        let load = Load::start(retrying(&client), 500);
        let began = Instant::now();
        let mut rounds = 0;
        while began.elapsed() < Duration::from_secs(60) {
            let broken = rounds % 4;
            let server = &mut servers[broken];
            server.kill().await;
            sleep(Duration::from_secs(2)).await;
            server.start_again();
            usable(&client, 4).await;
            server.fail(true);
            sleep(Duration::from_secs(2)).await;
            server.fail(false);
            sleep(Duration::from_secs(1)).await;
            server.refuse().await;
            sleep(Duration::from_secs(2)).await;
            server.start_again();
            sleep(Duration::from_secs(1)).await;
            roll(&mut servers, &client).await;
            rounds += 1;
        }
        let tally = load.finish().await;
        println!("HTTP/2 {http2}: {rounds} rounds, {tally:#?}");
        tally.assert_no_failure(29_000);
    }
}

/// Kills and restarts each, the next one when all are usable again.
async fn roll(servers: &mut [Server; 4], client: &Client) {
    for server in servers {
        server.kill().await;
        served(client, 20).await;
        server.start_again();
        // It is connected again, or was never missed.
        served(client, 20).await;
        usable(client, 4).await;
    }
}
