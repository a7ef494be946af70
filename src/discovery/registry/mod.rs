//! The embedded registry: roles of one process, or of one test.

mod book;
mod watch;

use std::fmt;
use std::future;
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch as signal;

use self::book::Book;
use self::watch::{Subject, Watch};
use super::{
    Announcement, BoxFuture, BoxStream, Discovery, DiscoveryError, Lease, LeaseHandle,
    RegisterError, Registrar, Registration,
};
use crate::instance::{Availability, InstanceId, InstanceSet};
use crate::name::{Boundary, EndpointName};
use crate::target::Target;

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

    fn set_availability(
        &self,
        availability: Availability,
    ) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(future::ready(self.change(|announced| {
            announced.set_availability(availability);
            Ok(())
        })))
    }

    fn open(
        &self,
        endpoint: EndpointName,
        addr: SocketAddr,
    ) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(future::ready(
            self.change(|announced| announced.open(endpoint, addr)),
        ))
    }

    fn close(&self, endpoint: EndpointName) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(future::ready(self.change(|announced| {
            announced.close(&endpoint);
            Ok(())
        })))
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
