//! The time that a watcher was awake.

use std::time::{Duration, Instant};

/// Adds up the time between readings of a clock that nobody sets. A pause longer than a healthy watcher ever makes counts
/// as the longest: whoever was suspended or blocked for the rest must not let others expire for it, who may have been
/// stopped by the same.
pub(super) struct Awake {
    clock: Box<dyn FnMut() -> Instant + Send>,
    read: Instant,
    sum: Duration,
    longest_pause: Duration,
}

impl Awake {
    pub(super) fn new(mut clock: impl FnMut() -> Instant + Send + 'static) -> Self {
        Self {
            read: clock(),
            clock: Box::new(clock),
            sum: Duration::ZERO,
            longest_pause: Duration::ZERO,
        }
    }

    pub(super) fn set_longest_pause(&mut self, pause: Duration) {
        self.longest_pause = pause;
    }

    /// The sum up to now.
    pub(super) fn now(&mut self) -> Duration {
        let passed = self.pass().min(self.longest_pause);
        self.sum = self.sum.saturating_add(passed);
        self.sum
    }

    /// The sum at the last reading.
    pub(super) fn last(&self) -> Duration {
        self.sum
    }

    /// Lets the time since the last reading go by uncounted. Returns how much that was.
    pub(super) fn pass(&mut self) -> Duration {
        let now = (self.clock)();
        let passed = now.saturating_duration_since(self.read);
        self.read = now;
        passed
    }
}
