//! How tests of a folder wait for answers.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::{BoxStream, DiscoveryError};
use rolecall::{Discovery, InstanceSet, Registration};
use tokio::time;

/// Far above anything a healthy backend needs on a machine that is busy with something else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Answers(BoxStream<'static, Result<InstanceSet, DiscoveryError>>);

impl Answers {
    pub(crate) fn of(discovery: &dyn Discovery, target: &str) -> Self {
        Self(discovery.watch(&target.parse().unwrap()))
    }

    pub(crate) async fn next(&mut self) -> Result<InstanceSet, DiscoveryError> {
        time::timeout(PATIENCE, self.0.next())
            .await
            .expect("an answer")
            .expect("a backend's watch does not end")
    }

    /// The first set that is as wanted, past all others and past errors.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&InstanceSet) -> bool) -> InstanceSet {
        let mut last = None;
        let found = time::timeout(PATIENCE, async {
            loop {
                let answer = self.0.next().await.expect("a backend's watch does not end");
                if let Ok(set) = &answer
                    && wanted(set)
                {
                    return set.clone();
                }
                last = Some(answer);
            }
        });
        let found = found.await.ok();
        let last = last.map(|answer| answer.map(|set| (set.len(), ids(&set).join(" "))));
        let last = format!("{last:?}");
        assert!(found.is_some(), "no such set; the last was {last:.500}");
        found.unwrap()
    }
}

pub(crate) fn addr(port: u16) -> SocketAddr {
    ([10, 0, 0, 7], port).into()
}

pub(crate) fn worker(id: &str) -> Registration {
    Registration::new("worker")
        .id(id)
        .endpoint("http", addr(80))
}

pub(crate) fn ids(set: &InstanceSet) -> Vec<&str> {
    set.iter().map(|instance| instance.id().as_str()).collect()
}

/// Waits until a condition holds that nothing announces.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waited = time::timeout(PATIENCE, async {
        while !holds() {
            time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}
