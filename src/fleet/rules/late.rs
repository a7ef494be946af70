//! Late members: they are idle because their last answers were late, but they are not slow.
//!
//! Two late answers, caused by a pause that all instances share or by bad luck, lift a member out of the band of ordinary
//! latencies. If it is idle, it then never wins a draw, because it seems more expensive than the others. Its evidence decays
//! with time only, so it would get no request for 12 to 24 s. So the rule resets the latency of a listed, idle member that
//! has answered no request for a second, if its typical latency is ordinary.
//!
//! Failure mode: a member that has just become slow gets a few more requests each second. That ends after about ten slow
//! answers, which move its typical latency out of the band.

/// Nanoseconds without an answer after which a member counts as idle.
const IDLE: u64 = 1_000_000_000;

/// Whether an idle member was late but is not slow. `high`: the upper end of ordinary latencies.
pub(crate) fn is_late(idle_for: u64, latency: f32, typical: f32, high: f32) -> bool {
    idle_for >= IDLE && latency >= high && typical < high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_idle_member_with_an_ordinary_typical_latency_is_late() {
        assert!(is_late(IDLE, 20e6, 5e6, 10e6));
        assert!(!is_late(IDLE - 1, 20e6, 5e6, 10e6), "not idle for long");
        assert!(!is_late(IDLE, 9e6, 5e6, 10e6), "ordinary");
        assert!(!is_late(IDLE, 20e6, 15e6, 10e6), "slow");
    }
}
