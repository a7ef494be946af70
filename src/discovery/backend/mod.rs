//! The parts that a discovery backend is made of.
//!
//! | To write | Take |
//! |---|---|
//! | a source that lists everything and then tells changes (etcd, Kubernetes, ZooKeeper) | [`mirror`] |
//! | a source that is watched for each target (Consul, EDS) | [`per_target`] |
//! | a source that is asked again and again (DNS, an HTTP endpoint) | [`poll`] |
//! | anything else that knows all instances | a [`Catalog`], fed by hand |
//! | a registrar | [`Publish`] and [`keep`] |
//! | what is stored in between (feature `serde`) | `Record` |
//!
//! Tasks run in the runtime where a watch or a lease is first polled, and only while there is one. If that runtime ends,
//! the next poll in another one starts them again.

mod backoff;
mod catalog;
mod contents;
mod guarded;
mod keep;
mod listing;
mod mirror;
#[cfg(any(feature = "etcd", feature = "kubernetes"))]
mod mirrors;
mod newest;
mod per_target;
mod poll;
#[cfg(feature = "serde")]
mod record;
mod task;
mod update;
mod watch;

pub use backoff::Backoff;
pub use catalog::Catalog;
pub use keep::{Publish, keep};
pub use mirror::{Mirror, mirror};
pub use per_target::{PerTarget, per_target};
pub use poll::{PollAnswer, PollBounds, poll};
#[cfg(feature = "serde")]
pub use record::Record;
pub use update::{CatalogUpdate, Scope};

pub(super) use guarded::{guarded, is_unsupported, next_of};
pub(super) use listing::Listing;
#[cfg(any(feature = "etcd", feature = "kubernetes"))]
pub(super) use mirrors::Mirrors;
pub(super) use per_target::Fanout;
#[cfg(all(feature = "folder", unix))]
pub(super) use task::Task;
