//! Ejection and return, rule by rule, through the public API of the fleet: a manual clock, seeded generators, no runtime.
//!
//! [`scenario`] is the notation; each other file is one concept.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod address;
mod by_hand;
mod cap;
mod chance;
mod config;
mod connection;
mod duration;
mod late;
mod latency;
mod least_in_flight;
mod membership;
mod notice;
mod panic_mode;
mod peers;

mod properties;
mod rate;
mod rations;
mod reconfigured;
mod runs;
mod scenario;
mod shadow;
mod slow_start;
mod stalls;
mod suspects;
mod threshold;
mod time;
mod trials;
mod turns;
