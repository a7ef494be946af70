//! The only place that draws from global randomness.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

use rand::SeedableRng;
use rand::rngs::SmallRng;

/// Lends the thread's own generator.
pub(crate) fn with_rng<R>(draw: impl FnOnce(&mut SmallRng) -> R) -> R {
    let new = || SmallRng::seed_from_u64(seed());
    thread_local!(static RNG: RefCell<SmallRng> = RefCell::new(SmallRng::seed_from_u64(seed())));
    RNG.with(|rng| match rng.try_borrow_mut() {
        Ok(mut rng) => draw(&mut rng),
        // A pick can be the last to let go of a service, which may call a balancer while it is dropped.
        Err(_) => draw(&mut new()),
    })
}

/// Unpredictable enough to tell processes and threads apart: the keys of a fresh hasher.
pub(crate) fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn one_who_draws_may_be_asked_to_draw_meanwhile() {
        let (outer, inner) = with_rng(|rng| (rng.next_u64(), with_rng(|rng| rng.next_u64())));
        assert_ne!(outer, inner);
    }
}
