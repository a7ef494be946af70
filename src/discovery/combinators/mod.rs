//! Discoveries made of other discoveries.

#[cfg(feature = "cache")]
mod cache;
#[cfg(feature = "cache")]
mod cache_file;
mod extension;
mod fallback;
mod merge;
mod sharing;

#[cfg(feature = "cache")]
pub use cache::Cached;
pub use extension::DiscoveryExt;
pub use fallback::Or;
pub use merge::Merge;
pub use sharing::Shared;
