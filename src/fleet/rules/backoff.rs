//! How long to wait before an instance is dialled again.
//!
//! The longest wait is the base of [`connect_backoff`](crate::ConfigBuilder::connect_backoff) after the first failure. Each
//! further failure doubles it, up to the maximum. The wait is drawn uniformly between zero and that (full jitter, Brooker
//! 2015). A lost connection is dialled again at once, unless connections to its instance do not last. While nothing is
//! usable, no wait is longer than half a second. The same holds for an instance that a pinned request waits for.

use crate::fleet::config::balance::Backoff;
use crate::fleet::rng::{Rng, unit};
use crate::fleet::time::nanos;

/// The longest wait in nanoseconds while nothing is usable.
const MAX_WHILE_UNUSABLE: u64 = 500_000_000;
/// The longest wait in nanoseconds after a dial that failed for lack of a local resource. Such a shortage begins and ends
/// for all members together.
const MAX_AFTER_LOCAL_FAULT: u64 = 1_000_000_000;

/// Why a dial has to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    /// This many dials in a row led to no lasting connection.
    Attempts(u16),
    /// This process lacked file descriptors, ports or memory.
    LocalFault,
    /// Nothing is usable any more, and the wait in progress is too long for that.
    Urgent,
}

/// Draws a wait in nanoseconds.
pub(crate) fn wait(
    cause: Cause,
    backoff: Backoff,
    is_usable: bool,
    rng: &mut (impl Rng + ?Sized),
) -> u64 {
    let (base, max) = (nanos(backoff.base()), nanos(backoff.max()));
    let longest = match cause {
        Cause::Attempts(0) => 0,
        Cause::Attempts(attempts) => base.saturating_mul(1 << (attempts - 1).min(32)).min(max),
        Cause::LocalFault => max.min(MAX_AFTER_LOCAL_FAULT),
        Cause::Urgent => MAX_WHILE_UNUSABLE,
    };
    let longest = if is_usable {
        longest
    } else {
        longest.min(MAX_WHILE_UNUSABLE)
    };
    (unit(rng) * longest as f64) as u64
}

/// The latest moment at which a wait may end while nothing is usable.
pub(crate) fn latest_while_unusable(now: u64) -> u64 {
    now.saturating_add(MAX_WHILE_UNUSABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};
    use std::time::Duration;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

    fn longest(cause: Cause, is_usable: bool) -> u64 {
        let mut rng = SmallRng::seed_from_u64(1);
        let wait = |_| wait(cause, BACKOFF, is_usable, &mut rng);
        (0..1000).map(wait).max().unwrap_or(0) / 1_000_000
    }

    #[test]
    fn waits_double_and_fill_their_range() {
        assert_eq!(longest(Cause::Attempts(0), true), 0);
        for (attempts, most) in [(1, 100), (2, 200), (6, 3200), (7, 5000), (u16::MAX, 5000)] {
            let longest = longest(Cause::Attempts(attempts), true);
            assert!(
                longest <= most && longest > most * 95 / 100,
                "{longest} of {most}"
            );
        }
    }

    #[test]
    fn waits_are_short_after_a_local_fault_and_while_nothing_is_usable() {
        assert!(longest(Cause::LocalFault, true) <= 1000);
        assert!(longest(Cause::Attempts(9), false) <= 500);
        assert!(longest(Cause::Urgent, false) > 450);
    }
}
