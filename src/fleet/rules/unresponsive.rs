//! Unresponsive members: callers give up without an answer.
//!
//! A stopped process or a black-holed network never reports an error. The only sign is callers that give up. Such a wait
//! counts as an *unanswered* failure if it was long compared with the fleet's mean latency, and the member answered nothing
//! else meanwhile. So hedged requests, closed browsers and one slow request beside a hundred answered ones are no evidence.
//!
//! A run that ends with an unanswered failure counts only once it is a second old. Callers that wait together give up
//! together, so a pause of 0.1 s, of the instance or of their machine, may cause any number of failures. That is a single
//! event, and over before a member is ejected for it. Load keeps traffic away meanwhile.
//!
//! For the same reason the failure rate leaves out the largest such run in its window. It counts the others: an instance
//! that pauses again and again is an outlier. A run that was long enough to be judged by itself is such an event too; the
//! cap may have kept its member in play.

use super::trial::patience;
use crate::fleet::measures::failures::Run;
use crate::fleet::measures::latency::FAILURE_COST;

/// The longest time in nanoseconds that counts as a pause: as long as a trial may go unanswered.
const PAUSE: u64 = 1_000_000_000;

/// Whether a caller that gave up counts as a failure. `waited` and `least`, the configured minimum, are in nanoseconds.
/// `mean`: the fleet's mean latency; zero if unknown. `answered_since`: whether the member answered any request since the
/// pick.
pub(crate) fn unanswered(waited: u64, least: u64, mean: f32, answered_since: bool) -> bool {
    // A wait that would fail a trial fails a request as well. Otherwise callers that wait for ten mean latencies would never
    // give evidence, because they never wait for twenty.
    let long = (FAILURE_COST * mean).min(patience(mean) as f32);
    !answered_since && waited >= least && waited as f32 >= long
}

/// Whether a run of failures is more than a pause. `failing_for`: its age in nanoseconds. `since_stall`: nanoseconds since
/// the last stall of this process; time before its end does not count.
pub(crate) fn outlasts_a_pause(failing_for: u64, since_stall: u64) -> bool {
    failing_for >= PAUSE && since_stall >= PAUSE
}

/// Whether a run that ends with an unanswered failure is a single event for the failure rate: a pause, or a run long enough
/// to be judged by itself. `floor`: the configured failures in a row.
pub(crate) fn is_one_event(run: Run, floor: Option<u32>, since_stall: u64, now: u64) -> bool {
    !outlasts_a_pause(run.age(now), since_stall) || floor.is_some_and(|floor| run.failures >= floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn only_long_unanswered_waits_count() {
        let counts = |waited, answered| unanswered(waited * MS, 50 * MS, 5e6, answered);
        assert!(counts(100, false));
        assert!(!counts(100, true), "it answered another request");
        assert!(!counts(99, false), "not twenty times the mean");
        assert!(!unanswered(49 * MS, 50 * MS, 1e6, false), "too short");
        assert!(unanswered(50 * MS, 50 * MS, 0.0, false), "mean unknown");
        let counts = |waited, mean| unanswered(waited * MS, 50 * MS, mean, false);
        assert!(counts(1000, 100e6) && !counts(999, 100e6), "a second");
        assert!(counts(1600, 200e6) && !counts(1599, 200e6), "eight means");
    }
}
