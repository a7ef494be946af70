//! When a set of instances is doubted, and for how long.
//!
//! Registries restart empty, resolvers return half an answer, watches are replayed from the middle. So a set that would
//! remove most of a working fleet is doubted for [`shrink_grace`](crate::ConfigBuilder::shrink_grace). What it adds and
//! changes applies at once; instances that it lacks stay until the grace period is over. A `confirmed` set is never doubted.
//!
//! A set that follows a provisional one, such as a cached set, is never doubted.

use crate::fleet::config::balance::BalanceConfig;
use crate::fleet::time::nanos;
use crate::model::instance::InstanceSet;

/// A set that is not empty is doubted only if at least this many known instances are missing from it.
const MIN_GONE: usize = 3;

/// A doubted set.
pub(crate) struct Doubt {
    set: InstanceSet,
    announced: usize,
    since: u64,
    until: u64,
}

impl Doubt {
    /// When the grace period ends.
    pub(crate) fn until(&self) -> u64 {
        self.until
    }

    /// The doubted set.
    pub(crate) fn set(&self) -> &InstanceSet {
        &self.set
    }

    /// How many instances the set has, those outside the subset included.
    pub(crate) fn announced(&self) -> usize {
        self.announced
    }

    /// When the doubt began.
    pub(crate) fn since(&self) -> u64 {
        self.since
    }

    /// Ends the doubt and returns the set.
    pub(crate) fn into_set(self) -> InstanceSet {
        self.set
    }

    /// Applies the grace period of another configuration, counted from the beginning of the doubt.
    pub(crate) fn reconfigure(&mut self, config: &BalanceConfig) {
        self.until = self.since.saturating_add(nanos(config.shrink_grace()));
    }
}

/// The doubt about a set, if there is any. `whole`: the set with the instances outside the subset. `known`: how many instances are known; `gone`: how many of them the set lacks.
/// Another doubtful set does not extend an `earlier` doubt.
pub(crate) fn judge(
    set: &InstanceSet,
    whole: &InstanceSet,
    known: usize,
    gone: impl FnOnce() -> usize,
    earlier: Option<&Doubt>,
    config: &BalanceConfig,
    now: u64,
) -> Option<Doubt> {
    let grace = nanos(config.shrink_grace());
    if grace == 0 || !is_doubtful(whole, known, gone) {
        return None;
    }
    let since = earlier.map_or(now, |doubt| doubt.since);
    Some(Doubt {
        set: set.clone(),
        announced: whole.len(),
        since,
        until: since.saturating_add(grace),
    })
}

/// Whether a set may be incomplete.
pub(crate) fn is_doubtful(set: &InstanceSet, known: usize, gone: impl FnOnce() -> usize) -> bool {
    let vanished = set.is_empty() && known > 0;
    !set.is_confirmed() && (vanished || set.len() * 2 < known && gone() >= MIN_GONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::instance::Instance;

    fn set(size: usize) -> InstanceSet {
        (0..size)
            .map(|n| Instance::new(format!("i{n}"), ([127, 0, 0, 1], 80)))
            .collect()
    }

    fn doubted(set: &InstanceSet, known: usize) -> bool {
        let gone = known.saturating_sub(set.len());
        let doubt = judge(set, set, known, || gone, None, &BalanceConfig::default(), 0);
        doubt.is_some()
    }

    #[test]
    fn an_empty_set_is_doubted_once_an_instance_is_known() {
        assert!(!doubted(&set(0), 0));
        assert!(doubted(&set(0), 1));
    }

    #[test]
    fn less_than_half_with_three_gone_is_doubted() {
        assert!(!doubted(&set(1), 3), "only two are gone");
        assert!(doubted(&set(1), 4));
        assert!(!doubted(&set(2), 4), "exactly half");
        assert!(doubted(&set(100), 1000));
        assert!(!doubted(&set(500), 1000));
    }

    #[test]
    fn a_confirmed_set_is_believed() {
        assert!(!doubted(&set(0).confirmed(), 10));
    }

    #[test]
    fn without_a_grace_period_no_set_is_doubted() {
        let config = BalanceConfig::builder()
            .shrink_grace(std::time::Duration::ZERO)
            .build()
            .unwrap();
        let doubt = judge(&set(0), &set(0), 10, || 10, None, &config, 0);
        assert!(doubt.is_none());
    }

    #[test]
    fn another_doubtful_set_does_not_extend_the_doubt() {
        let config = BalanceConfig::default();
        let Some(first) = judge(&set(0), &set(0), 10, || 10, None, &config, 5) else {
            panic!("not doubted");
        };
        let Some(second) = judge(&set(1), &set(1), 10, || 9, Some(&first), &config, 500) else {
            panic!("not doubted");
        };
        assert_eq!(second.until, first.until);
        assert_eq!(second.set.len(), 1, "the newest set is the one to apply");
    }
}
