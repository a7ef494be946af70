//! What a caller in one boundary sees of a discovery.

use std::iter;

use futures_util::{StreamExt, stream};

use super::{
    BoxFuture, BoxStream, Discovery, DiscoveryError, Lease, RegisterError, Registrar, Registration,
};
use crate::model::instance::InstanceSet;
use crate::model::name::Boundary;
use crate::model::target::Target;

/// The view of a discovery that a caller in one boundary has, made by [`Discovery::within`].
///
/// - A target without a boundary means this one, and so does a registration without one.
/// - Instances whose [`Visibility`](crate::Visibility) does not allow this boundary are absent.
/// - If that leaves none of at least one, the view yields an empty set, confirmed if the source's was, and then the error
///   [`NotVisible`](super::DiscoveryErrorKind::NotVisible).
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

    fn refresh(&self, target: &Target) {
        let owner = target.boundary().unwrap_or(&self.boundary).clone();
        self.inner.refresh(&target.clone().in_boundary(owner));
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
        (Ok(visible), Some(Err(error)))
    } else {
        (Ok(visible), None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::StreamExt;

    use super::*;
    use crate::discovery::{Backend, Registry};
    use crate::error::discovery::DiscoveryErrorKind;
    use crate::model::instance::Visibility;

    fn boundary(name: &str) -> Boundary {
        Boundary::new(name).unwrap()
    }

    fn worker(id: &str, visibility: Visibility) -> Registration {
        Registration::new("worker")
            .id(id)
            .boundary("media")
            .endpoint("http", "127.0.0.1:80".parse().unwrap())
            .visibility(visibility)
    }

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    fn ids(set: &InstanceSet) -> Vec<&str> {
        set.iter().map(|instance| instance.id().as_str()).collect()
    }

    #[tokio::test]
    async fn an_omitted_boundary_is_the_callers_own() {
        let registry = Registry::new();
        let _lease = registry
            .register(worker("w-1", Visibility::Internal))
            .await
            .unwrap();
        let media = registry.clone().within(boundary("media"));
        assert_eq!(media.caller(), Some(&boundary("media")));
        let set = media
            .watch(&target("worker:http"))
            .next()
            .await
            .unwrap()
            .unwrap();
        assert_eq!(ids(&set), ["w-1"]);
        let answer = registry
            .within(boundary("batch"))
            .watch(&target("worker:http"))
            .next()
            .await;
        let error = answer.unwrap().unwrap_err();
        assert_eq!(error.kind(), DiscoveryErrorKind::UnknownRole);
        assert!(error.to_string().contains("\"batch\""), "{error}");
    }

    #[tokio::test]
    async fn only_what_is_visible_is_seen_from_another_boundary() {
        let registry = Registry::new();
        let granted = Visibility::Granted(vec![boundary("batch")]);
        let _leases = [
            registry
                .register(worker("internal", Visibility::Internal))
                .await
                .unwrap(),
            registry
                .register(worker("public", Visibility::Public))
                .await
                .unwrap(),
            registry.register(worker("granted", granted)).await.unwrap(),
        ];
        for (caller, seen) in [
            ("media", vec!["granted", "internal", "public"]),
            ("batch", vec!["granted", "public"]),
            ("stranger", vec!["public"]),
        ] {
            let view = registry.clone().within(boundary(caller));
            let set = view
                .watch(&target("media/worker:http"))
                .next()
                .await
                .unwrap()
                .unwrap();
            assert_eq!(ids(&set), seen, "seen from {caller}");
            assert!(set.is_confirmed());
        }
    }

    #[tokio::test]
    async fn a_caller_that_may_see_nobody_gets_an_empty_set_and_then_why() {
        let registry = Registry::new();
        let lease = registry
            .register(worker("w-1", Visibility::Internal))
            .await
            .unwrap();
        let view = registry.clone().within(boundary("batch"));
        let mut answers = view.watch(&target("media/worker:http"));
        let set = answers.next().await.unwrap().unwrap();
        assert!(set.is_empty() && set.is_confirmed());
        let error = answers.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), DiscoveryErrorKind::NotVisible);

        let public = registry
            .register(worker("w-2", Visibility::Public))
            .await
            .unwrap();
        assert_eq!(ids(&answers.next().await.unwrap().unwrap()), ["w-2"]);
        lease.deregister().await.unwrap();
        public.deregister().await.unwrap();
        let set = answers.next().await.unwrap().unwrap();
        assert!(set.is_empty(), "nobody home is no question of visibility");
        let again = registry
            .register(worker("w-3", Visibility::Public))
            .await
            .unwrap();
        assert_eq!(ids(&answers.next().await.unwrap().unwrap()), ["w-3"]);
        drop(again);
    }

    #[tokio::test]
    async fn every_backend_can_be_seen_from_a_boundary_and_registers_in_it() {
        let backend: Arc<dyn Backend> = Arc::new(Registry::new());
        let view: Arc<dyn Backend> = Arc::new(backend.within(boundary("media")));
        let registration = Registration::new("worker")
            .id("w-1")
            .peer_ip([10, 0, 0, 7].into());
        let _lease = view.register(registration).await.unwrap();
        assert_eq!(view.caller(), Some(&boundary("media")), "forwarded by Arc");
        let peers = view
            .peers(&boundary("media"))
            .next()
            .await
            .unwrap()
            .unwrap();
        assert_eq!(ids(&peers), ["worker/w-1"]);
        let boxed: Box<dyn Discovery> = Box::new(view);
        assert_eq!(boxed.caller(), Some(&boundary("media")), "forwarded by Box");
    }
}
