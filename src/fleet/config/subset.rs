//! Which part of a role a balancer dials.

/// Which instances of its target a balancer dials: all of them, or a fixed number chosen by a key.
///
/// With thousands of callers and servers, a connection from each caller to each server costs more than the requests. A subset
/// makes a balancer cost what a small role costs. The price is uneven load: each caller chooses alone, so an instance has by
/// chance more callers than another, see [`SubsetStatus::unevenness`](crate::status::SubsetStatus::unevenness).
///
/// With the `serde` feature it is written `"all"`, or `fixed = { size = 20, key = "pod-7" }`.
///
/// ```
/// use rolecall::{BalanceConfig, Subset};
///
/// // The name of the host or the pod: it is stable over restarts, and no other caller has it.
/// let key = std::env::var("HOSTNAME").unwrap_or_else(|_| "caller-1".into());
/// let config = BalanceConfig::builder().subset(Subset::fixed(20, key)).build()?;
/// # drop(config);
/// # Ok::<(), rolecall::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Subset {
    /// All instances. The default.
    #[default]
    All,
    /// A number of instances, chosen by a key.
    #[non_exhaustive]
    Fixed {
        /// How many, 1 to 65 536. A set that is not larger is dialled whole.
        size: u32,
        /// The caller's key. It must differ between callers, or all of them dial the same instances.
        key: String,
    },
}

impl Subset {
    /// Dials `size` instances, 1 to 65 536, chosen by the caller's `key`, which is not empty.
    ///
    /// The key decides alone: a caller that restarts with the same key dials the same instances. An instance that joins or
    /// leaves changes at most one of them. Weights count, and at least two instances of each zone are chosen where there are two,
    /// even if that is more than `size`. An ejected instance is not replaced by another; a draining one is.
    ///
    /// [`ConfigBuilder::build`](crate::ConfigBuilder::build) checks the ranges.
    pub fn fixed(size: u32, key: impl Into<String>) -> Self {
        let key = key.into();
        Self::Fixed { size, key }
    }
}
