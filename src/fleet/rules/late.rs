//! Late members: idle because their last answers were late, and not slow.
//!
//! Two late answers, of a pause that all instances share or by bad luck, lift a member out of the band of ordinary latencies.
//! An idle member that seems dearer never wins a draw, and its evidence fades by time alone: it would get no request for 12 to
//! 24 s. A member that is listed and idle, has answered no request for a second, and whose long mean is ordinary, was late: its
//! latency starts anew.
//!
//! Failure mode: a member that has just become slow gets a few more requests each second, until about ten answers in a row have
//! made its long mean that of a slow one.

/// Nanoseconds without an answer after which a member counts as idle.
const IDLE: u64 = 1_000_000_000;

/// Whether an idle member was late and is not slow. `high`: the upper end of ordinary latencies.
pub(crate) fn is_late(idle_for: u64, latency: f32, typical: f32, high: f32) -> bool {
    idle_for >= IDLE && latency >= high && typical < high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_idle_member_with_an_ordinary_long_mean_is_late() {
        assert!(is_late(IDLE, 20e6, 5e6, 10e6));
        assert!(!is_late(IDLE - 1, 20e6, 5e6, 10e6), "not idle for long");
        assert!(!is_late(IDLE, 9e6, 5e6, 10e6), "ordinary");
        assert!(!is_late(IDLE, 20e6, 15e6, 10e6), "slow");
    }
}
