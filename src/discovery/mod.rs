//! Discovery backends, and how instances register.
//!
//! A [`Discovery`] answers a [`Target`] with a stream of **whole sets**. Every `Ok` is the complete membership, so a slow
//! reader needs only the newest one. An `Err` reports a failure and changes no membership. The end of the stream means that
//! the set will not change again. A role that was never registered is an error. A role whose last instance left is an empty set.
//!
//! A [`Registrar`] takes a [`Registration`] and returns a [`Lease`], which keeps the instance announced. A [`Backend`] does
//! both.
//!
//! | Backend | Instances come from | Registers |
//! |---|---|---|
//! | [`Registry`] | registrations in this process | yes |
//! | [`List`] | a fixed list | by the platform |
//! | `RolesFile` (feature `roles-file`) | a file that people write | by the platform |
//! | `Folder` (feature `folder`) | a folder in which the processes of one machine register | yes |
//! | `Dns` (feature `dns`) | SRV records, or the addresses of hosts | by the platform |
//! | `Etcd` (feature `etcd`) | etcd, in which processes of all machines register | yes |
//! | `Kubernetes` (feature `kubernetes`) | the services of a cluster | by the platform |
//! | [`from_changes`] | any stream of inserts and removals | no |
//! | yours | an implementation of [`Discovery`], built from the parts in [`backend`] | as you like |
//!
//! [`DiscoveryExt`] combines them: a fallback until the first answer, two sources merged, the last sets stored on disk, and
//! shared watches.
//!
//! The traits are object safe. `Arc<dyn Discovery>` and `Arc<dyn Backend>` are backends too, and [`from_uri`] makes one from a
//! URI. [`Schemes`] adds URI schemes of your own.
//!
//! # Boundaries
//!
//! A backend returns all instances of a target. The balancer removes those that are not visible to its own boundary, which is
//! set where the balancer is made ([`BalanceLayer::boundary`](crate::BalanceLayer::boundary)).
//!
//! # Examples
//!
//! ```
//! use futures::StreamExt;
//! use rolecall::{Discovery, Registrar, Registration, Registry, Target};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let registry = Registry::new();
//! let lease = registry
//!     .register(Registration::new("worker").endpoint("http", ([127, 0, 0, 1], 8080)))
//!     .await?;
//!
//! let mut sets = registry.watch(&Target::try_from("worker:http")?);
//! assert_eq!(sets.next().await.ok_or("ended")??.len(), 1);
//! lease.deregister().await?;
//! assert!(sets.next().await.ok_or("ended")??.is_empty());
//! # Ok(())
//! # }
//! ```

mod announcement;
pub mod backend;
mod changes;
pub mod combinators;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(any(
    feature = "cache",
    all(feature = "folder", unix),
    feature = "roles-file"
))]
mod disk;
#[cfg(feature = "dns")]
mod dns;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(any(
    feature = "cache",
    all(feature = "folder", unix),
    feature = "roles-file"
))]
mod fault;
#[cfg(all(feature = "folder", unix))]
mod folder;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod lease;
mod list;
mod registration;
mod registry;
#[cfg(feature = "roles-file")]
mod roles_file;
mod schemes;
mod uri;
#[cfg(any(feature = "dns", feature = "etcd"))]
mod uri_parts;
pub(crate) mod view;

use std::sync::Arc;

pub use futures_core::future::BoxFuture;
pub use futures_core::stream::BoxStream;
use futures_util::stream;

pub use crate::error::discovery::{
    DiscoveryError, DiscoveryErrorKind, RegisterError, RegisterErrorKind,
};
pub use announcement::{Announcement, AnnouncementKey};
pub use changes::{Change, Changes, from_changes};
pub use combinators::DiscoveryExt;
#[cfg(feature = "dns")]
pub use dns::{Dns, DnsQuery};
#[cfg(feature = "etcd")]
pub use etcd::{Etcd, EtcdBuilder, EtcdConfigError, EtcdConfigErrorKind};
#[cfg(all(feature = "folder", unix))]
pub use folder::Folder;
#[cfg(feature = "kubernetes")]
pub use kubernetes::Kubernetes;
pub use lease::{Lease, LeaseEdit, LeaseHandle, LeaseState, LeaseStates};
pub use list::List;
pub use registration::Registration;
pub use registry::Registry;
#[cfg(feature = "roles-file")]
pub use roles_file::RolesFile;
pub use schemes::Schemes;
pub use uri::{UriError, from_uri, from_uri_with};

