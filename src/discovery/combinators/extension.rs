#[cfg(feature = "cache")]
use std::path::Path;

#[cfg(feature = "cache")]
use super::cache::Cached;
use super::fallback::Or;
use super::merge::Merge;
use super::sharing::Shared;
use crate::discovery::Discovery;

/// Combines discoveries.
///
/// A discovery that [has no list](crate::discovery::no_peers) of peers contributes none: a combination of two gives the peers
/// of the other, and says that it has no list only if neither has one. `cached` and [`shared`](Self::shared)
/// have one if the discovery in them has.
///
/// # Examples
///
/// ```
/// use rolecall::{DiscoveryExt, List, Registry};
///
/// let registry = Registry::new();
/// let seed = List::from_addrs([([10, 0, 0, 7], 80).into()])?;
/// let discovery = registry.or(seed).shared();
/// # Ok::<(), rolecall::InstanceError>(())
/// ```
pub trait DiscoveryExt: Discovery + Sized {
    /// Stores the last set of each target, and the last peers of each boundary, in this folder, so that a process can start
    /// while discovery is down.
    ///
    /// Until this discovery gives its first set, a watch gives the stored one: as soon as this discovery gives an error or
    /// ends, else after 250 ms. The stored set is not confirmed, and [`Status`](crate::Status) tells its age. It never
    /// follows a set of this discovery.
    ///
    /// All watches of a target share one watch of this discovery, as in [`shared`](Self::shared).
    ///
    /// # Files
    ///
    /// There is one file for each target and one for the peers of each boundary, mode 0600. The folder is created with mode
    /// 0700 when the first set is stored. A folder or a file that other users may write to, or that belongs to another user,
    /// is not read. A file is replaced by a rename, so a reader never sees half of one, and several processes may use one
    /// folder. At most one write a second is made for each file, on a thread for blocking work.
    ///
    /// A set that is empty or has fewer than half of the stored instances is stored only after 30 s, unless it is
    /// confirmed: it may be a half answer.
    ///
    /// # Errors
    ///
    /// A file that cannot be read is one error on the stream, with the file's name in its source. It is replaced by the next
    /// set, unless its text does not begin as that of a cached set: such a file is left alone. A set that cannot be stored is
    /// logged as a warning, once until storing works again. It is tried again after 1 s, and then after pauses that double up
    /// to 60 s.
    #[cfg(feature = "cache")]
    fn cached(self, folder: impl AsRef<Path>) -> Cached<Self> {
        Cached::new(self, folder.as_ref())
    }

    /// Gives the sets of `other`, unconfirmed, until this discovery gives its first set. From then on `other` is not used.
    ///
    /// That holds for each watch. Errors of both are reported as long as both are used. A watch ends when all streams that
    /// it uses have ended. The instances of `other` do not count when a later set is judged
    /// [doubtful](crate::ConfigBuilder::shrink_grace).
    fn or<D: Discovery>(self, other: D) -> Or<Self, D> {
        Or::new(self, other)
    }

    /// Gives the instances of both discoveries. If an id occurs in both, the instance of this one wins.
    ///
    /// - The first set is given when each of the two has given a set or an error or has ended, but after one second at most.
    /// - A set is [confirmed](crate::InstanceSet::confirmed) if both have given a confirmed one.
    /// - If one gives an error or ends, its last set stays. The error is reported. That a role or an endpoint is unknown is
    ///   reported only if neither has a set.
    fn merge<D: Discovery>(self, other: D) -> Merge<Self, D> {
        Merge::new(self, other)
    }

    /// Shares one watch of each target, and one of the peers of each boundary, among all watches of this discovery and its
    /// clones, such as those of several balancers.
    ///
    /// Each watch begins with the newest set, and with the newest error if no set came after it. The shared watch runs as a
    /// task while somebody polls one of its watches. If the runtime of that task ends, the watch is opened again in the
    /// runtime of another watch.
    ///
    /// # Panics
    ///
    /// A watch has to be polled in a tokio runtime with timers; elsewhere it gives nothing.
    fn shared(self) -> Shared<Self> {
        Shared::new(self)
    }
}

impl<D: Discovery> DiscoveryExt for D {}
