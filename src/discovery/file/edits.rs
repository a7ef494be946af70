//! What a look at the files found to be new.

use crate::discovery::{Announcement, Registry};
use crate::model::name::{Boundary, EndpointName, Role};

#[derive(Default)]
pub(super) struct Edits {
    changes: Vec<(Option<Announcement>, Option<Announcement>)>,
    known: Vec<(Boundary, Role, Option<EndpointName>)>,
}

impl Edits {
    /// One instance as it was and as it is; both are of the same one.
    pub(super) fn change(&mut self, before: Option<Announcement>, after: Option<Announcement>) {
        if before.is_some() || after.is_some() {
            self.changes.push((before, after));
        }
    }

    pub(super) fn know(&mut self, known: (Boundary, Role, Option<EndpointName>)) {
        self.known.push(known);
    }

    /// All at once: no watcher sees half of a look.
    pub(super) fn apply(self, registry: &Registry) {
        if self.changes.is_empty() && self.known.is_empty() {
            return;
        }
        registry.edit(|book| {
            let mut changed = Vec::new();
            for (boundary, role, endpoint) in self.known {
                changed.push(book.know(boundary, role, endpoint));
            }
            for (before, after) in self.changes {
                changed.extend(match (before, after) {
                    (Some(before), Some(after)) => Some(book.replace(&before, &after)),
                    (Some(before), None) => Some(book.remove(&before)),
                    (None, Some(after)) => book.add(&after).ok(),
                    (None, None) => None,
                });
            }
            changed
        });
    }
}
