//! The embedded registry: roles of one process, or of one test.

mod book;
mod watch;

use std::fmt;
use std::future;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch as signal;

use self::book::Book;
use self::watch::{Subject, Watch};
use super::{
    Announcement, BoxFuture, BoxStream, Discovery, DiscoveryError, Lease, LeaseEdit, LeaseHandle,
    RegisterError, Registrar, Registration,
};
use crate::model::instance::{InstanceId, InstanceSet};
use crate::model::name::Boundary;
use crate::model::target::Target;

/// The registry that lives in this process: the embedded default.
///
/// Clones are the same registry. It needs no runtime and starts no task.
///
/// - Sets are whole and confirmed. A watcher that is slow gets the newest one, never a queue of old ones, and instances
///   that did not change are shared between successive sets.
/// - A role becomes known when it is first registered, an endpoint name when one of its instances opens it, and both
///   stay known: later there may be nobody home, which is an empty set. A watch that had to answer with an error
///   goes on and yields the set as soon as there is one.
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
/// let registration = Registration::new("worker").endpoint("http", "127.0.0.1:8080".parse()?);
/// let lease = registry.register(registration).await?;
/// lease.set_availability(Availability::Busy).await?;
/// lease.deregister().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    shared: Arc<Shared>,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes many changes at once: no watcher sees half of them. What they come back with rings.
    #[cfg(feature = "file")]
    pub(super) fn edit(&self, edit: impl FnOnce(&mut Book) -> Vec<signal::Sender<()>>) {
        let changed = edit(&mut self.shared.book());
        for role in changed {
            self.shared.tell(&role);
        }
    }

    fn watch(&self, subject: Subject) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        Watch::new(self.shared.clone(), subject).into_stream()
    }
}

impl Discovery for Registry {
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let boundary = target.boundary().cloned().unwrap_or_default();
        self.watch(Subject::Target {
            boundary,
            target: target.clone(),
        })
    }

    fn peers(
        &self,
        boundary: &Boundary,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        self.watch(Subject::Peers(boundary.clone()))
    }

    fn refresh(&self, _: &Target) {}
}

impl Registrar for Registry {
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let announced = registration.validate()?;
            let changed = shared.book().add(&announced)?;
            shared.tell(&changed);
            tracing::debug!(
                boundary = %announced.boundary(), role = %announced.role(), id = %announced.id(),
                "registered"
            );
            Ok(Lease::new(Registered {
                shared,
                id: announced.id().clone(),
                announced: Mutex::new(Some(announced)),
            }))
        })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

/// What all clones, leases and watches share.
#[derive(Default)]
struct Shared {
    book: Mutex<Book>,
    /// Rings at any change, for those who cannot watch one known role.
    changed: signal::Sender<()>,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        // No code of others runs under the lock, so a poisoned book is a whole one.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called with no lock held: wakers are the watchers' code.
    fn tell(&self, role_changed: &signal::Sender<()>) {
        role_changed.send_replace(());
        self.changed.send_replace(());
    }
}

/// The registry's half of a lease. What it announced is `None` once it was deregistered.
struct Registered {
    shared: Arc<Shared>,
    id: InstanceId,
    announced: Mutex<Option<Announcement>>,
}

impl Registered {
    fn change(
        &self,
        edit: impl FnOnce(&mut Announcement) -> Result<(), RegisterError>,
    ) -> Result<(), RegisterError> {
        let changed = {
            let mut announced = self
                .announced
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let Some(announced) = announced.as_mut() else {
                return Ok(());
            };
            let mut edited = announced.clone();
            edit(&mut edited)?;
            let before = mem::replace(announced, edited);
            self.shared.book().replace(&before, announced)
        };
        self.shared.tell(&changed);
        Ok(())
    }

    fn end(&mut self) {
        let announced = self
            .announced
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(announced) = announced.take() {
            let changed = self.shared.book().remove(&announced);
            self.shared.tell(&changed);
            tracing::debug!(
                boundary = %announced.boundary(), role = %announced.role(), id = %announced.id(),
                "deregistered"
            );
        }
    }
}

impl LeaseHandle for Registered {
    fn id(&self) -> &InstanceId {
        &self.id
    }

    fn edit(&self, edit: LeaseEdit) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(future::ready(
            self.change(|announced| edit.apply(announced)),
        ))
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
        assert_eq!(set(&mut answers).await.get("w-1").unwrap().addr(), addr(90));
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
        assert_eq!(set(&mut answers).await.get("w-1").unwrap().addr(), addr(81));
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
        let invalid = worker("w-1").endpoint("grpc", "0.0.0.0:90".parse().unwrap());
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
            .map(|i| (i.id().as_str(), i.addr().to_string()))
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
