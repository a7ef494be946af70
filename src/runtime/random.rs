//! The only place that draws from global randomness.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

use rand::SeedableRng;
use rand::rngs::SmallRng;

/// Lends the thread's own generator.
pub(crate) fn with_rng<R>(draw: impl FnOnce(&mut SmallRng) -> R) -> R {
    thread_local!(static RNG: RefCell<SmallRng> = RefCell::new(fresh()));
    RNG.with(|rng| {
        // `draw` may enter this function again: a pick can drop the last reference to a service, whose destructor may
        // call a balancer. In that case the generator is borrowed, and a fresh one is used. `draw` has a single call
        // site: with two, the pick is no longer inlined, and each request takes a tenth longer.
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

/// Returns a seed that differs between processes and threads: the random keys of a fresh hasher. Not cryptographic.
pub(crate) fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

/// A number that nobody can guess; `None` if the system has no randomness to give.
#[cfg(feature = "console")]
pub(crate) fn unguessable() -> Option<u64> {
    use rand::TryRng as _;
    rand::rngs::SysRng.try_next_u64().ok()
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn with_rng_is_reentrant() {
        let (outer, inner) = with_rng(|rng| (rng.next_u64(), with_rng(|rng| rng.next_u64())));
        assert_ne!(outer, inner);
    }
}
