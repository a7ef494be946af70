//! `discovery::Kubernetes` against a stand-in API server: no real one could be had for these tests.
//!
//! `kubectl` judges the stand-in's wire format.

#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test, on real time"
)]

mod conforms;
mod kubectl;
mod load;
mod merging;
mod peers;
mod scale;
mod stand_in;
mod watching;
mod worker;

use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::{BoxStream, DiscoveryError, Kubernetes};
use rolecall::{Discovery, InstanceSet};
use tokio::time;

use stand_in::{ApiServer, Slice, endpoint};

/// Longer than anything takes that is to happen.
const DEADLINE: Duration = Duration::from_secs(30);

async fn server() -> ApiServer {
    ApiServer::start().await.unwrap()
}

fn client(server: &ApiServer) -> kube::Client {
    let uri = format!("http://{}", server.address()).parse().unwrap();
    kube::Client::try_from(kube::Config::new(uri)).unwrap()
}

fn cluster(server: &ApiServer) -> Kubernetes {
    Kubernetes::with_client(client(server))
}

/// The slice `name` of the service `shop/worker`, with the port `http` and these ready pods.
fn slice(name: &str, pods: impl IntoIterator<Item = u32>) -> Slice {
    let pods = pods
        .into_iter()
        .map(|n| endpoint(&format!("pod-{n}"), &ip(n)));
    Slice::new("shop", "worker", name)
        .port("http", 8080)
        .endpoints(pods)
}

fn ip(n: u32) -> String {
    format!("10.1.{}.{}", n / 250, n % 250 + 1)
}

/// The answers of one watch, read with a deadline.
struct Answers(BoxStream<'static, Result<InstanceSet, DiscoveryError>>);

impl Answers {
    fn of(discovery: &impl Discovery, target: &str) -> Self {
        Self(discovery.watch(&target.parse().unwrap()))
    }

    async fn next(&mut self) -> Result<InstanceSet, DiscoveryError> {
        let next = time::timeout(DEADLINE, self.0.next()).await;
        next.expect("an answer in time").expect("it does not end")
    }

    /// The first set of which this holds, and the smallest size of those before.
    async fn until(
        &mut self,
        what: &str,
        holds: impl Fn(&InstanceSet) -> bool,
    ) -> (InstanceSet, usize) {
        let mut smallest = usize::MAX;
        let mut last = String::from("nothing");
        let found = time::timeout(DEADLINE, async {
            loop {
                match self.0.next().await.expect("it does not end") {
                    Ok(set) if holds(&set) => return (set, smallest),
                    Ok(set) => {
                        smallest = smallest.min(set.len());
                        last = format!("{:?}", ids(&set));
                    }
                    Err(error) => last = text(&error),
                }
            }
        });
        let found = found.await;
        found.unwrap_or_else(|_| {
            panic!("no set with {what} within {DEADLINE:?}; the last answer was {last}")
        })
    }

    async fn set_of(&mut self, count: usize) -> InstanceSet {
        self.until(&format!("{count} instances"), |set| set.len() == count)
            .await
            .0
    }

    async fn error(&mut self) -> DiscoveryError {
        loop {
            if let Err(error) = self.next().await {
                return error;
            }
        }
    }
}

fn ids(set: &InstanceSet) -> Vec<&str> {
    set.iter().map(|instance| instance.id().as_str()).collect()
}

/// The error and its causes.
fn text(error: &dyn std::error::Error) -> String {
    let source = error.source();
    source.map_or_else(
        || error.to_string(),
        |source| format!("{error}: {}", text(source)),
    )
}
