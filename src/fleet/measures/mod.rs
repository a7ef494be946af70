//! Measurements over time, of one member and of the whole fleet. They know no ids and no configuration, and decide nothing.

pub(crate) mod failures;
pub(crate) mod label;
pub(crate) mod latency;
pub(crate) mod pool;
pub(crate) mod stall;
