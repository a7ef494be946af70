//! The whole membership of one target at one moment.

use std::cmp::Ordering;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use super::{Instance, InstanceId};

/// Every instance of one target at one moment, sorted by id; cheap to clone.
///
/// Collected from instances in any order. If an id occurs more than once, the last one stays and the id is listed
/// in [`duplicates`](Self::duplicates).
///
/// # Examples
///
/// ```
/// use rolecall::{Instance, InstanceSet};
///
/// let set: InstanceSet = [8002, 8001]
///     .map(|port| Instance::new(format!("worker-{port}"), ([127, 0, 0, 1], port)))
///     .into_iter()
///     .collect();
/// assert_eq!(set.len(), 2);
/// assert_eq!(set.get("worker-8001").map(|instance| instance.address().to_string()), Some("127.0.0.1:8001".into()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceSet {
    instances: Arc<[Instance]>,
    duplicates: Arc<[InstanceId]>,
    confirmed: bool,
    /// The age of a provisional set when it was marked as one.
    provisional: Option<Duration>,
}

impl InstanceSet {
    /// The set of a role without instances.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Marks the set as complete, so that it is believed at once however small it is.
    #[must_use]
    pub fn confirmed(mut self) -> Self {
        self.confirmed = true;
        self
    }

    /// Whether its source guarantees that it is complete.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Removes the mark of [`confirmed`](Self::confirmed).
    pub(crate) fn unconfirmed(mut self) -> Self {
        self.confirmed = false;
        self
    }

    /// Marks the set as a stand-in for one that its source has not given yet, such as a cached set of this age. No later set is
    /// doubted by comparison with it.
    pub(crate) fn provisional(mut self, age: Duration) -> Self {
        self.provisional = Some(age);
        self.unconfirmed()
    }

    /// How old a provisional set was when it was marked as one; `None` for the set of a live source.
    pub(crate) fn provisional_age(&self) -> Option<Duration> {
        self.provisional
    }

    /// How many instances there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// The instances, sorted by id.
    pub fn iter(&self) -> slice::Iter<'_, Instance> {
        self.instances.iter()
    }

    /// The instance of this id.
    #[must_use]
    pub fn get(&self, id: impl AsRef<str>) -> Option<&Instance> {
        let id = id.as_ref();
        let at = self
            .instances
            .binary_search_by(|instance| instance.id().as_str().cmp(id))
            .ok()?;
        self.instances.get(at)
    }

    /// The ids that were announced more than once, sorted; the last announcement of each is in the set.
    #[must_use]
    pub fn duplicates(&self) -> &[InstanceId] {
        &self.duplicates
    }

    /// A set from instances that the caller keeps sorted by id, each id once: costs no comparison.
    pub(crate) fn from_sorted(instances: impl Into<Arc<[Instance]>>) -> Self {
        let instances = instances.into();
        debug_assert!(
            instances.is_sorted_by(|a, b| a.id() < b.id()),
            "sorted by id, each once"
        );
        Self {
            instances,
            ..Self::default()
        }
    }

    /// The instances of both sets. If an id occurs in both, the instance of this set wins. Confirmed if both are, and
    /// provisional if either is.
    pub(crate) fn merged(&self, other: &Self) -> Self {
        let mut instances = Vec::with_capacity(self.len() + other.len());
        let (mut mine, mut theirs) = (self.iter().peekable(), other.iter().peekable());
        while let (Some(a), Some(b)) = (mine.peek(), theirs.peek()) {
            let order = a.id().cmp(b.id());
            let next = if order == Ordering::Greater {
                theirs.next()
            } else {
                mine.next()
            };
            if order == Ordering::Equal {
                theirs.next();
            }
            instances.extend(next.cloned());
        }
        instances.extend(mine.chain(theirs).cloned());
        let duplicates = self.duplicates.iter().chain(&*other.duplicates);
        let mut duplicates: Vec<_> = duplicates.cloned().collect();
        duplicates.sort();
        duplicates.dedup();
        Self {
            instances: instances.into(),
            duplicates: duplicates.into(),
            confirmed: self.confirmed && other.confirmed,
            provisional: self.provisional.max(other.provisional),
        }
    }

    /// The instances that `keep` keeps. If that is all of them, the same allocation.
    pub(crate) fn filtered(&self, mut keep: impl FnMut(&Instance) -> bool) -> Self {
        let Some(first_gone) = self.iter().position(|instance| !keep(instance)) else {
            return self.clone();
        };
        let (before, after) = self.instances.split_at(first_gone);
        let rest = after.iter().skip(1).filter(|instance| keep(instance));
        let instances: Vec<_> = before.iter().chain(rest).cloned().collect();
        Self {
            instances: instances.into(),
            ..self.clone()
        }
    }
}

