//! Whether the process itself stood still.
//!
//! While there is traffic a timer beats ten times a second. If it comes late by more than [`LATE`], the process was
//! suspended or its runtime blocked, and what was in flight meanwhile waited for us as much as for the instance: it judges
//! nobody. A verdict that comes before the late beat sees for itself that the beat is overdue. Without traffic the pulse
//! rests, and the next pick wakes it.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    fence,
};

use super::reached::Branch;

/// Nanoseconds from beat to beat.
const BEAT: u64 = 100_000_000;
/// Nanoseconds by which a beat may be late on a busy machine.
const LATE: u64 = 250_000_000;
/// The next beat of a pulse that rests.
const RESTING: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Pulse {
    next: AtomicU64,
    /// When the last stall ended.
    stalled_until: AtomicU64,
    /// How many there were.
    stalls: AtomicU64,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self {
            next: AtomicU64::new(RESTING),
            stalled_until: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
        }
    }

    /// When the next beat is due.
    pub(super) fn next(&self) -> Option<u64> {
        Some(self.next.load(Relaxed)).filter(|&next| next != RESTING)
    }

    /// Lets it beat from now on. Returns whether it rested.
    pub(super) fn wake(&self, now: u64) -> bool {
        self.next.load(SeqCst) == RESTING && self.beat_by(RESTING, now)
    }

    #[cold]
    fn beat_by(&self, last: u64, now: u64) -> bool {
        let next = now.saturating_add(BEAT).min(RESTING - 1);
        self.next
            .compare_exchange(last, next, Relaxed, Relaxed)
            .is_ok()
    }

    /// Beats, if it is time to. It rests from then on unless there is traffic. Returns the length of the stall that it ends,
    /// in nanoseconds, if it is late.
    pub(super) fn beat(&self, now: u64, mut traffic: impl FnMut() -> bool) -> Option<u64> {
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
            self.beat_by(due, now);
            return stall;
        }
        self.next.store(RESTING, SeqCst);
        // Pairs with the atomic operation by which a pick takes its slot before it looks whether the pulse rests. The formal
        // model wants a fence there, too; on the processors that Rust runs on, that operation is one.
        fence(SeqCst);
        // A pick that came meanwhile may have found it beating still.
        if traffic() {
            self.beat_by(RESTING, now);
        }
        stall
    }

    /// How often the process stalled so far.
    pub(super) fn stalls(&self) -> u64 {
        self.stalls.load(Relaxed)
    }

    /// Rests until the next pick: no driver beats it any more.
    pub(super) fn rest(&self) {
        self.next.store(RESTING, SeqCst);
    }

    /// Another driver runs. Its clock may be behind that of the last one, if that one was paused and advanced.
    pub(super) fn restart(&self, now: u64) {
        self.stalled_until.fetch_min(now, Relaxed);
    }

    /// For how many nanoseconds the process has not stood still.
    pub(super) fn since_stall(&self, now: u64) -> u64 {
        match self.stalled_until.load(Relaxed) {
            0 => u64::MAX,
            stalled_until => now.saturating_sub(stalled_until),
        }
    }

    /// Whether the process stood still at any moment from `since` to `now`.
    pub(super) fn spans_stall(&self, since: u64, now: u64) -> bool {
        since < self.stalled_until.load(Relaxed)
            || now > self.next.load(Relaxed).saturating_add(LATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_beat_on_time_excuses_nobody() {
        let pulse = Pulse::new();
        assert!(pulse.wake(0) && !pulse.wake(0));
        for beat in 1..10 {
            let due = pulse.next().unwrap();
            assert_eq!(due, beat * 100 * MS);
            pulse.beat(due, || true);
        }
        assert!(!pulse.spans_stall(0, 1000 * MS));
    }

    #[test]
    fn what_spans_a_late_beat_is_excused_before_and_after_it() {
        let pulse = Pulse::new();
        pulse.wake(0);
        assert!(!pulse.spans_stall(0, 350 * MS));
        assert!(pulse.spans_stall(0, 351 * MS), "overdue");
        pulse.beat(2000 * MS, || true);
        assert!(
            pulse.spans_stall(1999 * MS, 2050 * MS),
            "begun before it ended"
        );
        assert!(!pulse.spans_stall(2000 * MS, 2050 * MS));
    }

    #[test]
    fn without_traffic_it_rests_and_a_pick_wakes_it() {
        let pulse = Pulse::new();
        pulse.wake(0);
        pulse.beat(100 * MS, || false);
        assert_eq!(pulse.next(), None);
        assert!(
            !pulse.spans_stall(0, u64::MAX - 1),
            "nobody looked, nobody was late"
        );
        assert!(pulse.wake(60_000 * MS));
        assert_eq!(pulse.next(), Some(60_100 * MS));
    }

    #[test]
    fn it_does_not_rest_under_a_pick_that_comes_as_it_is_about_to() {
        let pulse = Pulse::new();
        pulse.wake(0);
        let looks = std::cell::Cell::new(0);
        pulse.beat(100 * MS, || looks.replace(looks.get() + 1) > 0);
        assert_eq!(pulse.next(), Some(200 * MS));
    }

    #[test]
    fn the_time_without_a_driver_is_no_stall() {
        let pulse = Pulse::new();
        pulse.wake(0);
        pulse.rest();
        assert_eq!(pulse.next(), None);
        assert!(!pulse.spans_stall(0, 60_000 * MS));
        assert!(pulse.wake(60_000 * MS), "the next pick wakes it");
    }

    #[test]
    fn a_stall_by_a_clock_that_was_ahead_excuses_nobody_later() {
        let pulse = Pulse::new();
        pulse.wake(0);
        pulse.beat(3_600_000 * MS, || false);
        pulse.rest();
        pulse.restart(10 * MS);
        assert!(!pulse.spans_stall(10 * MS, 20 * MS));
    }

    #[test]
    fn time_that_goes_back_or_ends_is_harmless() {
        let pulse = Pulse::new();
        pulse.wake(500 * MS);
        pulse.beat(0, || true);
        assert!(!pulse.spans_stall(500 * MS, 0));
        pulse.beat(u64::MAX, || true);
        assert!(pulse.next().is_some());
    }
}
