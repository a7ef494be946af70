//! Where instances come from, and how they announce themselves.
//!
//! A [`Discovery`] answers a [`Target`] with a stream of **whole sets**: every `Ok` is the complete membership as known
//! now, so that whoever falls behind needs only the newest one. An `Err` reports trouble and changes no membership; an
//! ended stream says that no more news will come. A role nobody ever registered is an error, a role whose last instance
//! left is an empty set.
//!
//! A [`Registrar`] takes a [`Registration`] and answers with the [`Lease`] that keeps it announced. What does both is a
//! [`Backend`].
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
//! | yours | an implementation of [`Discovery`], made of the parts in [`backend`] | as you like |
//!
//! [`DiscoveryExt`] combines them: one until another answers, both together, with the last sets on disk, with shared watches.
//!
//! All of them are object safe: `Arc<dyn Discovery>` and `Arc<dyn Backend>` are backends too, and [`from_uri`] makes
//! the latter from a line of configuration. [`Schemes`] are URIs of your own.
//!
//! # Boundaries
//!
//! Backends answer whoever asks, and filter nothing. Who asks is said where a balancer is made
//! ([`BalanceLayer::boundary`](crate::BalanceLayer::boundary)), and there it is decided which instances are visible.
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
/// [`guide::backends`](crate::guide::backends) shows how to write one, and [`backend`] has the parts. By hand it is
/// short where the source is simple:
///
/// # Examples
///
/// ```
/// use std::collections::HashMap;
/// use futures::stream::{self, StreamExt};
/// use rolecall::discovery::{BoxStream, DiscoveryError, no_peers};
/// use rolecall::{Boundary, Discovery, InstanceSet, Role, Target};
///
/// /// What a program was configured with.
/// struct Configured(HashMap<Role, InstanceSet>);
///
/// impl Discovery for Configured {
///     fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
///         let answer = match self.0.get(target.role()) {
///             Some(set) => Ok(set.clone().confirmed()),
///             None => Err(DiscoveryError::unknown_role(target)),
///         };
///         // An end says that no more news will come.
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
    /// The instances of a target, now and whenever they change.
    ///
    /// Each `Ok` is the whole set, of at most 100 000 instances: a larger one is taken for an error. Each `Err` is reported
    /// and changes no membership. After the end of the stream no more news is expected and the target is not watched
    /// again, so a backend that loses its server reconnects by itself.
    /// An unknown role is an error, and so is an unknown endpoint of a known role; a known role that nobody serves
    /// is an empty set. The target's boundary is filled in; one without means the boundary `default`.
    ///
    /// # Cancellation
    ///
    /// Dropping the stream ends the watch.
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>>;

    /// Every instance of a boundary, also those with no endpoint: what a guard admits.
    ///
    /// Each instance has the id `role/id`, unique in the boundary, and as address the ip its calls come from with
    /// port 0. One whose calls come from an unknown ip is absent. Where there is no such list, it is [`no_peers`].
    fn peers(&self, boundary: &Boundary)
    -> BoxStream<'static, Result<InstanceSet, DiscoveryError>>;

    /// Takes a hint that the answer for a target may be stale: dials fail, or no instance is usable.
    ///
    /// A backend that polls asks again soon, with jitter, at most once a second; others do nothing. Never blocks.
    fn refresh(&self, target: &Target);
}

/// What [`peers`](Discovery::peers) answers where a backend has no such list: an
/// [unsupported](DiscoveryError::unsupported) error, and the end.
#[must_use]
pub fn no_peers() -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
    let error = DiscoveryError::unsupported("listing the peers of a boundary");
    Box::pin(stream::iter([Err(error)]))
}

/// What takes registrations.
pub trait Registrar: Send + Sync + 'static {
    /// Announces one instance for as long as the [`Lease`] lives.
    ///
    /// # Errors
    ///
    /// A [`RegisterError`] if a field is invalid, if the id is taken, if this backend cannot register, or if it failed.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves nothing announced, or something that its lease lets expire.
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