impl FromIterator<Instance> for InstanceSet {
    fn from_iter<I: IntoIterator<Item = Instance>>(instances: I) -> Self {
        let mut instances: Vec<Instance> = instances.into_iter().collect();
        let mut duplicates = Vec::new();
        if !instances.is_sorted_by(|a, b| a.id() < b.id()) {
            // Stable: of one id, the last announced stays last.
            instances.sort_by(|a, b| a.id().cmp(b.id()));
            instances.dedup_by(|later, kept| {
                let same = later.id() == kept.id();
                if same {
                    duplicates.push(kept.id().clone());
                    std::mem::swap(later, kept);
                }
                same
            });
            duplicates.dedup();
        }
        Self {
            instances: instances.into(),
            duplicates: duplicates.into(),
            confirmed: false,
            provisional: None,
        }
    }
}

impl<'a> IntoIterator for &'a InstanceSet {
    type Item = &'a Instance;
    type IntoIter = slice::Iter<'a, Instance>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, port: u16) -> Instance {
        Instance::new(id, ([127, 0, 0, 1], port))
    }

    fn ids(set: &InstanceSet) -> Vec<&str> {
        set.iter().map(|instance| instance.id().as_str()).collect()
    }

    #[test]
    fn a_set_is_sorted_by_id_and_found_by_id() {
        let set: InstanceSet = [instance("c", 3), instance("a", 1), instance("b", 2)]
            .into_iter()
            .collect();
        assert_eq!(ids(&set), ["a", "b", "c"]);
        assert_eq!(set.get("b").unwrap().address().port().unwrap(), 2);
        assert!(set.get("d").is_none());
        assert!(set.duplicates().is_empty());
        assert!(!set.is_empty() && !set.is_confirmed() && set.clone().confirmed().is_confirmed());
    }

    #[test]
    fn of_duplicates_the_last_stays_and_the_id_is_reported_once() {
        let set: InstanceSet = [
            instance("b", 1),
            instance("a", 2),
            instance("b", 3),
            instance("b", 4),
            instance("a", 5),
        ]
        .into_iter()
        .collect();
        assert_eq!(ids(&set), ["a", "b"]);
        assert_eq!(set.get("a").unwrap().address().port().unwrap(), 5);
        assert_eq!(set.get("b").unwrap().address().port().unwrap(), 4);
        assert_eq!(
            set.duplicates(),
            [InstanceId::from("a"), InstanceId::from("b")]
        );
    }

    #[test]
    fn sorted_input_keeps_its_very_instances() {
        let sorted: Vec<_> = (0..100).map(|n| instance(&format!("{n:03}"), 1)).collect();
        let set: InstanceSet = sorted.iter().cloned().collect();
        assert!(set.iter().zip(&sorted).all(|(a, b)| a.ptr_eq(b)));
        assert_eq!(set, InstanceSet::from_sorted(sorted));
    }

    #[test]
    fn of_two_merged_sets_the_first_wins() {
        let of = |instances: &[(&str, u16)]| -> InstanceSet {
            instances
                .iter()
                .map(|(id, port)| instance(id, *port))
                .collect()
        };
        let mine = of(&[("b", 1), ("c", 1), ("e", 1)]).confirmed();
        let theirs = of(&[("a", 2), ("c", 2), ("d", 2), ("f", 2)]).confirmed();
        let both = mine.merged(&theirs);
        assert_eq!(ids(&both), ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(both.get("c").unwrap().address().port().unwrap(), 1);
        assert!(both.is_confirmed() && both.provisional_age().is_none());
        assert_eq!(mine.merged(&InstanceSet::empty().confirmed()), mine);

        let age = Duration::from_secs(9);
        let aged = mine.merged(&theirs.provisional(age));
        assert!(!aged.is_confirmed());
        assert_eq!(aged.provisional_age(), Some(age));
    }

    #[test]
    fn filtering_nothing_away_shares_the_set() {
        let set: InstanceSet = [instance("a", 1), instance("b", 2), instance("c", 3)]
            .into_iter()
            .collect();
        let set = set.confirmed();
        assert!(Arc::ptr_eq(
            &set.filtered(|_| true).instances,
            &set.instances
        ));
        let without = set.filtered(|instance| *instance.id() != "b");
        assert_eq!(ids(&without), ["a", "c"]);
        assert!(without.is_confirmed());
        assert!(set.filtered(|_| false).is_empty());
    }
}
