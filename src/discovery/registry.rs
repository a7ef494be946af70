//! The embedded registry: roles of one process, or of one test.

use std::future;

use super::announcement::AnnouncementKey;
use super::backend::Catalog;
use super::lease::{Lease, LeaseEdit, LeaseHandle};
use super::registration::Registration;
use super::{BoxFuture, BoxStream, Discovery, Registrar};
use crate::error::discovery::{DiscoveryError, RegisterError};
use crate::model::instance::{InstanceId, InstanceSet};
use crate::model::name::Boundary;
use crate::model::target::Target;

/// The registry that lives in this process: the embedded default.
///
/// Clones are the same registry. It needs no runtime and starts no task.
///
/// - Sets are whole and confirmed. A watcher that is slow gets the newest one, never a queue of old ones, and instances
///   that did not change are shared between successive sets.
/// - A role becomes known when it is first registered, an endpoint name when an instance first has it. Names without
///   instances stay known, which is an empty set, within the bound of a [`Catalog`]. A watch that had to answer with an
///   error goes on and yields the set as soon as there is one.
/// - While a lease lives, its id is taken in its role and boundary.
///
/// # Examples
///
/// ```
/// use rolecall::{Availability, Registrar, Registration, Registry};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = Registry::new();
/// let registration = Registration::new("worker").endpoint("http", ([127, 0, 0, 1], 8080));
/// let lease = registry.register(registration).await?;
/// lease.set_availability(Availability::Busy).await?;
/// lease.deregister().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Registry {
    catalog: Catalog,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Discovery for Registry {
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        self.catalog.watch(target)
    }

    fn peers(
        &self,
        boundary: &Boundary,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        self.catalog.peers(boundary)
    }

    fn refresh(&self, _: &Target) {}
}

impl Registrar for Registry {
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        let catalog = self.catalog.clone();
        Box::pin(async move {
            let announced = registration.validate()?;
            let key = announced.key();
            catalog.put_new(announced)?;
            tracing::debug!(
                boundary = %key.boundary, role = %key.role, id = %key.id,
                "registered"
            );
            Ok(Lease::new(Registered { catalog, key }))
        })
    }
}

/// The registry's half of a lease.
struct Registered {
    catalog: Catalog,
    key: AnnouncementKey,
}

impl Registered {
    fn end(&self) {
        if self.catalog.take(&self.key) {
            let AnnouncementKey { boundary, role, id } = &self.key;
            tracing::debug!(%boundary, %role, %id, "deregistered");
        }
    }
}

impl LeaseHandle for Registered {
    fn id(&self) -> &InstanceId {
        &self.key.id
    }

