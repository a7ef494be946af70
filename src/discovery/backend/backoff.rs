//! Pauses between attempts that fail.

use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::time;

use crate::runtime::clock;
use crate::runtime::random::with_rng;

/// Pauses that double from `first` to `most`, each drawn from its upper half.
///
/// Both are 1 ms to 1 h, and the nearer bound outside. Default: 200 ms to 10 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
}

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(3600);

impl Backoff {
    /// Pauses from `first` to `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        let first = first.clamp(SHORTEST, LONGEST);
        let most = most.clamp(first, LONGEST);
        Self { first, most }
    }

    /// The pauses of one run of attempts.
    pub(in crate::discovery) fn pauses(self) -> Pauses {
        Pauses {
            backoff: self,
            next: self.first,
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(10))
    }
}

/// Where one run of attempts is.
#[derive(Debug)]
pub(in crate::discovery) struct Pauses {
    backoff: Backoff,
    next: Duration,
}

impl Pauses {
    /// Waits before the next attempt.
    pub(in crate::discovery) async fn pause(&mut self) {
        let pause = self.draw();
        time::sleep(pause).await;
    }

    pub(super) fn draw(&mut self) -> Duration {
        let longest = self.next;
        self.next = longest.saturating_mul(2).min(self.backoff.most);
        jittered(longest)
    }

    /// The source works. The next pause is the first one, if it has worked for as long as the longest pause: one that answers
    /// and fails again at once is asked ever less often.
    pub(super) fn steady(&mut self, since: Instant) {
        if clock::now().saturating_duration_since(since) >= self.backoff.most {
            self.reset();
        }
    }

    /// An attempt succeeded: the next pause is the first one.
    pub(in crate::discovery) fn reset(&mut self) {
        self.next = self.backoff.first;
    }
}

/// Between half of it and all of it, so that many clients do not ask at the same moment.
pub(super) fn jittered(longest: Duration) -> Duration {
    let half = longest / 2;
    half + half.mul_f64(with_rng(|rng| rng.random_range(0.0..=1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_their_bounds_and_begin_again_after_a_success() {
        let mut pauses = Backoff::new(Duration::from_secs(1), Duration::from_secs(5)).pauses();
        for longest in [1, 2, 4, 5, 5].map(Duration::from_secs) {
            let pause = pauses.draw();
            assert!(
                pause >= longest / 2 && pause <= longest,
                "{pause:?} of {longest:?}"
            );
        }
        pauses.reset();
        assert!(pauses.draw() <= Duration::from_secs(1));
        let wild = Backoff::new(Duration::MAX, Duration::ZERO);
        assert_eq!(wild, Backoff::new(LONGEST, LONGEST));
        assert_eq!(Backoff::new(Duration::ZERO, Duration::ZERO).first, SHORTEST);
    }
}
