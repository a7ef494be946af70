//! The tower side with scripted discovery, dials and services, on paused time but for `races`; one file for each kind
//! of promise.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(
    clippy::disallowed_methods,
    reason = "a paused clock is the test's own"
)]

mod attempt_timeout;
#[path = "../common/captured.rs"]
mod captured;
mod control;
mod dialling;
mod ejection;
mod endings;
mod errors;
mod faults;
mod lifecycle;
mod local_faults;
mod log;
mod lost_connection;
mod max_waiting;
mod news;
mod pinned;
mod promises;
mod races;
mod readiness;
mod runtimes;
mod spans;
mod support;
mod visibility;
