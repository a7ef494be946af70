use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt;

use super::connection::Connection;
use super::keys::{Keys, Watched};
use super::registrant::Registrant;
use super::source;
use crate::discovery::backend::{Backoff, Mirror, keep, mirror};
use crate::discovery::lease::Lease;
use crate::discovery::registration::Registration;
use crate::discovery::{BoxFuture, BoxStream, Discovery, Registrar};
use crate::error::discovery::{DiscoveryError, RegisterError};
use crate::model::instance::InstanceSet;
use crate::model::name::Boundary;
use crate::model::target::Target;

/// Instances that register in [etcd](https://etcd.io), each under a key `prefix/boundary/role/id` that a lease keeps alive.
///
/// - A watch lists a role at one revision and follows it from there. All watches of a role share one watch of etcd, and
///   everything shares one connection. Any number of balancers is cheap.
/// - An instance whose process was killed is gone when its lease expires: the [time to live](crate::discovery::EtcdBuilder::ttl), 10 s by
///   default. The lease is renewed three times in that time.
/// - A lease that expired, because etcd could not be reached or lost its data, is announced again by itself.
///   Meanwhile its [state](Lease::state) is [`Lost`](crate::discovery::LeaseState::Lost).
/// - An id is refused while another lease holds its key. It is free when that lease expires or is revoked.
/// - Sets are not confirmed: a store that lost its data answers with an empty set, which a balancer doubts.
///
/// # Outages
///
/// While etcd cannot be reached, the last good sets stay, and watches tell the error. A watch that ends, or is cancelled
/// because its revision was compacted or the server lost its leader, is opened again and listed anew. It waits 100 ms
/// to 3 s before that, with jitter. A request that is not answered for 5 s failed, and one that renews a lease for a sixth
/// of its time to live, but at least 500 ms. A connection that fails, or over which nothing comes for 9 s, is replaced by one to the next
/// endpoint.
///
/// # What is stored
///
/// The value is a [`Record`](crate::discovery::backend::Record) as JSON. A key that has another form, or whose value is no
/// such record, is an error of every watch of its role, told once. It hides no other key. Only the keys of own leases are
/// ever written or deleted.
///
/// # Access
///
/// Whoever may write under the prefix can announce anything. A program that registers needs read and write access to
/// `prefix/boundary/`, one that only watches needs to read it.
///
/// # Panics
///
/// Watches and leases have to be polled in a tokio runtime with timers and I/O.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use rolecall::discovery::Etcd;
/// use rolecall::{Registrar, Registration};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let discovery = Etcd::builder(["10.0.0.2:2379", "10.0.0.3:2379"])
///     .prefix("shop")
///     .ttl(Duration::from_secs(5))
///     .build()?;
/// let worker = Registration::new("worker").endpoint("http", ([10, 0, 0, 7], 8080));
/// let lease = discovery.register(worker).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Etcd {
    shared: Arc<Shared>,
}

struct Shared {
    connection: Arc<Connection>,
    keys: Keys,
    ttl: Duration,
    /// What is watched now.
    mirrors: Mutex<HashMap<Watched, Weak<Mirror>>>,
}

/// Between attempts to watch.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(3))
}

impl Etcd {
    pub(super) fn new(connection: Arc<Connection>, keys: Keys, ttl: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                connection,
                keys,
                ttl,
                mirrors: Mutex::default(),
            }),
        }
    }

    fn mirror(&self, watched: Watched) -> Arc<Mirror> {
        let Shared {
            connection, keys, ..
        } = &*self.shared;
        let made = {
            let (connection, keys, watched) =
                (Arc::clone(connection), keys.clone(), watched.clone());
            let open =
                move || source::updates(Arc::clone(&connection), keys.clone(), watched.clone());
            Arc::new(mirror(open, backoff()))
        };
        let mirrors = self.shared.mirrors.lock();
        // No foreign code runs under the lock, so it is whole if it is poisoned.
        let mut mirrors = mirrors.unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = mirrors.get(&watched).and_then(Weak::upgrade) {
            return there;
        }
        mirrors.retain(|_, mirror| mirror.strong_count() > 0);
        mirrors.insert(watched, Arc::downgrade(&made));
        made
    }
}

/// The same stream, which keeps the mirror shared.
fn shared<T: Send + 'static>(
    mirror: Arc<Mirror>,
    stream: BoxStream<'static, T>,
) -> BoxStream<'static, T> {
    Box::pin(stream.map(move |item| {
        let _ = &mirror;
        item
    }))
}

impl Discovery for Etcd {
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let mirror = self.mirror(Watched {
            boundary: target.boundary().cloned().unwrap_or_default(),
            role: Some(target.role().clone()),
        });
        let sets = mirror.watch(target);
        shared(mirror, sets)
    }

    fn peers(
        &self,
        boundary: &Boundary,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let mirror = self.mirror(Watched {
            boundary: boundary.clone(),
            role: None,
        });
        let sets = mirror.peers(boundary);
        shared(mirror, sets)
    }

    fn refresh(&self, _: &Target) {}
}

impl Registrar for Etcd {
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        let Shared {
            connection,
            keys,
            ttl,
            ..
        } = &*self.shared;
        let registrant = Registrant::new(Arc::clone(connection), keys.clone(), *ttl);
        Box::pin(async move { keep(registrant, registration.validate()?).await })
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").finish_non_exhaustive()
    }
}
