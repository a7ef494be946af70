//! Ejection over real sockets and real time: servers in processes of their own, which can be made to fail, stopped and
//! killed, and open-loop load through `http::Client`.
//!
//! `cargo test` runs every scenario at a length that still can fail. The lengths that are promised are run by
//! `cargo test --release --test ejection -- --ignored --nocapture --test-threads 1`; each prints what it measured.

#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(
    clippy::disallowed_methods,
    reason = "load on real sockets is measured by the real clock"
)]

mod errors;
mod load;
mod outage;
mod overload;
mod refused;
mod server;
mod shedding;
mod stage;
mod stall;
mod stopped;
mod trials;
