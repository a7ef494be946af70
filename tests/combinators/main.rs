//! Discoveries made of others, on paused time.

#![expect(clippy::unwrap_used, reason = "a test")]

mod balancing;
mod cached;
mod fallback;
mod merge;
mod sharing;
mod source;
