//! [`Lease`]: keeps an instance announced until it is deregistered.

use std::error::Error as StdError;
use std::fmt;
use std::future::{self, Future};
use std::io;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use tokio::sync::watch;
use tokio::time;

use super::BoxFuture;
use super::announcement::Announcement;
use crate::error::discovery::RegisterError;
use crate::model::address::Address;
use crate::model::instance::{Availability, InstanceId, check_address};
use crate::model::name::EndpointName;

/// Keeps one instance announced. Returned by [`register`](super::Registrar::register).
///
/// Dropping it deregisters the instance, best-effort. [`deregister`](Self::deregister) waits and returns errors. If the process
/// crashes, the instance disappears once the backend notices.
///
/// If the backend loses the announcement, for example by an expired session, it announces the instance again by itself.
/// [`state`](Self::state) and [`changed`](Self::changed) show this.
#[must_use = "dropping a lease deregisters the instance"]
pub struct Lease {
    handle: Box<dyn LeaseHandle>,
    /// Remembers the state that was returned last.
    states: Mutex<watch::Receiver<LeaseState>>,
}

/// The part of a drain's deadline that is reserved for deregistering is a quarter, and at most this.
const LONGEST_SPARE: Duration = Duration::from_secs(1);

/// Whether an instance is announced.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LeaseState {
    /// The backend announces it.
    Announced,
    /// The backend lost it and is trying to announce it again.
    #[non_exhaustive]
    Lost {
        /// When the loss was noticed.
        since: Instant,
        /// The cause.
        error: RegisterError,
    },
    /// The platform announces the instance. The lease does nothing.
    ByPlatform,
}

/// The registrar's side of [`Lease::state`].
#[derive(Debug)]
pub struct LeaseStates(watch::Sender<LeaseState>);

impl LeaseStates {
    /// The state of an instance that has just been announced.
    #[must_use]
    pub fn announced() -> Self {
        Self(watch::Sender::new(LeaseState::Announced))
    }

    /// Changes the state.
    pub fn set(&self, state: LeaseState) {
        // The old one goes with no lock held: its error is foreign.
        drop(self.0.send_replace(state));
    }

    /// Returns the current state.
    #[must_use]
    pub fn get(&self) -> LeaseState {
        self.0.borrow().clone()
    }
}

/// A change of an announcement, requested through a [`Lease`]. Its address is already validated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseEdit {
    /// Announce whether the instance wants requests.
    Availability(Availability),
    /// Announce an endpoint, or a new address of it.
    AddEndpoint(EndpointName, Address),
    /// Withdraw an endpoint. Does nothing if it is not announced.
    RemoveEndpoint(EndpointName),
}

impl LeaseEdit {
    /// Applies the change.
    ///
    /// # Errors
    ///
    /// A [`RegisterError`] if callers could not dial the address.
    pub fn apply(self, announcement: &mut Announcement) -> Result<(), RegisterError> {
        match self {
            Self::Availability(availability) => announcement.set_availability(availability),
            Self::AddEndpoint(name, address) => announcement.add_endpoint(name, address)?,
            Self::RemoveEndpoint(name) => announcement.remove_endpoint(&name),
        }
        Ok(())
    }
}

/// The backend's side of one [`Lease`].
///
/// Dropping the handle deregisters best-effort, without blocking. [`keep`](super::backend::keep) makes one of a
/// [`Publish`](super::backend::Publish).
pub trait LeaseHandle: Send + Sync + 'static {
    /// Returns the id of the announced instance.
    fn id(&self) -> &InstanceId;

    /// Changes the announcement.
    fn edit(&self, edit: LeaseEdit) -> BoxFuture<'_, Result<(), RegisterError>>;

    /// Ends the announcement. Called at most once, and followed only by the drop.
    fn deregister(&mut self) -> BoxFuture<'_, Result<(), RegisterError>>;

    /// Keeps the instance announced if the runtime of the keeping task has ended. It never resolves, and is polled while a
    /// caller waits on the lease. The default does nothing.
    fn run(&self) -> BoxFuture<'_, ()> {
        Box::pin(future::pending())
    }
}

impl Lease {
    /// Makes a lease for a registrar of your own. Its state stays [`Announced`](LeaseState::Announced).
    pub fn new(handle: impl LeaseHandle) -> Self {
        Self::with_states(handle, &LeaseStates::announced())
    }

    /// Makes a lease for a registrar that may lose the announcement.
    pub fn with_states(handle: impl LeaseHandle, states: &LeaseStates) -> Self {
        Self {
            handle: Box::new(handle),
            states: Mutex::new(states.0.subscribe()),
        }
    }

