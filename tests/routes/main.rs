//! Where requests go: ranks.

#![expect(clippy::unwrap_used, reason = "a test")]

mod ranks;
mod world;
