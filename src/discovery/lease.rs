//! What keeps an instance announced, and the ways to end it.

use std::error::Error as StdError;
use std::fmt;
use std::future::{self, Future};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time;

use super::{BoxFuture, RegisterError};
use crate::model::instance::{Availability, InstanceId, check_addr};
use crate::model::name::EndpointName;

/// Keeps one instance announced; given by [`register`](super::Registrar::register).
///
/// Dropping it deregisters the instance best-effort; [`deregister`](Self::deregister) waits and tells whether it
/// worked. Of a process that crashed, the instance disappears when the backend finds the lease expired.
#[must_use = "dropping a lease deregisters the instance"]
pub struct Lease {
    handle: Box<dyn LeaseHandle>,
}

/// What of a drain's deadline is kept for deregistering: a quarter, at most this. A backend across a network needs less.
const LONGEST_SPARE: Duration = Duration::from_secs(1);

/// What a registrar does on behalf of one lease: the backend's half of [`Lease`].
///
/// Dropping the handle deregisters best-effort, without blocking.
pub trait LeaseHandle: Send + Sync + 'static {
    /// The id it is announced by.
    fn id(&self) -> &InstanceId;

    /// Announces whether it wants requests.
    fn set_availability(
        &self,
        availability: Availability,
    ) -> BoxFuture<'_, Result<(), RegisterError>>;

    /// Announces an endpoint, or its new address. The address was checked.
    fn open(
        &self,
        endpoint: EndpointName,
        addr: SocketAddr,
    ) -> BoxFuture<'_, Result<(), RegisterError>>;

    /// Announces that an endpoint is gone; nothing happens if it is not open.
    fn close(&self, endpoint: EndpointName) -> BoxFuture<'_, Result<(), RegisterError>>;

    /// Ends the announcement. Called at most once, and nothing but the drop comes after it.
    fn deregister(&mut self) -> BoxFuture<'_, Result<(), RegisterError>>;
}

impl Lease {
    /// The lease that a registrar of your own hands out.
    pub fn new(handle: impl LeaseHandle) -> Self {
        Self {
            handle: Box::new(handle),
        }
    }

    /// The id the instance is announced by.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        self.handle.id()
    }

    /// Announces whether the instance wants requests.
    ///
    /// # Errors
    ///
    /// A [`RegisterError`] if the backend failed; what was announced before then stands.
    pub async fn set_availability(&self, availability: Availability) -> Result<(), RegisterError> {
        self.handle.set_availability(availability).await
    }

    /// Announces one more endpoint, or the new address of one.
    ///
    /// # Errors
    ///
    /// A [`RegisterError`] if the name or the address is invalid, as in a registration, or if the backend failed.
    pub async fn open(
        &self,
        endpoint: impl AsRef<str>,
        addr: SocketAddr,
    ) -> Result<(), RegisterError> {
        let endpoint = EndpointName::new(endpoint)?;
        check_addr(addr)?;
        self.handle.open(endpoint, addr).await
    }

    /// Announces that an endpoint is gone; nothing happens if it is not open.
    ///
    /// # Errors
    ///
    /// A [`RegisterError`] if the name is invalid or the backend failed.
    pub async fn close(&self, endpoint: impl AsRef<str>) -> Result<(), RegisterError> {
        self.handle.close(EndpointName::new(endpoint)?).await
    }

    /// Announces draining, waits for the whole of `deadline`, and deregisters by then.
    ///
    /// Callers stop sending as soon as they hear of it, and what is in flight has that long to finish.
    /// [`drain_until`](Self::drain_until) ends the wait as soon as nothing is. Deregistering begins a second before the
    /// deadline, or when three quarters of a shorter one are over, and never makes the drain last longer.
    ///
    /// # Errors
    ///
    /// A [`RegisterError`] if deregistering failed, or was not done by the deadline; then it goes on best-effort, as when the
    /// lease is dropped. Announcing is best-effort: if it fails, the wait still happens.
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

    /// Like [`drain`](Self::drain), and waits no longer than until `idle` completes: the program's word that nothing is
    /// in flight, such as a server's graceful shutdown. Its output is ignored.
    ///
    /// `idle` is first polled once draining has been announced.
    ///
    /// # Errors
    ///
    /// As for [`drain`](Self::drain).
    ///
    /// # Cancellation
    ///
    /// As for [`drain`](Self::drain); `idle` is dropped too, and also at the deadline.
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
            idle.as_mut().await;
        };
        let spare = LONGEST_SPARE.min(deadline / 4);
        let is_idle = time::timeout(deadline - spare, finished).await.is_ok();
        let Self { mut handle } = self;
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

    /// Deregisters the instance, and waits until that is done.
    ///
    /// # Errors
    ///
    /// A [`RegisterError`] if the backend failed; the instance then disappears when its lease expires.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the lease, which deregisters best-effort.
    pub async fn deregister(mut self) -> Result<(), RegisterError> {
        self.handle.deregister().await
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

        fn set_availability(
            &self,
            availability: Availability,
        ) -> BoxFuture<'_, Result<(), RegisterError>> {
            assert_eq!(availability, Availability::Draining);
            self.note("draining")
        }

        fn open(&self, _: EndpointName, _: SocketAddr) -> BoxFuture<'_, Result<(), RegisterError>> {
            self.note("open")
        }

        fn close(&self, _: EndpointName) -> BoxFuture<'_, Result<(), RegisterError>> {
            self.note("close")
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
        let addr = "127.0.0.1:80".parse().unwrap();
        assert!(lease.open("8080", addr).await.is_err());
        assert!(
            lease
                .open("http", "0.0.0.0:80".parse().unwrap())
                .await
                .is_err()
        );
        assert!(lease.close("").await.is_err());
        assert!(calls.lock().unwrap().is_empty());
        lease.open("http", addr).await.unwrap();
        lease.close("http").await.unwrap();
        assert_eq!(*calls.lock().unwrap(), ["open", "close"]);
    }
}
