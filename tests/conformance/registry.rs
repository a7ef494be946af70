//! The embedded registry as a subject: nothing in it can break, and it dies with its process.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use rolecall::discovery::conformance::Subject;
use rolecall::discovery::{BoxFuture, BoxStream, DiscoveryError, RegisterError};
use rolecall::{
    Boundary, Discovery, InstanceSet, Lease, Registrar, Registration, Registry, Target,
};

#[derive(Default)]
pub(crate) struct Embedded(Registry);

impl Subject for Embedded {
    fn open(&self) -> Arc<dyn Discovery> {
        Arc::new(self.0.clone())
    }

    fn announce(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        self.0.register(registration)
    }
}

/// A registry whose watches tell their first set only.
#[derive(Default)]
pub(crate) struct Forgetful(Embedded);

struct First(Registry);

impl Discovery for First {
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let answers = self.0.watch(target).take(1);
        Box::pin(answers.chain(futures::stream::pending()))
    }

    fn peers(
        &self,
        boundary: &Boundary,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        self.0.peers(boundary)
    }

    fn refresh(&self, _: &Target) {}
}

impl Subject for Forgetful {
    fn open(&self) -> Arc<dyn Discovery> {
        Arc::new(First(self.0.0.clone()))
    }

    fn announce(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        self.0.announce(registration).boxed()
    }

    fn news_within(&self) -> Duration {
        Duration::from_millis(50)
    }

    fn most_instances(&self) -> usize {
        20
    }
}
