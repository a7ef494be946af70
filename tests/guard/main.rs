//! `rolecall::guard` over real sockets: who comes in, from where, and what a flood of strangers costs.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]
#![expect(clippy::disallowed_methods, reason = "tests measure by the clock")]

mod admission;
#[path = "../common/captured.rs"]
mod captured;
mod flood;
mod folder;
mod forward;
mod listener;
mod networks;
mod out_of_files;
mod proxy;
mod servers;
#[path = "../common/stalls.rs"]
mod stalls;
mod support;
#[cfg(unix)]
mod unix;
