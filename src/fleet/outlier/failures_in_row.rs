//! A run of failures.
//!
//! Never below a floor, so that a few unlucky requests eject nobody, and longer where the others fail so often that
//! [chance](super::chance) explains it. One bad member of a healthy fleet goes after five failures; while half of a
//! thousand requests fails, 21 in a row are needed.

use super::chance::Chance;

/// How many failures in a row make an outlier.
///
/// `floor` is the least, from configuration; a member that gets no traffic and is probed for its failures has a lower one.
pub(super) fn threshold(floor: u32, chance: Chance) -> u32 {
    // About a hundred at most: no fleet is thought to be hopeless.
    floor.max(chance.in_row().ceil() as u32)
}

#[cfg(test)]
mod tests {
    use super::super::super::window::Tally;
    use super::super::chance::rate_at_most;
    use super::*;

    fn needed(floor: u32, outcomes: f32, failures: f32) -> u32 {
        let others = Tally { outcomes, failures };
        threshold(floor, Chance::new(rate_at_most(others), outcomes))
    }

    #[test]
    fn a_healthy_fleet_needs_the_floor() {
        assert_eq!(needed(5, 1000.0, 0.0), 5);
        assert_eq!(needed(1, 1000.0, 0.0), 1);
        assert_eq!(needed(5, 1000.0, 40.0), 5, "0.05^5 < 1/1000 / 1000");
        assert_eq!(needed(5, 1_000_000.0, 10_000.0), 5);
    }

    #[test]
    fn the_more_others_fail_the_longer_a_run_must_be() {
        assert_eq!(needed(5, 1000.0, 100.0), 7);
        assert_eq!(needed(5, 1000.0, 300.0), 12);
        assert_eq!(needed(5, 1000.0, 500.0), 21);
        assert_eq!(needed(5, 1000.0, 1000.0), 48, "as if three of four did");
        assert_eq!(needed(5, f32::MAX, f32::MAX), 333, "whatever was counted");
    }

    #[test]
    fn the_more_was_asked_the_longer_a_run_must_be() {
        assert_eq!(needed(5, 100.0, 20.0), 9);
        assert_eq!(needed(5, 1000.0, 200.0), 9);
        assert_eq!(needed(5, 1_000_000.0, 200_000.0), 13);
    }

    #[test]
    fn too_few_outcomes_say_little_of_the_others() {
        assert_eq!(needed(5, 1.0, 1.0), 5);
        assert_eq!(needed(5, 5.0, 5.0), 21, "as if five of ten did");
        assert_eq!(needed(5, 10.0, 10.0), 32);
        assert_eq!(needed(5, 20.0, 20.0), 35);
    }
}
