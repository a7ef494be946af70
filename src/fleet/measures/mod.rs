//! Numbers over time: what is counted of one member and of the whole fleet. No ids, no configuration, no decisions.

pub(crate) mod failures;
pub(crate) mod label;
pub(crate) mod latency;
pub(crate) mod pool;
pub(crate) mod stall;
