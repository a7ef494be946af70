//! A stream of changes as a subject: one membership for every target.

use std::future;
use std::sync::{Arc, Mutex};

use futures::channel::mpsc;
use rolecall::discovery::conformance::{Ability, Subject};
use rolecall::discovery::{
    Announcement, BoxFuture, Change, Changes, LeaseEdit, LeaseHandle, RegisterError, from_changes,
};
use rolecall::{Discovery, InstanceId, Lease, Registration};

type Step = Result<Change, &'static str>;

pub(crate) struct OfChanges {
    steps: mpsc::UnboundedSender<Step>,
    changes: Changes,
}

impl Default for OfChanges {
    fn default() -> Self {
        let (steps, stream) = mpsc::unbounded();
        Self {
            steps,
            changes: from_changes(stream).confirmed(),
        }
    }
}

impl Subject for OfChanges {
    fn open(&self) -> Arc<dyn Discovery> {
        Arc::new(self.changes.clone())
    }

    fn announce(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        let steps = self.steps.clone();
        Box::pin(future::ready(registration.validate().map(|announced| {
            let written = Written {
                steps,
                id: announced.id().clone(),
                announced: Mutex::new(announced),
            };
            written.write();
            Lease::new(written)
        })))
    }

    fn lacks(&self) -> &'static [Ability] {
        &[
            Ability::Registration,
            Ability::Targets,
            Ability::Boundaries,
            Ability::SeveralEndpoints,
            Ability::UnknownRoles,
            Ability::UnknownEndpoints,
            Ability::Peers,
        ]
    }

    fn spoil(&self) -> bool {
        self.steps.unbounded_send(Err("garbage")).unwrap();
        true
    }
}

/// An instance of the membership, by its endpoint `http`.
struct Written {
    steps: mpsc::UnboundedSender<Step>,
    id: InstanceId,
    announced: Mutex<Announcement>,
}

impl Written {
    fn write(&self) {
        let announced = self.announced.lock().unwrap();
        let change = match announced.endpoints().find(|(name, _)| **name == "http") {
            Some((_, instance)) => Change::Insert(instance),
            None => Change::Remove(self.id.clone()),
        };
        self.steps.unbounded_send(Ok(change)).unwrap();
    }
}

impl LeaseHandle for Written {
    fn id(&self) -> &InstanceId {
        &self.id
    }

    fn edit(&self, edit: LeaseEdit) -> BoxFuture<'_, Result<(), RegisterError>> {
        let edited = edit.apply(&mut self.announced.lock().unwrap());
        self.write();
        Box::pin(future::ready(edited))
    }

    fn deregister(&mut self) -> BoxFuture<'_, Result<(), RegisterError>> {
        Box::pin(future::ready(Ok(())))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let gone = Change::Remove(self.id.clone());
        let _ = self.steps.unbounded_send(Ok(gone));
    }
}
