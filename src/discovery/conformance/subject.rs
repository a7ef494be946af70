use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::discovery::{BoxFuture, Discovery, Lease, Registration};
use crate::error::discovery::RegisterError;

/// One backend, set up for one check. Dropping it cleans up.
pub trait Subject: Send + Sync + 'static {
    /// Opens the backend for reading, as another process would.
    fn open(&self) -> Arc<dyn Discovery>;

    /// Announces an instance.
    ///
    /// A backend that [registers](Ability::Registration) does so by its registrar. For another one, this is what writes its
    /// source, such as an editor of a file or the server of a DNS zone; the lease edits what was written, and dropping it
    /// removes it.
    fn announce(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>>;

    /// What the backend cannot do by its nature. Default: nothing.
    fn lacks(&self) -> &'static [Ability] {
        &[]
    }

    /// Every change reaches every watch within this time, on a machine that is busy with something else. Default 60 s.
    fn news_within(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// The most instances that a check announces, at least 20. Default 10 000.
    fn most_instances(&self) -> usize {
        10_000
    }

    /// Makes the source unreachable; false if it cannot be. Default: it cannot.
    fn break_it(&self) -> bool {
        false
    }

    /// Makes the source reachable again, with what was in it.
    fn repair(&self) {}

    /// Puts something into the source that no registrar wrote; false if there is no place for it. Default: there is none.
    ///
    /// It has to become an error of the watches of `default/worker:http`.
    fn spoil(&self) -> bool {
        false
    }

    /// Announces an instance in such a way that the registrant can be killed. Default: `None`, it cannot be.
    fn victim(&self, _registration: Registration) -> BoxFuture<'_, Option<Victim>> {
        Box::pin(std::future::ready(None))
    }

    /// How many tasks, files or connections are open on behalf of handles. Default 0.
    fn running(&self) -> usize {
        0
    }
}

/// What a backend may be unable to do by its nature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ability {
    /// It takes registrations, and has a registrar.
    Registration,
    /// It keeps the ids of registrations. Without it, ids are of its own making.
    Ids,
    /// Its sets are confirmed: none of them can be a half answer.
    Confirmation,
    /// It distinguishes targets. Without it, every target has the same instances.
    Targets,
    /// It distinguishes boundaries.
    Boundaries,
    /// An instance may have several endpoints.
    SeveralEndpoints,
    /// A role that was never announced is an error.
    UnknownRoles,
    /// An endpoint that a known role never had is an error.
    UnknownEndpoints,
    /// A handle that is opened later knows the roles whose instances have all left.
    Memory,
    /// It lists the peers of a boundary.
    Peers,
    /// It tells weights.
    Weight,
    /// It tells ranks.
    Rank,
    /// It tells zones.
    Zone,
    /// It tells availability.
    Availability,
    /// It tells visibility.
    Visibility,
    /// It tells metadata.
    Metadata,
}

/// A registrant that can be killed.
pub struct Victim {
    lease: Duration,
    kill: Box<dyn FnOnce() + Send>,
}

impl Victim {
    /// A registrant that `kill` ends without a chance to deregister. Its instance may stay for the time `lease` after that.
    pub fn new(lease: Duration, kill: impl FnOnce() + Send + 'static) -> Self {
        let kill = Box::new(kill);
        Self { lease, kill }
    }

    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    pub(super) fn kill(self) {
        (self.kill)();
    }
}

impl fmt::Debug for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut victim = f.debug_struct("Victim");
        victim.field("lease", &self.lease).finish_non_exhaustive()
    }
}
