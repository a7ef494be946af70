//! Faults in discovery's answers. The log has a line when one begins and when it ends, and counts in between.

use std::collections::BTreeMap;

use crate::model::instance::InstanceId;

/// A fault of one announced instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flaw {
    Refused(InstanceId),
    Duplicate(InstanceId),
}

/// Flaws of the newest set, and the failure of discovery.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// At most as many as a set reports.
    flaws: BTreeMap<Flaw, Flawed>,
    /// The last error of discovery, until it gives a set.
    failure: Option<String>,
}

#[derive(Debug)]
struct Flawed {
    sets: u64,
    is_in_newest: bool,
}

impl Faults {
    /// Records a flaw of the newest set. Returns whether the set before lacked it.
    pub(super) fn begins(&mut self, flaw: Flaw) -> bool {
        let mut is_new = false;
        let flawed = self.flaws.entry(flaw).or_insert_with(|| {
            is_new = true;
            Flawed {
                sets: 0,
                is_in_newest: false,
            }
        });
        flawed.sets += 1;
        flawed.is_in_newest = true;
        is_new
    }

    /// Ends a set after all its flaws were recorded. Returns those that it no longer has, each with the number of sets
    /// that had it.
    pub(super) fn end_set(&mut self) -> Vec<(Flaw, u64)> {
        let mut over = Vec::new();
        self.flaws.retain(|flaw, flawed| {
            let stays = std::mem::take(&mut flawed.is_in_newest);
            if !stays {
                over.push((flaw.clone(), flawed.sets));
            }
            stays
        });
        over
    }

    /// Records an error of discovery. Returns whether it differs from the one before.
    pub(super) fn fails(&mut self, text: &str) -> bool {
        let is_new = self.failure.as_deref() != Some(text);
        if is_new {
            self.failure = Some(text.to_owned());
        }
        is_new
    }

    /// Discovery gave a set.
    pub(super) fn recover(&mut self) {
        self.failure = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flaw_begins_once_and_ends_with_the_first_set_without_it() {
        let mut faults = Faults::default();
        let flaw = |id: &str| Flaw::Refused(id.into());
        assert!(faults.begins(flaw("a")) && faults.begins(flaw("b")));
        assert!(faults.end_set().is_empty());
        assert!(!faults.begins(flaw("a")));
        assert_eq!(faults.end_set(), [(flaw("b"), 1)]);
        assert_eq!(faults.end_set(), [(flaw("a"), 2)]);
        assert!(faults.begins(flaw("a")), "it begins again");
    }

    #[test]
    fn the_same_error_again_is_no_news() {
        let mut faults = Faults::default();
        assert!(faults.fails("a") && !faults.fails("a"));
        assert!(faults.fails("b"));
        faults.recover();
        assert!(faults.fails("b"));
    }
}
