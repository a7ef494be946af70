//! Being told that something in a folder changed.

use std::fs;
use std::path::{Path, PathBuf};

use notify::event::{EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::stamp::Identity;

/// Watches a folder, not a file in it: a watched file goes deaf at the first rename. What it misses, as when the folder
/// itself is replaced, the next tick finds.
#[derive(Default)]
pub(super) struct Eyes {
    watching: Option<(RecommendedWatcher, Identity)>,
    warned: bool,
}

impl Eyes {
    /// Watches the folder, if it is not the one that is watched already. `beats`: contents change only by rename, and
    /// what is written in place are heartbeats, which the ticks see.
    pub(super) fn on(
        &mut self,
        folder: &Path,
        beats: bool,
        mut changed: impl FnMut() + Send + 'static,
    ) {
        let Ok(there) = fs::metadata(folder) else {
            self.watching = None;
            return;
        };
        let identity = Identity::of(&there);
        if self
            .watching
            .as_ref()
            .is_some_and(|(_, watched)| *watched == identity)
        {
            return;
        }
        let told = move |event: notify::Result<notify::Event>| {
            let quiet = event.is_ok_and(|event| match event.kind {
                EventKind::Access(_) => true,
                EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => beats,
                _ => false,
            });
            if !quiet {
                changed();
            }
        };
        let watching = notify::recommended_watcher(told).and_then(|mut watcher| {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        self.watching = match watching {
            Ok(watcher) => Some((watcher, identity)),
            Err(error) => {
                if !self.warned {
                    let folder = PathBuf::from(folder);
                    tracing::warn!(?folder, %error, "no news of the folder, which is looked at regularly instead");
                }
                self.warned = true;
                None
            }
        };
    }

    pub(super) fn close(&mut self) {
        self.watching = None;
    }
}
