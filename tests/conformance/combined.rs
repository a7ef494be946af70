//! Combinations of a registry as subjects: a combinator keeps what its source promises.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rolecall::discovery::conformance::{Ability, Subject};
use rolecall::discovery::{BoxFuture, RegisterError};
use rolecall::{Discovery, DiscoveryExt, Lease, Registrar, Registration, Registry};

#[derive(Clone, Copy)]
pub(crate) enum How {
    Shared,
    Cached,
    /// Or another registry, in which nobody is.
    Or,
    /// With another registry, in which nobody is.
    Merged,
}

pub(crate) struct Combined {
    registry: Registry,
    folder: PathBuf,
    how: How,
}

impl Combined {
    pub(crate) fn new(how: How) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "rolecall-combined-{}-{}",
            std::process::id(),
            MADE.fetch_add(1, Relaxed)
        );
        Self {
            registry: Registry::new(),
            folder: std::env::temp_dir().join(name),
            how,
        }
    }
}

impl Subject for Combined {
    fn open(&self) -> Arc<dyn Discovery> {
        let registry = self.registry.clone();
        match self.how {
            How::Shared => Arc::new(registry.shared()),
            How::Cached => Arc::new(registry.cached(&self.folder)),
            How::Or => Arc::new(registry.or(Registry::new())),
            How::Merged => Arc::new(registry.merge(Registry::new())),
        }
    }

    fn announce(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        self.registry.register(registration)
    }

    /// A merged set is confirmed if both are, and the other one is unknown.
    fn lacks(&self) -> &'static [Ability] {
        match self.how {
            How::Merged => &[Ability::Confirmation],
            _ => &[],
        }
    }

    fn most_instances(&self) -> usize {
        500
    }
}

impl Drop for Combined {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
