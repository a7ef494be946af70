//! `rolecall::guard` over real sockets: who comes in, from where, and what a flood of strangers costs.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]
#![expect(clippy::disallowed_methods, reason = "tests measure by the clock")]

mod admission;
mod flood;
mod forward;
mod listener;
mod networks;
mod proxy;
mod support;