use crate::model::instance::InstanceSet;
use crate::model::name::Boundary;
use crate::model::target::Target;

/// A source of instances.
///
/// [`guide::backends`](crate::guide::backends) shows how to write one from the parts in [`backend`]. For a simple source a
/// direct implementation is short:
///
/// # Examples
///
/// ```
/// use std::collections::HashMap;
/// use futures::stream::{self, StreamExt};
/// use rolecall::discovery::{BoxStream, DiscoveryError, no_peers};
/// use rolecall::{Boundary, Discovery, InstanceSet, Role, Target};
///
/// /// Instances from the program's configuration.
/// struct Configured(HashMap<Role, InstanceSet>);
///
/// impl Discovery for Configured {
///     fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
///         let answer = match self.0.get(target.role()) {
///             Some(set) => Ok(set.clone().confirmed()),
///             None => Err(DiscoveryError::unknown_role(target)),
///         };
///         // After the end of the stream the set does not change.
///         stream::iter([answer]).boxed()
///     }
///
///     fn peers(&self, _: &Boundary) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
///         no_peers()
///     }
///
///     fn refresh(&self, _: &Target) {}
/// }
/// ```
pub trait Discovery: Send + Sync + 'static {
    /// Returns the instances of a target, now and whenever they change.
    ///
    /// Each `Ok` is the whole set. A set of more than 100 000 instances counts as an error. Each `Err` is reported and changes
    /// no membership. After the end of the stream the target is not watched again, so a backend that loses its server must
    /// reconnect by itself.
    ///
    /// An unknown role is an error, and so is an unknown endpoint of a known role. A known role without instances is an empty
    /// set. The target has a boundary; a target without one means the boundary `default`.
    ///
    /// # Cancellation
    ///
    /// Dropping the stream ends the watch.
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>>;

    /// Returns all instances of a boundary, also those without endpoints. A guard admits them.
    ///
    /// The id of each instance is `role/id`, which is unique in the boundary. Its address is the source ip of its calls, with
    /// port 0. An instance whose source ip is unknown is left out. A backend without such a list returns [`no_peers`].
    fn peers(&self, boundary: &Boundary)
    -> BoxStream<'static, Result<InstanceSet, DiscoveryError>>;

    /// Hints that the set of a target may be stale, because dials fail or no instance is usable.
    ///
    /// A polling backend asks again soon, with jitter, at most once a second. Others do nothing. Never blocks.
    fn refresh(&self, target: &Target);
}

/// The answer of [`peers`](Discovery::peers) for a backend without such a list: one
/// [unsupported](DiscoveryError::unsupported) error.
#[must_use]
pub fn no_peers() -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
    let error = DiscoveryError::unsupported("listing the peers of a boundary");
    Box::pin(stream::iter([Err(error)]))
}

/// Registers instances.
pub trait Registrar: Send + Sync + 'static {
    /// Announces one instance until the returned [`Lease`] is dropped.
    ///
    /// # Errors
    ///
    /// A [`RegisterError`] if a field is invalid, if the id is taken, if this backend cannot register, or if it failed.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the instance is not announced, or its announcement expires.
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>>;
}

/// A discovery that also takes registrations.
pub trait Backend: Discovery + Registrar {}

impl<T: Discovery + Registrar + ?Sized> Backend for T {}

macro_rules! forwarded_by {
    ($pointer:ident) => {
        impl<D: Discovery + ?Sized> Discovery for $pointer<D> {
            fn watch(
                &self,
                target: &Target,
            ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
                (**self).watch(target)
            }

            fn peers(
                &self,
                boundary: &Boundary,
            ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
                (**self).peers(boundary)
            }

            fn refresh(&self, target: &Target) {
                (**self).refresh(target);
            }
        }

        impl<R: Registrar + ?Sized> Registrar for $pointer<R> {
            fn register(
                &self,
                registration: Registration,
            ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
                (**self).register(registration)
            }
        }
    };
}

forwarded_by!(Arc);
forwarded_by!(Box);
