//! `rolecall::grpc` with tonic's clients and servers over real sockets, and with servers that are none.

#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "sockets have real time")]

mod calls;
mod client;
mod closing;
mod faults;
#[path = "../common/frames.rs"]
mod frames;
mod limits;
mod outcomes;
mod pinned;
mod retry;
mod server;
mod strangers;
mod streams;
mod support;
#[path = "../common/waiting.rs"]
mod waiting;
