//! The only place that draws from global randomness.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

use rand::SeedableRng;
use rand::rngs::SmallRng;

/// Lends the thread's own generator.
pub(crate) fn with_rng<R>(draw: impl FnOnce(&mut SmallRng) -> R) -> R {
    thread_local!(static RNG: RefCell<SmallRng> = RefCell::new(SmallRng::seed_from_u64(seed())));
    RNG.with_borrow_mut(draw)
}

/// Unpredictable enough to tell processes and threads apart: the keys of a fresh hasher.
pub(crate) fn seed() -> u64 {
    RandomState::new().hash_one(0)
}
