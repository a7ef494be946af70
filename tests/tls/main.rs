//! `rolecall::http` and `rolecall::grpc` over TLS, and what is no TLS.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]
#![expect(clippy::disallowed_methods, reason = "sockets have real time")]

mod connections;
mod identity;
mod negotiation;
mod plain;
mod renewal;
mod support;
mod version12;
#[path = "../common/waiting.rs"]
mod waiting;
