//! `rolecall::http` and `rolecall::grpc` with servers of others, and with servers that do as none should: one theme a file.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod proxies;
mod strangers;
mod support;
#[path = "../common/waiting.rs"]
mod waiting;
