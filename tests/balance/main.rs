//! The tower side on paused time: scripted discovery, dials and services; one file for each kind of promise.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(
    clippy::disallowed_methods,
    reason = "a paused clock is the test's own"
)]

mod errors;
mod lifecycle;
mod promises;
mod support;
