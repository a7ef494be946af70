//! Callers that wait for nothing and go away.
//!
//! A stopped process or a black-holed network never reports an error: all that is seen is callers that give up. A wait
//! counts as a failure, an *unanswered* one, if it was long by the fleet's own standard and the member answered nobody
//! meanwhile; so hedged requests, closed browsers and one slow request beside a hundred answered ones judge nobody.
//!
//! Of such failures a run counts only once it is a second old. Callers that wait together give up together, and a pause of
//! a tenth of a second, of the instance or of the callers' machine, is then any number of them: one event, that is over
//! before anybody is ejected for it. Meanwhile load keeps traffic away. Nor does the failure rate count them, as long as they
//! are in its window, or those of a longer run: its member was judged by that, and may have been kept by the cap. That is so
//! for the largest of them, and not for others: an instance that pauses again and again is an outlier.

use super::super::slot::FAILURE_COST;
use super::super::trial::patience;

/// Nanoseconds for which an instance may pause. As long as a trial may be silent.
const PAUSE: u64 = 1_000_000_000;

/// Whether a caller that went away after `waited` nanoseconds, at a time when the fleet's mean latency was `mean`
/// (zero: unknown), counts as a failure. `answered_since`: the member answered anybody since the pick.
pub(in super::super) fn unanswered(
    waited: u64,
    least: u64,
    mean: f32,
    answered_since: bool,
) -> bool {
    // A wait that would fail a trial fails a request, too: where answers take a tenth of what callers wait for, nobody waits
    // twenty times as long.
    let long = (FAILURE_COST * mean).min(patience(mean) as f32);
    !answered_since && waited >= least && waited as f32 >= long
}

/// Whether a run of failures that is `failing_for` nanoseconds old is more than a pause. A stall of our own does not count
/// as its time; the last one ended `since_stall` nanoseconds ago.
pub(super) fn outlasts_a_pause(failing_for: u64, since_stall: u64) -> bool {
    failing_for >= PAUSE && since_stall >= PAUSE
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn only_long_waits_for_nothing_count() {
        let counts = |waited, answered| unanswered(waited * MS, 50 * MS, 5e6, answered);
        assert!(counts(100, false));
        assert!(!counts(100, true), "it answered somebody");
        assert!(!counts(99, false), "not twenty times the mean");
        assert!(!unanswered(49 * MS, 50 * MS, 1e6, false), "too short");
        assert!(unanswered(50 * MS, 50 * MS, 0.0, false), "mean unknown");
        let counts = |waited, mean| unanswered(waited * MS, 50 * MS, mean, false);
        assert!(counts(1000, 100e6) && !counts(999, 100e6), "a second");
        assert!(counts(1600, 200e6) && !counts(1599, 200e6), "eight means");
    }
}
