//! `rolecall::retry` on paused time, and over real sockets with servers that break.

#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "a test's own time")]

mod calls;
mod draining;
mod faults;
mod load;
mod marks;
mod policy;
mod script;
mod server;
mod told;
#[path = "../common/waiting.rs"]
mod waiting;
