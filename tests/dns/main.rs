//! `discovery::Dns` on a real server, whose records change live.

#![expect(clippy::unwrap_used, reason = "a test")]

mod conformance;
mod content;
mod failure;
mod load;
mod server;
mod sharing;
#[path = "../common/traffic.rs"]
mod traffic;

use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::{BoxStream, DiscoveryError, Dns};
use rolecall::{Discovery, InstanceSet};
use tokio::time;

use crate::server::Server;

/// Far above anything that is needed on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

/// One that asks often.
fn impatient(server: &Server) -> Dns {
    Dns::srv("svc.test")
        .servers([server.addr()])
        .ttl_bounds(Duration::from_millis(50), Duration::from_millis(200))
        .timeout(Duration::from_millis(500))
}

/// One SRV record of `default/worker:http`, and the address of its host.
fn add(host: &str, ip: &str, port: u16) -> [String; 2] {
    [
        format!("add _http._tcp.worker.default.svc.test. 1 SRV 0 10 {port} {host}.svc.test."),
        format!("add {host}.svc.test. 1 A {ip}"),
    ]
}

fn ids(set: &InstanceSet) -> Vec<&str> {
    set.iter().map(|instance| instance.id().as_str()).collect()
}

struct Answers(BoxStream<'static, Result<InstanceSet, DiscoveryError>>);

impl Answers {
    fn of(discovery: &dyn Discovery, target: &str) -> Self {
        Self(discovery.watch(&target.parse().unwrap()))
    }

    async fn next(&mut self) -> Result<InstanceSet, DiscoveryError> {
        let next = time::timeout(PATIENCE, self.0.next()).await;
        next.expect("an answer").expect("a watch does not end")
    }

    /// The first set that is as wanted, past all others and past errors.
    async fn until(&mut self, wanted: impl Fn(&InstanceSet) -> bool) -> InstanceSet {
        loop {
            if let Ok(set) = self.next().await
                && wanted(&set)
            {
                return set;
            }
        }
    }

    /// The next error, past sets.
    async fn error(&mut self) -> DiscoveryError {
        loop {
            if let Err(error) = self.next().await {
                return error;
            }
        }
    }
}
