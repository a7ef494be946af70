//! Chapters beyond the items: how to choose, and what was measured.

#[doc = include_str!("tuning.md")]
pub mod tuning {}

#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("migrating.md")]
pub mod migrating {}
