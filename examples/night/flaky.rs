//! A discovery that fails when it is told to.

use std::io;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use rolecall::discovery::{DiscoveryError, no_peers};
use rolecall::{Boundary, Discovery, InstanceSet, Target};
use tokio::sync::watch;

#[derive(Clone)]
pub(crate) struct Flaky(Arc<watch::Sender<Result<InstanceSet, DiscoveryError>>>);

impl Flaky {
    pub(crate) fn new(set: InstanceSet) -> Self {
        Self(Arc::new(watch::Sender::new(Ok(set))))
    }

    pub(crate) fn announce(&self, set: InstanceSet) {
        let _ = self.0.send_replace(Ok(set));
    }

    pub(crate) fn fail(&self, why: &'static str) {
        let error = DiscoveryError::backend("watching the store", io::Error::other(why));
        let _ = self.0.send_replace(Err(error));
    }
}

impl Discovery for Flaky {
    fn watch(&self, _: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let mut answers = self.0.subscribe();
        answers.mark_changed();
        stream::unfold(answers, async |mut answers| {
            answers.changed().await.ok()?;
            let answer = answers.borrow_and_update().clone();
            Some((answer, answers))
        })
        .boxed()
    }

    fn peers(&self, _: &Boundary) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        no_peers()
    }

    fn refresh(&self, _: &Target) {}
}
