//! `rolecall::http` over real sockets.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]
#![expect(clippy::disallowed_methods, reason = "sockets have real time")]

mod age;
mod claims;
mod client;
mod closing;
mod connections;
mod dials;
mod exhausted;
#[path = "../common/frames.rs"]
mod frames;
mod host;
mod life;
mod limits;
mod loss;
mod outcomes;
mod pinned;
mod random;
mod refused;
mod runtimes;
mod service;
mod streaming;
mod support;
#[cfg(unix)]
mod transports;
mod tunnels;
