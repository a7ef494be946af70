use std::fmt;
use std::sync::Arc;

use crate::discovery::backend::Fanout;
use crate::discovery::{BoxFuture, BoxStream, Discovery, Lease, Registrar, Registration};
use crate::error::discovery::{DiscoveryError, RegisterError};
use crate::model::instance::InstanceSet;
use crate::model::name::Boundary;
use crate::model::target::Target;

/// The discovery that [`DiscoveryExt::shared`](crate::DiscoveryExt::shared) makes; clones share its watches.
pub struct Shared<D> {
    discovery: Arc<D>,
    targets: Fanout<Target>,
    peers: Fanout<Boundary>,
}

impl<D: Discovery> Shared<D> {
    pub(super) fn new(discovery: D) -> Self {
        let discovery = Arc::new(discovery);
        let (of_targets, of_peers) = (Arc::clone(&discovery), Arc::clone(&discovery));
        Self {
            discovery,
            targets: Fanout::new(move |target, _| of_targets.watch(&target), None),
            peers: Fanout::new(move |boundary, _| of_peers.peers(&boundary), None),
        }
    }
}

impl<D: Discovery> Discovery for Shared<D> {
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let boundary = target.boundary().cloned().unwrap_or_default();
        self.targets.watch(&target.clone().in_boundary(boundary))
    }

    fn peers(
        &self,
        boundary: &Boundary,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        self.peers.watch(boundary)
    }

    fn refresh(&self, target: &Target) {
        self.discovery.refresh(target);
    }
}

impl<D: Registrar> Registrar for Shared<D> {
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        self.discovery.register(registration)
    }
}

impl<D> Clone for Shared<D> {
    fn clone(&self) -> Self {
        Self {
            discovery: Arc::clone(&self.discovery),
            targets: self.targets.clone(),
            peers: self.peers.clone(),
        }
    }
}

impl<D: fmt::Debug> fmt::Debug for Shared<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.discovery).finish()
    }
}
