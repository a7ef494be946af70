//! Instances that change one by one and are read as whole sets.

use crate::model::instance::{Instance, InstanceId, InstanceSet};

/// Instances sorted by id, the version of the last change, and the set last made of them.
///
/// The set is made when somebody asks, so a thousand changes between two questions cost one set; unchanged instances
/// are the very same in both.
#[derive(Debug, Default)]
pub(in crate::discovery) struct Listing {
    instances: Vec<Instance>,
    version: u64,
    set: Option<InstanceSet>,
}

impl Listing {
    /// The version of the last change that changed anything.
    pub(in crate::discovery) fn version(&self) -> u64 {
        self.version
    }

    pub(in crate::discovery) fn set(&mut self) -> InstanceSet {
        self.set
            .get_or_insert_with(|| InstanceSet::from_sorted(&*self.instances))
            .clone()
    }

    pub(in crate::discovery) fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// Adds the instance in place of an earlier one of its id.
    pub(in crate::discovery) fn insert(&mut self, instance: Instance, version: u64) {
        match self.position(instance.id()) {
            Ok(at) if self.instances[at] == instance => return,
            Ok(at) => self.instances[at] = instance,
            Err(at) => self.instances.insert(at, instance),
        }
        self.change(version);
    }

    /// Removes the instance of this id, if it is there.
    pub(in crate::discovery) fn remove(&mut self, id: &InstanceId, version: u64) {
        if let Ok(at) = self.position(id) {
            self.instances.remove(at);
            self.change(version);
        }
    }

    fn position(&self, id: &InstanceId) -> Result<usize, usize> {
        self.instances
            .binary_search_by(|instance| instance.id().cmp(id))
    }

    fn change(&mut self, version: u64) {
        self.version = version;
        self.set = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, port: u16) -> Instance {
        Instance::new(id, ([127, 0, 0, 1], port))
    }

    #[test]
    fn unchanged_instances_are_the_very_same_in_successive_sets() {
        let mut listing = Listing::default();
        for id in ["c", "a", "b"] {
            listing.insert(instance(id, 1), 1);
        }
        let before = listing.set();
        listing.insert(instance("b", 2), 2);
        let after = listing.set();
        let same = |id: &str| before.get(id).unwrap().ptr_eq(after.get(id).unwrap());
        assert!(same("a") && same("c") && !same("b"));
    }

    #[test]
    fn what_changes_nothing_is_no_news() {
        let mut listing = Listing::default();
        listing.insert(instance("a", 1), 1);
        let (version, set) = (listing.version(), listing.set());
        listing.insert(instance("a", 1), 2);
        listing.remove(&"b".into(), 3);
        assert_eq!(listing.version(), version);
        assert!(
            set.get("a")
                .unwrap()
                .ptr_eq(listing.set().get("a").unwrap())
        );
        listing.remove(&"a".into(), 4);
        assert!(listing.set().is_empty());
    }
}