    fn edit(&self, edit: LeaseEdit) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(future::ready(self.catalog.edit(&self.key, edit)))
    }

    fn deregister(&mut self) -> BoxFuture<'_, Result<(), RegisterError>> {
        self.end();
        Box::pin(future::ready(Ok(())))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;
    use crate::error::discovery::{DiscoveryErrorKind, RegisterErrorKind};
    use std::net::SocketAddr;

    use crate::model::instance::{Availability, Instance};

    type Answers = BoxStream<'static, Result<InstanceSet, DiscoveryError>>;

    fn worker(id: &str) -> Registration {
        Registration::new("worker")
            .id(id)
            .endpoint("http", addr(80))
    }

    fn addr(port: u16) -> SocketAddr {
        ([10, 0, 0, 7], port).into()
    }

    fn watch(registry: &Registry, target: &str) -> Answers {
        Discovery::watch(registry, &target.parse().unwrap())
    }

    async fn set(answers: &mut Answers) -> InstanceSet {
        answers.next().await.unwrap().unwrap()
    }

    fn nothing_new(answers: &mut Answers) -> bool {
        answers.next().now_or_never().is_none()
    }

    #[tokio::test]
    async fn an_unknown_role_is_an_error_until_it_appears() {
        let registry = Registry::new();
        let mut answers = watch(&registry, "worker:http");
        let error = answers.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), DiscoveryErrorKind::UnknownRole);
        assert!(nothing_new(&mut answers), "one situation is told once");
        let other = Registration::new("other").endpoint("http", addr(1));
        let _other = registry.register(other).await.unwrap();
        assert!(nothing_new(&mut answers), "another role is no news");
        let _lease = registry.register(worker("w-1")).await.unwrap();
        assert_eq!(set(&mut answers).await.len(), 1);
    }

    #[tokio::test]
    async fn a_known_role_with_nobody_home_is_an_empty_confirmed_set() {
        let registry = Registry::new();
        registry
            .register(worker("w-1"))
            .await
            .unwrap()
            .deregister()
            .await
            .unwrap();
        let set = set(&mut watch(&registry, "worker:http")).await;
        assert!(set.is_empty() && set.is_confirmed());
    }

    #[tokio::test]
    async fn an_unknown_endpoint_is_an_error_with_the_known_ones_until_it_opens() {
        let registry = Registry::new();
        let lease = registry.register(worker("w-1")).await.unwrap();
        let mut answers = watch(&registry, "worker:grpc");
        let error = answers.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), DiscoveryErrorKind::UnknownEndpoint);
        assert!(error.to_string().ends_with("it has \"http\""), "{error}");
        lease.add_endpoint("grpc", addr(90)).await.unwrap();
        assert_eq!(
            *set(&mut answers).await.get("w-1").unwrap().address(),
            addr(90)
        );
        lease.remove_endpoint("grpc").await.unwrap();
        assert!(
            set(&mut answers).await.is_empty(),
            "an endpoint stays known"
        );
    }

    #[tokio::test]
    async fn a_slow_watcher_gets_only_the_newest_set() {
        let registry = Registry::new();
        let mut answers = watch(&registry, "worker:http");
        assert!(answers.next().await.unwrap().is_err());
        let mut leases = Vec::new();
        for id in 0..1000 {
            leases.push(registry.register(worker(&id.to_string())).await.unwrap());
        }
        assert_eq!(set(&mut answers).await.len(), 1000);
        assert!(nothing_new(&mut answers));
        leases.truncate(1);
        let left = set(&mut answers).await;
        assert_eq!(
            left.iter().map(Instance::id).collect::<Vec<_>>(),
            [&InstanceId::from("0")]
        );
    }

    #[tokio::test]
    async fn changes_of_one_instance_leave_the_others_as_they_are() {
        let registry = Registry::new();
        let lease = registry.register(worker("w-1")).await.unwrap();
        let _other = registry.register(worker("w-2")).await.unwrap();
        let mut answers = watch(&registry, "worker:http");
        let before = set(&mut answers).await;
        lease.set_availability(Availability::Busy).await.unwrap();
        let after = set(&mut answers).await;
        assert_eq!(after.get("w-1").unwrap().availability(), Availability::Busy);
        assert!(before.get("w-2").unwrap().ptr_eq(after.get("w-2").unwrap()));
        lease.set_availability(Availability::Busy).await.unwrap();
        assert!(
            nothing_new(&mut answers),
            "saying the same again is no news"
        );
        lease.add_endpoint("http", addr(81)).await.unwrap();
        assert_eq!(
            *set(&mut answers).await.get("w-1").unwrap().address(),
            addr(81)
        );
    }

    #[tokio::test]
    async fn a_taken_id_is_refused_and_nothing_of_its_holder_changes() {
        let registry = Registry::new();
        let lease = registry.register(worker("w-1")).await.unwrap();
        let mut answers = watch(&registry, "worker:http");
        set(&mut answers).await;
        let second = worker("w-1").endpoint("http", addr(81));
        let refused = registry.register(second.clone()).await.unwrap_err();
        assert_eq!(refused.kind(), RegisterErrorKind::IdTaken, "{refused}");
        assert!(nothing_new(&mut answers));

        let elsewhere = registry.register(worker("w-1").boundary("media")).await;
        assert!(elsewhere.is_ok(), "another boundary has its own ids");
        let other_role = registry
            .register(Registration::new("other").id("w-1"))
            .await;
        assert!(other_role.is_ok(), "another role has its own ids");
        drop(lease);
        assert!(registry.register(second).await.is_ok(), "free again");
    }

    #[tokio::test]
    async fn invalid_registrations_leave_no_trace() {
        let registry = Registry::new();
        let invalid = worker("w-1").endpoint("grpc", ([0, 0, 0, 0], 90));
        assert!(registry.register(invalid).await.is_err());
        let lease = registry.register(worker("w-1")).await.unwrap();
        let mut answers = watch(&registry, "worker:http");
        set(&mut answers).await;
        assert!(lease.add_endpoint("8080", addr(80)).await.is_err());
        assert!(lease.add_endpoint("grpc", addr(0)).await.is_err());
        assert!(lease.remove_endpoint("Http").await.is_err());
        assert!(nothing_new(&mut answers));
    }

    #[tokio::test]
    async fn dropping_a_lease_or_its_futures_deregisters() {
        let registry = Registry::new();
        let mut answers = watch(&registry, "worker:http");
        assert!(answers.next().await.unwrap().is_err());
        drop(registry.register(worker("w-1")));
        assert!(
            nothing_new(&mut answers),
            "a registration that was never polled"
        );
        let lease = registry.register(worker("w-1")).await.unwrap();
        assert_eq!(set(&mut answers).await.len(), 1);
        drop(lease);
        assert!(set(&mut answers).await.is_empty());
        let lease = registry.register(worker("w-1")).await.unwrap();
        assert_eq!(set(&mut answers).await.len(), 1);
        drop(lease.deregister());
        assert!(set(&mut answers).await.is_empty());
    }

    #[tokio::test]
    async fn peers_are_all_instances_of_a_boundary_by_where_they_call_from() {
        let registry = Registry::new();
        let mut peers = registry.peers(&Boundary::default());
        let nobody = set(&mut peers).await;
        assert!(nobody.is_empty() && nobody.is_confirmed());

        let caller = Registration::new("cron")
            .id("1")
            .peer_ip([10, 0, 0, 9].into());
        let _leases = [
            registry.register(worker("1")).await.unwrap(),
            registry.register(caller).await.unwrap(),
            registry
                .register(Registration::new("nowhere"))
                .await
                .unwrap(),
            registry
                .register(worker("2").boundary("media"))
                .await
                .unwrap(),
        ];
        let set = set(&mut peers).await;
        let found: Vec<_> = set
            .iter()
            .map(|i| (i.id().as_str(), i.address().to_string()))
            .collect();
        assert_eq!(
            found,
            [
                ("cron/1", "10.0.0.9:0".to_owned()),
                ("worker/1", "10.0.0.7:0".to_owned())
            ]
        );
        let elsewhere = worker("3").boundary("media");
        let _elsewhere = registry.register(elsewhere).await.unwrap();
        assert!(nothing_new(&mut peers), "another boundary is no news");
    }

    #[tokio::test]
    async fn a_sleeping_watcher_is_woken_by_each_kind_of_change() {
        let registry = Registry::new();
        let mut answers = watch(&registry, "worker:http");
        assert!(answers.next().await.unwrap().is_err());
        let mut peers = registry.peers(&Boundary::default());
        assert!(set(&mut peers).await.is_empty());
        let (seen, mut sizes) = tokio::sync::mpsc::unbounded_channel();
        let watching = tokio::spawn(async move {
            loop {
                seen.send(set(&mut answers).await.len()).unwrap();
                seen.send(set(&mut peers).await.len()).unwrap();
            }
        });
        tokio::task::yield_now().await;
        let lease = registry.register(worker("w-1")).await.unwrap();
        assert_eq!((sizes.recv().await, sizes.recv().await), (Some(1), Some(1)));
        tokio::task::yield_now().await;
        lease.deregister().await.unwrap();
        assert_eq!((sizes.recv().await, sizes.recv().await), (Some(0), Some(0)));
        watching.abort();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_change_is_missed_under_contention() {
        const TASKS: usize = 4;
        let registry = Registry::new();
        let mut answers = watch(&registry, "worker:http");
        assert!(answers.next().await.unwrap().is_err());
        let registering: Vec<_> = (0..TASKS)
            .map(|task| {
                let registry = registry.clone();
                tokio::spawn(async move {
                    for _ in 0..100 {
                        drop(
                            registry
                                .register(worker(&format!("brief-{task}")))
                                .await
                                .unwrap(),
                        );
                    }
                    registry
                        .register(worker(&format!("stays-{task}")))
                        .await
                        .unwrap()
                })
            })
            .collect();
        let everyone = |set: &InstanceSet| {
            set.len() == TASKS && set.iter().all(|i| i.id().as_str().starts_with("stays"))
        };
        while !everyone(&set(&mut answers).await) {}
        let leases = futures::future::join_all(registering).await;
        assert!(nothing_new(&mut answers));
        drop(leases);
        assert!(set(&mut answers).await.is_empty());
    }
}
