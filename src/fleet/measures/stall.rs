//! Detects stalls: times during which this process itself stood still.
//!
//! While there is traffic a timer ticks ten times a second. A tick that is late by more than [`LATE`] shows that the process
//! was suspended or its runtime blocked. Requests in flight at that time waited for this process as much as for their
//! instance, so their outcomes are ignored. An outcome that arrives before the late tick sees that the tick is overdue.
//! Without traffic the timer rests, and the next pick starts it again.
//!
//! Failure mode: a driver that is late for other reasons, such as a blocked runtime thread, suspends all judgement as well.
//! `Status::stalls` counts that.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    fence,
};

use crate::fleet::branch::Branch;

/// Nanoseconds from tick to tick.
const TICK: u64 = 100_000_000;
/// Nanoseconds by which a tick may be late on a busy machine.
const LATE: u64 = 250_000_000;
/// The value of `next` while the timer rests.
const RESTING: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct StallDetector {
    /// When the next tick is due.
    next: AtomicU64,
    /// When the last stall ended.
    stalled_until: AtomicU64,
    /// How many stalls there were.
    stalls: AtomicU64,
}

impl StallDetector {
    pub(crate) fn new() -> Self {
        Self {
            next: AtomicU64::new(RESTING),
            stalled_until: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
        }
    }

    /// When the next tick is due.
    pub(crate) fn next(&self) -> Option<u64> {
        Some(self.next.load(Relaxed)).filter(|&next| next != RESTING)
    }

    /// Starts the timer. Returns whether it rested.
    pub(crate) fn wake(&self, now: u64) -> bool {
        self.next.load(SeqCst) == RESTING && self.tick_by(RESTING, now)
    }

    #[cold]
    fn tick_by(&self, last: u64, now: u64) -> bool {
        let next = now.saturating_add(TICK).min(RESTING - 1);
        self.next
            .compare_exchange(last, next, Relaxed, Relaxed)
            .is_ok()
    }

    /// Ticks if a tick is due, and rests afterwards unless there is `traffic`. Returns the length in nanoseconds of the stall
    /// that a late tick ends.
    pub(crate) fn tick(&self, now: u64, mut traffic: impl FnMut() -> bool) -> Option<u64> {
        let due = self.next.load(Relaxed);
        if now < due || due == RESTING {
            return None;
        }
        let late = now - due;
        let stall = (late > LATE).then_some(late);
        if stall.is_some() {
            Branch::Stalled.reach();
            self.stalled_until.fetch_max(now, Relaxed);
            self.stalls.fetch_add(1, Relaxed);
        }
        if traffic() {
            self.tick_by(due, now);
            return stall;
        }
        self.next.store(RESTING, SeqCst);
        // Pairs with the read-modify-write by which a pick takes its slot before it checks whether the timer rests. Formally
        // a fence is needed there too; on all processors that Rust supports, that operation acts as one.
        fence(SeqCst);
        // A pick made in between may have found the timer running.
        if traffic() {
            self.tick_by(RESTING, now);
        }
        stall
    }

    /// How often the process has stalled so far.
    pub(crate) fn stalls(&self) -> u64 {
        self.stalls.load(Relaxed)
    }

    /// Stops the timer until the next pick: there is no driver to tick it.
    pub(crate) fn rest(&self) {
        self.next.store(RESTING, SeqCst);
    }

    /// Prepares for a new driver. Its clock may be behind that of the last one, if that one was paused and advanced.
    pub(crate) fn restart(&self, now: u64) {
        self.stalled_until.fetch_min(now, Relaxed);
    }

    /// Nanoseconds since the last stall; `u64::MAX` if there was none.
    pub(crate) fn since_stall(&self, now: u64) -> u64 {
        match self.stalled_until.load(Relaxed) {
            0 => u64::MAX,
            stalled_until => now.saturating_sub(stalled_until),
        }
    }

    /// Whether the process stood still at any moment from `since` to `now`.
    pub(crate) fn spans_stall(&self, since: u64, now: u64) -> bool {
        since < self.stalled_until.load(Relaxed)
            || now > self.next.load(Relaxed).saturating_add(LATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn ticks_on_time_are_no_stall() {
        let stalls = StallDetector::new();
        assert!(stalls.wake(0) && !stalls.wake(0));
        for tick in 1..10 {
            let due = stalls.next().unwrap();
            assert_eq!(due, tick * 100 * MS);
            stalls.tick(due, || true);
        }
        assert!(!stalls.spans_stall(0, 1000 * MS));
    }

    #[test]
    fn a_late_tick_is_a_stall_before_and_after_it_comes() {
        let stalls = StallDetector::new();
        stalls.wake(0);
        assert!(!stalls.spans_stall(0, 350 * MS));
        assert!(stalls.spans_stall(0, 351 * MS), "overdue");
        stalls.tick(2000 * MS, || true);
        assert!(
            stalls.spans_stall(1999 * MS, 2050 * MS),
            "began before the stall ended"
        );
        assert!(!stalls.spans_stall(2000 * MS, 2050 * MS));
    }

    #[test]
    fn without_traffic_it_rests_and_a_pick_wakes_it() {
        let stalls = StallDetector::new();
        stalls.wake(0);
        stalls.tick(100 * MS, || false);
        assert_eq!(stalls.next(), None);
        assert!(
            !stalls.spans_stall(0, u64::MAX - 1),
            "no tick was due, so none is late"
        );
        assert!(stalls.wake(60_000 * MS));
        assert_eq!(stalls.next(), Some(60_100 * MS));
    }

    #[test]
    fn it_does_not_rest_if_a_pick_comes_meanwhile() {
        let stalls = StallDetector::new();
        stalls.wake(0);
        let looks = std::cell::Cell::new(0);
        stalls.tick(100 * MS, || looks.replace(looks.get() + 1) > 0);
        assert_eq!(stalls.next(), Some(200 * MS));
    }

    #[test]
    fn the_time_without_a_driver_is_no_stall() {
        let stalls = StallDetector::new();
        stalls.wake(0);
        stalls.rest();
        assert_eq!(stalls.next(), None);
        assert!(!stalls.spans_stall(0, 60_000 * MS));
        assert!(stalls.wake(60_000 * MS), "the next pick wakes it");
    }

    #[test]
    fn a_new_driver_forgets_a_stall_on_a_clock_that_was_ahead() {
        let stalls = StallDetector::new();
        stalls.wake(0);
        stalls.tick(3_600_000 * MS, || false);
        stalls.rest();
        stalls.restart(10 * MS);
        assert!(!stalls.spans_stall(10 * MS, 20 * MS));
    }

    #[test]
    fn a_clock_may_go_back_or_reach_its_maximum() {
        let stalls = StallDetector::new();
        stalls.wake(500 * MS);
        stalls.tick(0, || true);
        assert!(!stalls.spans_stall(500 * MS, 0));
        stalls.tick(u64::MAX, || true);
        assert!(stalls.next().is_some());
    }
}
