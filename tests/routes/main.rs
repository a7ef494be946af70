//! Where requests go: ranks, zones, newcomers.

#![expect(clippy::unwrap_used, reason = "a test")]

mod newcomers;
mod ranks;
mod world;
mod zones;
