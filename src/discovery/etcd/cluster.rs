use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
use super::keys::{Keys, Watched};
use super::registrant::Registrant;
use super::source;
use crate::discovery::backend::{Backoff, Mirrors, keep, mirror};
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
    connection: Arc<Connection>,
    keys: Keys,
    ttl: Duration,
    mirrors: Mirrors<Watched>,
}

impl Etcd {
    pub(super) fn new(connection: Arc<Connection>, keys: Keys, ttl: Duration) -> Self {
        let (client, stored) = (Arc::clone(&connection), keys.clone());
        let mirrors = Mirrors::new(move |watched: Watched| {
            let (client, stored) = (Arc::clone(&client), stored.clone());
            let open =
                move || source::updates(Arc::clone(&client), stored.clone(), watched.clone());
            let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(3));
            mirror(open, backoff)
        });
        Self {
            connection,
            keys,
            ttl,
            mirrors,
        }
    }
}

impl Discovery for Etcd {
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let watched = Watched {
            boundary: target.boundary().cloned().unwrap_or_default(),
            role: Some(target.role().clone()),
        };
        self.mirrors.read(watched, |mirror| mirror.watch(target))
    }

    fn peers(
        &self,
        boundary: &Boundary,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let watched = Watched {
            boundary: boundary.clone(),
            role: None,
        };
        self.mirrors.read(watched, |mirror| mirror.peers(boundary))
    }

    fn refresh(&self, _: &Target) {}
}

impl Registrar for Etcd {
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        let connection = Arc::clone(&self.connection);
        let registrant = Registrant::new(connection, self.keys.clone(), self.ttl);
        Box::pin(async move { keep(registrant, registration.validate()?).await })
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").finish_non_exhaustive()
    }
}