    /// Makes a lease for an instance that the platform announces. Changes have no effect, and [`drain`](Self::drain) waits.
    ///
    /// So one program runs with any backend. The log says once that the instance was not announced.
    pub fn by_platform(announcement: &Announcement) -> Self {
        tracing::info!(
            boundary = %announcement.boundary(), role = %announcement.role(),
            id = %announcement.id(),
            "this discovery takes no registrations: the platform has to announce the instance"
        );
        let states = LeaseStates::announced();
        states.set(LeaseState::ByPlatform);
        let id = announcement.id().clone();
        Self::with_states(ByPlatform { id }, &states)
    }

    /// Returns the id of the instance.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        self.handle.id()
    }

    /// Returns whether the instance is announced.
    #[must_use]
    pub fn state(&self) -> LeaseState {
        self.states().borrow_and_update().clone()
    }

    /// Waits until the state differs from the one that this or [`state`](Self::state) returned last, and returns it.
    ///
    /// A task of the runtime in which the instance was registered keeps the lease. If that runtime has ended, polling this
    /// future keeps it.
    ///
    /// # Cancellation
    ///
    /// No change is lost: the next call returns it.
    pub async fn changed(&self) -> LeaseState {
        let mut states = self.states().clone();
        let changed = async {
            if states.changed().await.is_err() {
                // Nobody is left who could change it.
                future::pending::<()>().await;
            }
        };
        select(pin!(changed), self.handle.run()).await;
        let state = states.borrow_and_update().clone();
        *self.states() = states;
        state
    }

    fn states(&self) -> MutexGuard<'_, watch::Receiver<LeaseState>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces whether the instance wants requests.
    ///
    /// # Errors
    ///
    /// A [`RegisterError`] if the backend failed. The change is announced when the backend works again.
    pub async fn set_availability(&self, availability: Availability) -> Result<(), RegisterError> {
        self.handle
            .edit(LeaseEdit::Availability(availability))
            .await
    }

    /// Announces another endpoint, or a new address of an endpoint.
    ///
    /// # Errors
    ///
    /// A [`RegisterError`] if the name or the address is invalid, as in a registration, or if the backend failed. After a
    /// failure the change is announced when the backend works again.
    pub async fn add_endpoint(
        &self,
        endpoint: impl AsRef<str>,
        address: impl Into<Address>,
    ) -> Result<(), RegisterError> {
        let endpoint = EndpointName::new(endpoint)?;
        let address = address.into();
        check_address(&address)?;
        self.handle
            .edit(LeaseEdit::AddEndpoint(endpoint, address))
            .await
    }

    /// Withdraws an endpoint. Does nothing if it is not announced.
    ///
    /// # Errors
    ///
    /// A [`RegisterError`] if the name is invalid, or if the backend failed, as in
    /// [`add_endpoint`](Self::add_endpoint).
    pub async fn remove_endpoint(&self, endpoint: impl AsRef<str>) -> Result<(), RegisterError> {
        let endpoint = EndpointName::new(endpoint)?;
        self.handle.edit(LeaseEdit::RemoveEndpoint(endpoint)).await
    }

    /// Announces draining, waits for the whole of `deadline`, and deregisters by then.
    ///
    /// Callers that learn of it stop sending requests, and requests in flight can finish. [`drain_until`](Self::drain_until)
    /// ends the wait early. Deregistration starts one second before the deadline, or after three quarters of a deadline under
    /// four seconds.
    ///
    /// # Errors
    ///
    /// A [`RegisterError`] if deregistering failed, or did not finish by the deadline and continues best-effort. If the
    /// announcement of draining fails, the wait still happens.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the lease, which deregisters at once, best-effort.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with its timer enabled.
    pub async fn drain(self, deadline: Duration) -> Result<(), RegisterError> {
        self.drain_until(future::pending::<()>(), deadline).await
    }

    /// Like [`drain`](Self::drain), but stops waiting when `idle` resolves. Pass a future that resolves when no request is in
    /// flight, such as a server's graceful shutdown. Its output is ignored.
    ///
    /// `idle` is first polled once draining has been announced.
    ///
    /// # Errors
    ///
    /// As for [`drain`](Self::drain).
    ///
    /// # Cancellation
    ///
    /// As for [`drain`](Self::drain). `idle` is dropped too, as it is at the deadline.
    ///
    /// # Panics
    ///
    /// As for [`drain`](Self::drain).
    pub async fn drain_until(
        self,
        idle: impl Future,
        deadline: Duration,
    ) -> Result<(), RegisterError> {
        let mut over = pin!(time::sleep(deadline));
        let mut idle = pin!(idle);
        let finished = async {
            if let Err(error) = self.set_availability(Availability::Draining).await {
                let error: &(dyn StdError + 'static) = &error;
                tracing::warn!(id = %self.id(), error, "draining could not be announced");
            }
            select(idle.as_mut(), self.handle.run()).await;
        };
        let spare = LONGEST_SPARE.min(deadline / 4);
        let is_idle = time::timeout(deadline - spare, finished).await.is_ok();
        let Self { mut handle, .. } = self;
        let deregistered = match select(handle.deregister(), over.as_mut()).await {
            Either::Left((deregistered, _)) => deregistered,
            Either::Right(_) => {
                let late = io::Error::from(io::ErrorKind::TimedOut);
                Err(RegisterError::backend(
                    "deregistering by the deadline of the drain",
                    late,
                ))
            }
        };
        if !is_idle && let Either::Right(_) = select(idle, over).await {
            tracing::debug!(id = %handle.id(), "drain reached its deadline");
        }
        deregistered
    }

    /// Deregisters the instance and waits for the result.
    ///
    /// # Errors
    ///
    /// A [`RegisterError`] if the backend failed. The instance then disappears when its announcement expires.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the lease, which deregisters best-effort.
    pub async fn deregister(mut self) -> Result<(), RegisterError> {
        self.handle.deregister().await
    }
}

