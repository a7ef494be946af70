//! Random times.

use std::time::Duration;

use rand::RngExt;

/// A time with this mean, exponentially distributed: of requests that come, and end, independently of each other.
pub(crate) fn exponential(chance: &mut impl rand::Rng, mean: Duration) -> Duration {
    let even: f64 = chance.random();
    mean.mul_f64(-(1.0 - even).ln())
}
