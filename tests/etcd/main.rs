//! `discovery::Etcd` on a real server: outages, lost data, compaction, access, many instances.
//!
//! `ROLECALL_ETCD` names another etcd than the one in the path.

#![expect(clippy::unwrap_used, reason = "a test")]

mod access;
mod child;
mod conformance;
mod content;
mod cost;
mod load;
mod members;
mod outage;
mod proxy;
mod server;
mod sharing;
#[path = "../common/traffic.rs"]
mod traffic;

use std::time::Duration;

use etcd_client::Client;
use futures::StreamExt;
use rolecall::discovery::{BoxStream, DiscoveryError, Etcd};
use rolecall::{Discovery, InstanceSet, Lease, Registration};
use tokio::time;

use crate::server::Server;

/// Far above anything that is needed on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A handle as another process would open it, with the shortest time to live.
fn open(server: &Server) -> Etcd {
    Etcd::builder([server.endpoint()])
        .ttl(Duration::from_secs(1))
        .build()
        .unwrap()
}

/// A client of the server that is none of ours.
async fn foreign(server: &Server) -> Client {
    Client::connect([server.endpoint()], None).await.unwrap()
}

fn worker(id: &str) -> Registration {
    Registration::new("worker")
        .id(id)
        .endpoint("http", ([10, 0, 0, 7], 80))
}

fn ids(set: &InstanceSet) -> Vec<&str> {
    set.iter().map(|instance| instance.id().as_str()).collect()
}

struct Answers {
    stream: BoxStream<'static, Result<InstanceSet, DiscoveryError>>,
    last: String,
}

impl Answers {
    fn of(discovery: &dyn Discovery, target: &str) -> Self {
        Self::from(discovery.watch(&target.parse().unwrap()))
    }

    fn from(stream: BoxStream<'static, Result<InstanceSet, DiscoveryError>>) -> Self {
        let last = "nothing".to_owned();
        Self { stream, last }
    }

    async fn next(&mut self) -> Result<InstanceSet, DiscoveryError> {
        let next = time::timeout(PATIENCE, self.stream.next()).await;
        assert!(next.is_ok(), "no answer after {}", self.last);
        let answer = next.unwrap().expect("a watch does not end");
        self.last = match &answer {
            Ok(set) => format!("{:?}", ids(set)),
            Err(error) => causes(error),
        };
        answer
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

/// With all its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Waits for a state of the lease.
async fn until_state(lease: &Lease, wanted: impl Fn(&rolecall::discovery::LeaseState) -> bool) {
    let waited = time::timeout(PATIENCE, async {
        while !wanted(&lease.state()) {
            lease.changed().await;
        }
    });
    assert!(waited.await.is_ok(), "the lease is {:?}", lease.state());
}
