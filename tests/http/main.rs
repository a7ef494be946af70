//! `rolecall::http` over real sockets.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod connections;
mod outcomes;
mod support;
