//! Chapters beyond the items: how to choose, and what was measured.

#[doc = include_str!("tuning.md")]
pub mod tuning {}

#[doc = include_str!("comparison.md")]
pub mod comparison {}

#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("boundary.md")]
pub mod boundary {}

#[doc = include_str!("backends.md")]
pub mod backends {}

#[doc = include_str!("operations.md")]
pub mod operations {}

#[doc = include_str!("migrating.md")]
pub mod migrating {}

#[doc = include_str!("http.md")]
pub mod http {}

#[doc = include_str!("servers.md")]
pub mod servers {}

#[cfg(feature = "kubernetes")]
#[doc = include_str!("kubernetes.md")]
pub mod kubernetes {}
