//! How the suite gets at a backend, and how it waits for answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::{Backend, BoxStream, DiscoveryError};
use rolecall::{Boundary, Discovery, InstanceSet, Registration};
use tokio::time;

use crate::child::Child;

/// One backend, set up for one test; dropping it clears up.
pub(crate) trait Subject: Send + Sync {
    /// A handle on the backend as another process would open it.
    fn open(&self) -> Arc<dyn Backend>;

    /// Whether its sets cannot be half answers.
    fn confirms(&self) -> bool {
        true
    }

    /// Whether a handle that is opened later knows the roles whose instances have all left.
    fn remembers(&self) -> bool {
        true
    }

    /// Makes the backend unreachable; false if it cannot be.
    fn break_it(&self) -> bool {
        false
    }

    /// Makes it reachable again, with what was in it.
    fn repair(&self) {}

    /// Puts things into it that are no registrations; false if it has no place for them.
    fn spoil(&self) -> bool {
        false
    }

    /// Announces `default/worker` with this id from a process that can be killed, and says how long it may stay after
    /// that; none if the backend dies with the process.
    fn victim(&self, _id: &str) -> Option<(Child, Duration)> {
        None
    }

    /// What still runs or is held open on behalf of handles.
    fn running(&self) -> usize {
        0
    }
}

/// Far above anything a healthy backend needs on a machine that is busy with something else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Answers(BoxStream<'static, Result<InstanceSet, DiscoveryError>>);

impl Answers {
    pub(crate) fn of(discovery: &dyn Discovery, target: &str) -> Self {
        Self(discovery.watch(&target.parse().unwrap()))
    }

    pub(crate) fn peers(discovery: &dyn Discovery, boundary: &str) -> Self {
        Self(discovery.peers(&Boundary::new(boundary).unwrap()))
    }

    pub(crate) async fn next(&mut self) -> Result<InstanceSet, DiscoveryError> {
        time::timeout(PATIENCE, self.0.next())
            .await
            .expect("an answer")
            .expect("a backend's watch does not end")
    }

    /// The next set, past errors.
    pub(crate) async fn set(&mut self) -> InstanceSet {
        self.until(|_| true).await
    }

    /// The next error, past sets.
    pub(crate) async fn error(&mut self) -> DiscoveryError {
        loop {
            if let Err(error) = self.next().await {
                return error;
            }
        }
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
