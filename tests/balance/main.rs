//! The tower side on paused time: scripted discovery, dials and services; one file for each kind of promise.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod errors;
mod lifecycle;
mod promises;
mod support;
