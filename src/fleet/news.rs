//! When discovery is not believed.
//!
//! Registries restart empty, resolvers answer half, watches are replayed from the middle. An answer that would take away
//! most of a working fleet is therefore doubted for a while: what it adds and changes is used at once, what it lacks is
//! kept until the grace is over. A `confirmed` set is never doubted.

use super::slot::nanos;
use crate::fleet::config::BalanceConfig;
use crate::model::instance::InstanceSet;

/// Fewer instances gone than this are everyday news.
const MANY: usize = 3;

/// An answer that is not believed yet.
pub(super) struct Doubt {
    pub(super) set: InstanceSet,
    since: u64,
    pub(super) until: u64,
}

impl Doubt {
    /// Lets the grace of another configuration count from when the doubt began.
    pub(super) fn reconfigure(&mut self, config: &BalanceConfig) {
        self.until = self.since.saturating_add(nanos(config.shrink_grace()));
    }
}

/// The doubt about an answer, if it is doubted, where `known` instances are known, of which it lacks `gone`. A doubt that
/// is already there keeps its end, however often the answer is repeated.
pub(super) fn judge(
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

/// Whether an answer may be half of one, where `known` instances are known, of which it lacks `gone`.
pub(crate) fn is_doubtful(set: &InstanceSet, known: usize, gone: impl FnOnce() -> usize) -> bool {
    let vanished = set.is_empty() && known > 0;
    !set.is_confirmed() && (vanished || set.len() * 2 < known && gone() >= MANY)
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