struct ByPlatform {
    id: InstanceId,
}

impl LeaseHandle for ByPlatform {
    fn id(&self) -> &InstanceId {
        &self.id
    }

    fn edit(&self, _: LeaseEdit) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(future::ready(Ok(())))
    }

    fn deregister(&mut self) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(future::ready(Ok(())))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("id", self.id())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::{Arc, Mutex};

    use futures::FutureExt;

    use super::*;

    /// Writes down what the lease asks of it.
    struct Scripted {
        id: InstanceId,
        calls: Arc<Mutex<Vec<&'static str>>>,
        hangs: &'static [&'static str],
    }

    impl Scripted {
        fn lease() -> (Lease, Arc<Mutex<Vec<&'static str>>>) {
            Self::hanging(&[])
        }

        fn hanging(hangs: &'static [&'static str]) -> (Lease, Arc<Mutex<Vec<&'static str>>>) {
            let calls = Arc::default();
            let handle = Self {
                id: "w-1".into(),
                calls: Arc::clone(&calls),
                hangs,
            };
            (Lease::new(handle), calls)
        }

        fn note(&self, call: &'static str) -> BoxFuture<'_, Result<(), RegisterError>> {
            self.calls.lock().unwrap().push(call);
            if self.hangs.contains(&call) {
                return Box::pin(future::pending());
            }
            Box::pin(ready(Ok(())))
        }
    }

    impl LeaseHandle for Scripted {
        fn id(&self) -> &InstanceId {
            &self.id
        }

        fn edit(&self, edit: LeaseEdit) -> BoxFuture<'_, Result<(), RegisterError>> {
            self.note(match edit {
                LeaseEdit::Availability(Availability::Draining) => "draining",
                LeaseEdit::Availability(_) => "another availability",
                LeaseEdit::AddEndpoint(..) => "add",
                LeaseEdit::RemoveEndpoint(..) => "remove",
            })
        }

        fn deregister(&mut self) -> BoxFuture<'_, Result<(), RegisterError>> {
            self.note("deregister")
        }
    }

    impl Drop for Scripted {
        fn drop(&mut self) {
            self.calls.lock().unwrap().push("drop");
        }
    }

    const DEADLINE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn drain_announces_and_waits_for_the_deadline_before_it_deregisters() {
        let (lease, calls) = Scripted::lease();
        let mut drain = Box::pin(lease.drain(DEADLINE));
        assert!((&mut drain).now_or_never().is_none());
        assert_eq!(*calls.lock().unwrap(), ["draining"]);
        time::advance(DEADLINE - Duration::from_millis(1010)).await;
        assert!((&mut drain).now_or_never().is_none());
        assert_eq!(*calls.lock().unwrap(), ["draining"]);
        time::advance(Duration::from_secs(1)).await;
        assert!(
            (&mut drain).now_or_never().is_none(),
            "in flight may still finish"
        );
        assert_eq!(*calls.lock().unwrap(), ["draining", "deregister"]);
        time::advance(Duration::from_millis(10)).await;
        (&mut drain)
            .now_or_never()
            .expect("at the deadline")
            .unwrap();
        assert_eq!(*calls.lock().unwrap(), ["draining", "deregister", "drop"]);
    }

    #[tokio::test(start_paused = true)]
    async fn drain_ends_as_soon_as_the_program_says_it_is_idle() {
        let (lease, calls) = Scripted::lease();
        let announced_first = calls.clone();
        let idle = async move {
            assert_eq!(*announced_first.lock().unwrap(), ["draining"]);
            time::sleep(Duration::from_secs(1)).await;
        };
        let drained = time::timeout(Duration::from_secs(2), lease.drain_until(idle, DEADLINE));
        drained.await.expect("idle after 1 s").unwrap();
        assert_eq!(*calls.lock().unwrap(), ["draining", "deregister", "drop"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_hangs_does_not_hold_a_drain_past_its_deadline() {
        let (lease, calls) = Scripted::hanging(&["draining"]);
        let drained = time::timeout(DEADLINE, lease.drain(DEADLINE));
        drained.await.expect("by the deadline").unwrap();
        let all = ["draining", "deregister", "drop"];
        assert_eq!(*calls.lock().unwrap(), all);

        for idle in [false, true] {
            let (lease, calls) = Scripted::hanging(&["draining", "deregister"]);
            let idle = async move {
                if !idle {
                    future::pending::<()>().await;
                }
            };
            let drained = time::timeout(DEADLINE, lease.drain_until(idle, DEADLINE));
            let error = drained.await.expect("by the deadline").unwrap_err();
            assert!(error.to_string().contains("by the deadline"), "{error}");
            assert_eq!(*calls.lock().unwrap(), all, "the rest is best-effort");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn extreme_deadlines_are_deadlines() {
        let (lease, calls) = Scripted::lease();
        lease.drain(Duration::ZERO).await.unwrap();
        assert_eq!(*calls.lock().unwrap(), ["draining", "deregister", "drop"]);
        let (lease, _) = Scripted::lease();
        lease.drain_until(ready(()), Duration::MAX).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_drain_drops_the_lease() {
        let (lease, calls) = Scripted::lease();
        assert!(lease.drain(DEADLINE).now_or_never().is_none());
        assert_eq!(*calls.lock().unwrap(), ["draining", "drop"]);
    }

    #[tokio::test]
    async fn bad_endpoints_do_not_reach_the_backend() {
        let (lease, calls) = Scripted::lease();
        let addr = ([127, 0, 0, 1], 80);
        assert!(lease.add_endpoint("8080", addr).await.is_err());
        assert!(
            lease
                .add_endpoint("http", ([0, 0, 0, 0], 80))
                .await
                .is_err()
        );
        assert!(lease.remove_endpoint("").await.is_err());
        assert!(calls.lock().unwrap().is_empty());
        lease.add_endpoint("http", addr).await.unwrap();
        lease.remove_endpoint("http").await.unwrap();
        assert_eq!(*calls.lock().unwrap(), ["add", "remove"]);
    }

    #[tokio::test]
    async fn a_lost_announcement_is_told_once_to_those_who_wait_and_to_those_who_look() {
        let (lease, _) = Scripted::lease();
        assert!(matches!(lease.state(), LeaseState::Announced));
        assert!(lease.changed().now_or_never().is_none(), "it cannot change");

        let states = LeaseStates::announced();
        let (_, calls) = Scripted::lease();
        let handle = Scripted {
            id: "w-1".into(),
            calls,
            hangs: &[],
        };
        let lease = Lease::with_states(handle, &states);
        assert!(lease.changed().now_or_never().is_none());
        let lost = LeaseState::Lost {
            since: crate::runtime::clock::now(),
            error: RegisterError::backend("renewing", "gone"),
        };
        states.set(lost);
        let told = lease.changed().now_or_never().expect("it changed");
        assert!(matches!(told, LeaseState::Lost { .. }), "{told:?}");
        assert!(lease.changed().now_or_never().is_none(), "told once");
        states.set(LeaseState::Announced);
        assert!(matches!(lease.state(), LeaseState::Announced));
        assert!(lease.changed().now_or_never().is_none(), "seen by a look");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_of_the_platform_changes_nothing_and_drains_by_waiting() {
        let announcement = crate::discovery::Registration::new("worker")
            .validate()
            .unwrap();
        let lease = Lease::by_platform(&announcement);
        assert!(matches!(lease.state(), LeaseState::ByPlatform));
        assert_eq!(lease.id(), announcement.id());
        let addr = ([127, 0, 0, 1], 80);
        lease.add_endpoint("http", addr).await.unwrap();
        assert!(lease.add_endpoint("8080", addr).await.is_err(), "validated");
        let mut drain = Box::pin(lease.drain(DEADLINE));
        assert!((&mut drain).now_or_never().is_none());
        time::advance(DEADLINE).await;
        drain.await.unwrap();
    }
}
