//! What a caller in one boundary sees of a discovery.

use std::iter;
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::{BoxStream, Discovery};
use crate::error::discovery::DiscoveryError;
use crate::model::instance::InstanceSet;
use crate::model::name::Boundary;
use crate::model::target::Target;

/// The view of a discovery that a caller in one boundary has.
///
/// - A target without a boundary means this one.
/// - Instances whose [`Visibility`](crate::Visibility) does not allow this boundary are absent.
/// - If that leaves none of at least one, the view yields an empty set, confirmed if the source's was, and then the error
///   [`NotVisible`](super::DiscoveryErrorKind::NotVisible).
pub(crate) struct View {
    discovery: Arc<dyn Discovery>,
    caller: Boundary,
}

impl View {
    pub(crate) fn new(discovery: Arc<dyn Discovery>, caller: Boundary) -> Self {
        Self { discovery, caller }
    }

    /// The same target, with the boundary that it means.
    pub(crate) fn resolved(&self, target: &Target) -> Target {
        let owner = target.boundary().unwrap_or(&self.caller).clone();
        target.clone().in_boundary(owner)
    }

    /// Follows a target whose boundary is filled in.
    pub(crate) fn watch(
        &self,
        target: &Target,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let target = self.resolved(target);
        let sets = self.discovery.watch(&target);
        let owner = target.boundary().unwrap_or(&self.caller).clone();
        if owner == self.caller {
            return sets;
        }
        let caller = self.caller.clone();
        Box::pin(sets.flat_map(move |answer| {
            let (first, second) = match answer {
                Ok(set) => see(&set, &target, &owner, &caller),
                Err(error) => (Err(error), None),
            };
            stream::iter(iter::once(first).chain(second))
        }))
    }

    pub(crate) fn refresh(&self, target: &Target) {
        self.discovery.refresh(&self.resolved(target));
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
    use futures::StreamExt;

    use super::*;
    use crate::discovery::backend::{Catalog, Scope};
    use crate::discovery::{Announcement, Registration};
    use crate::error::discovery::DiscoveryErrorKind;
    use crate::model::instance::Visibility;

    fn boundary(name: &str) -> Boundary {
        Boundary::new(name).unwrap()
    }

    fn worker(id: &str, visibility: Visibility) -> Announcement {
        let registration = Registration::new("worker").id(id).boundary("media");
        let registration = registration.endpoint("http", ([127, 0, 0, 1], 80));
        registration.visibility(visibility).validate().unwrap()
    }

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    fn seen_from(caller: &str, catalog: &Catalog) -> View {
        View::new(Arc::new(catalog.clone()), boundary(caller))
    }

    fn ids(set: &InstanceSet) -> Vec<&str> {
        set.iter().map(|instance| instance.id().as_str()).collect()
    }

    #[tokio::test]
    async fn an_omitted_boundary_is_the_callers_own() {
        let catalog = Catalog::new();
        catalog.put(worker("w-1", Visibility::Internal));
        let mut answers = seen_from("media", &catalog).watch(&target("worker:http"));
        assert_eq!(ids(&answers.next().await.unwrap().unwrap()), ["w-1"]);
        let mut answers = seen_from("batch", &catalog).watch(&target("worker:http"));
        let error = answers.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), DiscoveryErrorKind::UnknownRole);
        assert!(error.to_string().contains("\"batch\""), "{error}");
    }

    #[tokio::test]
    async fn only_what_is_visible_is_seen_from_another_boundary() {
        let catalog = Catalog::new();
        let granted = Visibility::Granted(vec![boundary("batch")]);
        catalog.put(worker("internal", Visibility::Internal));
        catalog.put(worker("public", Visibility::Public));
        catalog.put(worker("granted", granted));
        for (caller, seen) in [
            ("media", vec!["granted", "internal", "public"]),
            ("batch", vec!["granted", "public"]),
            ("stranger", vec!["public"]),
        ] {
            let mut answers = seen_from(caller, &catalog).watch(&target("media/worker:http"));
            let set = answers.next().await.unwrap().unwrap();
            assert_eq!(ids(&set), seen, "seen from {caller}");
            assert!(set.is_confirmed());
        }
    }

    #[tokio::test]
    async fn a_caller_that_may_see_nobody_gets_an_empty_set_and_then_why() {
        let catalog = Catalog::new();
        catalog.put(worker("w-1", Visibility::Internal));
        let mut answers = seen_from("batch", &catalog).watch(&target("media/worker:http"));
        let set = answers.next().await.unwrap().unwrap();
        assert!(set.is_empty() && set.is_confirmed());
        let error = answers.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), DiscoveryErrorKind::NotVisible);
        catalog.put(worker("w-2", Visibility::Public));
        assert_eq!(ids(&answers.next().await.unwrap().unwrap()), ["w-2"]);
        catalog.replace(Scope::All, []);
        let set = answers.next().await.unwrap().unwrap();
        assert!(set.is_empty(), "nobody there is no question of visibility");
        catalog.put(worker("w-3", Visibility::Public));
        assert_eq!(ids(&answers.next().await.unwrap().unwrap()), ["w-3"]);
    }

    #[tokio::test]
    async fn a_view_confirms_nothing_that_its_source_did_not() {
        let catalog = Catalog::pending();
        catalog.replace(Scope::All, [worker("w-1", Visibility::Internal)]);
        let mut answers = seen_from("batch", &catalog).watch(&target("media/worker:http"));
        let set = answers.next().await.unwrap().unwrap();
        assert!(set.is_empty() && !set.is_confirmed());
    }
}
