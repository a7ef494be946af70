//! What a caller in one boundary sees of a discovery.

use std::iter;

use futures_util::{StreamExt, stream};

use super::{
    BoxFuture, BoxStream, Discovery, DiscoveryError, Lease, RegisterError, Registrar, Registration,
};
use crate::instance::InstanceSet;
use crate::name::Boundary;
use crate::target::Target;

/// The view of a discovery that a caller in one boundary has, made by [`Discovery::within`].
///
/// - A target without a boundary means this one, and so does a registration without one.
/// - Instances whose [`Visibility`](crate::Visibility) does not allow this boundary are absent.
/// - If that leaves none of at least one, the view yields an empty confirmed set and then the error
///   [`NotVisible`](super::DiscoveryErrorKind::NotVisible): a caller that lost its permission stops calling.
///
/// [`peers`](Discovery::peers) are not filtered: visibility says who may call an instance, not whom it may call.
#[derive(Clone, Debug)]
pub struct Within<D> {
    inner: D,
    boundary: Boundary,
}

impl<D> Within<D> {
    pub(super) fn new(inner: D, boundary: Boundary) -> Self {
        Self { inner, boundary }
    }
}

impl<D: Discovery> Discovery for Within<D> {
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let owner = target.boundary().unwrap_or(&self.boundary).clone();
        let target = target.clone().in_boundary(owner.clone());
        let sets = self.inner.watch(&target);
        if owner == self.boundary {
            return sets;
        }
        let caller = self.boundary.clone();
        Box::pin(sets.flat_map(move |answer| {
            let (first, second) = match answer {
                Ok(set) => see(&set, &target, &owner, &caller),
                Err(error) => (Err(error), None),
            };
            stream::iter(iter::once(first).chain(second))
        }))
    }

    fn peers(
        &self,
        boundary: &Boundary,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        self.inner.peers(boundary)
    }

    fn caller(&self) -> Option<&Boundary> {
        Some(&self.boundary)
    }
}

impl<R: Registrar> Registrar for Within<R> {
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        self.inner
            .register(registration.or_boundary(&self.boundary))
    }
}

type Answer = Result<InstanceSet, DiscoveryError>;

fn see(
    set: &InstanceSet,
    target: &Target,
    owner: &Boundary,
    caller: &Boundary,
) -> (Answer, Option<Answer>) {
    let visible = set.filtered(|instance| instance.visibility().allows(owner, caller));
    if visible.is_empty() && !set.is_empty() {
        let error = DiscoveryError::not_visible(target, caller);
        (Ok(InstanceSet::empty().confirmed()), Some(Err(error)))
    } else {
        (Ok(visible), None)
    }
}
