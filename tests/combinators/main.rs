//! Discoveries made of others, on paused time.

#![expect(clippy::unwrap_used, reason = "a test")]

mod balancing;
mod cached;
#[path = "../common/captured.rs"]
mod captured;
mod fallback;
mod merge;
mod peers;
mod sharing;
mod source;
