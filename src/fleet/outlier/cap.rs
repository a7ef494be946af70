//! How many members may be ejected at once.
//!
//! `min(max(1, floor(n * percentage)), n - 1)` of `n` eligible members, ejected ones included. With the default of 50 %:
//!
//! | n | 1 | 2 | 3 | 4 | 5 | 10 |
//! |---|---|---|---|---|---|---|
//! | may be ejected | 0 | 1 | 1 | 2 | 2 | 5 |
//!
//! The last member is never ejected: one that fails half its requests is better than none. And where more than half of a
//! fleet fails, the fault is seldom theirs, and those that are left would get twice their load.
//!
//! One that loses its connection while it is out is not eligible, and others may take its place. If they have when it is
//! connected again, more are out than that; so it is on probation at once, and is out for longer only if its trial fails.

/// The most of `eligible` members that may be ejected at once.
pub(in super::super) fn cap(eligible: usize, percentage: u32) -> usize {
    let share = eligible.saturating_mul(percentage as usize) / 100;
    share.max(1).min(eligible.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_of_small_fleets() {
        let caps = [0, 1, 2, 3, 4, 5, 10, 1000].map(|eligible| cap(eligible, 50));
        assert_eq!(caps, [0, 0, 1, 1, 2, 2, 5, 500]);
    }

    #[test]
    fn one_of_two_may_always_go_and_the_last_never() {
        assert_eq!([2, 3, 10].map(|eligible| cap(eligible, 1)), [1, 1, 1]);
        assert_eq!([1, 2, 10].map(|eligible| cap(eligible, 100)), [0, 1, 9]);
    }
}
