//! Callers that give up without an answer.
//!
//! A stopped process or a black-holed network never reports an error: all that shows is callers that give up. Such a wait
//! counts as a failure, an *unanswered* one, if it was long by the fleet's own standard and the member answered no other request
//! meanwhile. So hedged requests, closed browsers and one slow request beside a hundred answered ones are no evidence.
//!
//! A run that ends with an unanswered failure counts only once it is a second old. Callers that wait together give up together,
//! so a pause of a tenth of a second, of the instance or of the callers' machine, is any number of failures: one event, over
//! before anybody is ejected for it. Load keeps traffic away meanwhile. For the same reason the failure rate does not count the
//! largest such run in its window. It counts the others: an instance that pauses again and again is an outlier. Nor does it count
//! a run that was long enough to be judged by itself; the cap may have kept its member.

use super::trial::patience;
use crate::fleet::measures::failures::Run;
use crate::fleet::measures::latency::FAILURE_COST;

/// Nanoseconds for which an instance may pause: as long as a trial may be silent.
const PAUSE: u64 = 1_000_000_000;

/// Whether a caller that went away after `waited` nanoseconds, at a time when the fleet's mean latency was `mean`
/// (zero: unknown), counts as a failure. `answered_since`: the member answered anybody since the pick.
pub(crate) fn unanswered(waited: u64, least: u64, mean: f32, answered_since: bool) -> bool {
    // A wait that would fail a trial fails a request as well: where callers wait ten times as long as an answer takes, none of
    // them waits twenty times as long.
    let long = (FAILURE_COST * mean).min(patience(mean) as f32);
    !answered_since && waited >= least && waited as f32 >= long
}

/// Whether a run of failures that is `failing_for` nanoseconds old is more than a pause. A stall of this process, which ended
/// `since_stall` nanoseconds ago, does not count as its time.
pub(crate) fn outlasts_a_pause(failing_for: u64, since_stall: u64) -> bool {
    failing_for >= PAUSE && since_stall >= PAUSE
}

/// Whether a run that ends with an unanswered failure is one event for the failure rate: a pause, or long enough to be judged by
/// itself. `floor`: the configured failures in a row.
pub(crate) fn is_one_event(run: Run, floor: Option<u32>, since_stall: u64, now: u64) -> bool {
    !outlasts_a_pause(run.age(now), since_stall) || floor.is_some_and(|floor| run.failures >= floor)
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
