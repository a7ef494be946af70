//! The only place that draws from global randomness.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

use rand::SeedableRng;
use rand::rngs::SmallRng;

/// Lends the thread's own generator.
pub(crate) fn with_rng<R>(draw: impl FnOnce(&mut SmallRng) -> R) -> R {
    thread_local!(static RNG: RefCell<SmallRng> = RefCell::new(fresh()));
    RNG.with(|rng| {
        // A pick can be the last to let go of a service, which may call a balancer while it is dropped. And one call of
        // `draw`: with two the pick is no longer inlined, which costs a call a tenth.
        let mut inner = None;
        let mut lent = rng.try_borrow_mut();
        let rng = match &mut lent {
            Ok(rng) => &mut **rng,
            Err(_) => inner.insert(fresh()),
        };
        draw(rng)
    })
}

#[cold]
fn fresh() -> SmallRng {
    SmallRng::seed_from_u64(seed())
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
