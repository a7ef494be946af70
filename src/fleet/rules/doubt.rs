//! Doubt: a set of instances that is not believed at once.
//!
//! Registries restart empty, resolvers give half an answer, watches are replayed from the middle. A set that would take away most
//! of a working fleet is doubted for [`shrink_grace`](crate::ConfigBuilder::shrink_grace): what it adds and changes is used at
//! once, what it lacks is kept until the grace is over. A `confirmed` set is never doubted.

use crate::fleet::config::balance::BalanceConfig;
use crate::fleet::time::nanos;
use crate::model::instance::InstanceSet;

/// If fewer instances are gone than this, the set is believed.
const MIN_GONE: usize = 3;

/// A set that is not believed yet.
pub(crate) struct Doubt {
    set: InstanceSet,
    since: u64,
    until: u64,
}

impl Doubt {
    /// When the grace is over.
    pub(crate) fn until(&self) -> u64 {
        self.until
    }

    /// The set, which is believed from now on.
    pub(crate) fn into_set(self) -> InstanceSet {
        self.set
    }

    /// Applies the grace of another configuration from when the doubt began.
    pub(crate) fn reconfigure(&mut self, config: &BalanceConfig) {
        self.until = self.since.saturating_add(nanos(config.shrink_grace()));
    }
}

/// The doubt about a set, if there is any. `known`: how many instances are known, of which the set lacks `gone`. An earlier doubt
/// keeps its end, however often the set is repeated.
pub(crate) fn judge(
    set: &InstanceSet,
    known: usize,
    gone: impl FnOnce() -> usize,
    earlier: Option<&Doubt>,
    config: &BalanceConfig,
    now: u64,
) -> Option<Doubt> {
    let grace = nanos(config.shrink_grace());
    if grace == 0 || !is_doubtful(set, known, gone) {
        return None;
    }
    let since = earlier.map_or(now, |doubt| doubt.since);
    Some(Doubt {
        set: set.clone(),
        since,
        until: since.saturating_add(grace),
    })
}

/// Whether a set may be half an answer.
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
            .map(|n| Instance::new(format!("i{n}"), ([127, 0, 0, 1], 80).into()))
            .collect()
    }

    fn doubted(set: &InstanceSet, known: usize) -> bool {
        let gone = known.saturating_sub(set.len());
        let news = judge(set, known, || gone, None, &BalanceConfig::default(), 0);
        news.is_some()
    }

    #[test]
    fn an_empty_answer_is_doubted_once_somebody_is_known() {
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
    fn a_confirmed_answer_is_believed() {
        assert!(!doubted(&set(0).confirmed(), 10));
    }

    #[test]
    fn no_grace_is_no_doubt() {
        let config = BalanceConfig::builder()
            .shrink_grace(std::time::Duration::ZERO)
            .build()
            .unwrap();
        let news = judge(&set(0), 10, || 10, None, &config, 0);
        assert!(news.is_none());
    }

    #[test]
    fn a_repeated_doubtful_answer_does_not_extend_the_doubt() {
        let config = BalanceConfig::default();
        let Some(first) = judge(&set(0), 10, || 10, None, &config, 5) else {
            panic!("not doubted");
        };
        let Some(second) = judge(&set(1), 10, || 9, Some(&first), &config, 500) else {
            panic!("not doubted");
        };
        assert_eq!(second.until, first.until);
        assert_eq!(
            second.set.len(),
            1,
            "the newest answer is what will be believed"
        );
    }
}
