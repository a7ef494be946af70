//! Instances that break under load: with retries of what is idempotent no request fails.

use std::time::Duration;

use rolecall::Status;
use tokio::time::{Instant, sleep};

use crate::calls;
use crate::load::{Ask, Load, Watched, asking, client, retrying, served, servers, usable};
use crate::server::Server;

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Http1,
    Http2,
    /// gRPC calls with one answer, and with a stream of answers.
    Unary,
    Stream,
}

impl Protocol {
    const ALL: [Self; 4] = [Self::Http1, Self::Http2, Self::Unary, Self::Stream];

    /// A balancer, and a client over it that retries.
    fn client(self, servers: &[Server; 4]) -> (Fleet, Ask) {
        let addrs = servers.each_ref().map(|server| server.addr);
        match self {
            Self::Http1 | Self::Http2 => {
                let client = client(addrs, matches!(self, Self::Http2));
                let ask = asking(retrying(&client));
                (Fleet(Box::new(move || client.status())), ask)
            }
            Self::Unary | Self::Stream => {
                let channel = calls::channel(addrs);
                let ask = calls::asking(calls::retrying(&channel), matches!(self, Self::Stream));
                (Fleet(Box::new(move || channel.control().status())), ask)
            }
        }
    }
}

struct Fleet(Box<dyn Fn() -> Status + Send + Sync>);

impl Watched for Fleet {
    fn status(&self) -> Status {
        (self.0)()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_killed_one_erring_and_one_refusing_of_four_fail_no_request() {
    for protocol in Protocol::ALL {
        let mut servers = servers();
        servers[2].kill().await;
        let (fleet, ask) = protocol.client(&servers);
        usable(&fleet, 3).await;
        let load = Load::start(ask, 200);
        served(&fleet, 50).await;
        servers[1].fail(true);
        served(&fleet, 50).await;
        servers[0].kill().await;
        served(&fleet, 200).await;
        println!("{protocol:?}");
        load.finish().await.assert_no_failure(100);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_all_four_by_kill_fails_no_request() {
    for protocol in Protocol::ALL {
        let mut servers = servers();
        let (fleet, ask) = protocol.client(&servers);
        usable(&fleet, 4).await;
        let load = Load::start(ask, 200);
        served(&fleet, 50).await;
        roll(&mut servers, &fleet).await;
        println!("{protocol:?}");
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
#[ignore = "four minutes"]
async fn a_minute_of_faults_at_500_requests_a_second_fails_no_request() {
    for protocol in Protocol::ALL {
        let mut servers = servers();
        let (fleet, ask) = protocol.client(&servers);
        usable(&fleet, 4).await;
        let load = Load::start(ask, 500);
        let began = Instant::now();
        let mut rounds = 0;
        while began.elapsed() < Duration::from_secs(60) {
            let broken = rounds % 4;
            let server = &mut servers[broken];
            server.kill().await;
            sleep(Duration::from_secs(2)).await;
            server.start_again();
            usable(&fleet, 4).await;
            server.fail(true);
            sleep(Duration::from_secs(2)).await;
            server.fail(false);
            sleep(Duration::from_secs(1)).await;
            server.refuse().await;
            sleep(Duration::from_secs(2)).await;
            server.start_again();
            sleep(Duration::from_secs(1)).await;
            roll(&mut servers, &fleet).await;
            rounds += 1;
        }
        let tally = load.finish().await;
        println!("{protocol:?}: {rounds} rounds, {tally:#?}");
        tally.assert_no_failure(29_000);
    }
}

/// Kills and restarts each, the next one when all are usable again.
async fn roll(servers: &mut [Server; 4], fleet: &impl Watched) {
    for server in servers {
        server.kill().await;
        served(fleet, 20).await;
        server.start_again();
        // It is connected again, or was never missed.
        served(fleet, 20).await;
        usable(fleet, 4).await;
    }
}
