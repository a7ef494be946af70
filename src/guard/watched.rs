//! A gate with the task that follows discovery for it.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::gate::{Gate, lock};
use super::watcher::Watcher;
use crate::balance::watch::Watch;
use crate::discovery::Discovery;

/// What a guard's clones, listeners and connections hold. The watcher ends when the last of them is dropped.
pub(super) struct WatchedGate {
    gate: Arc<Gate>,
    discovery: Arc<dyn Discovery>,
    /// Whether there is a watcher; it says so itself when it is dropped with its runtime.
    is_watched: Arc<AtomicBool>,
    /// Dropped with the last clone: tells the watcher to end.
    alive: Mutex<Option<oneshot::Sender<()>>>,
}

impl WatchedGate {
    pub(super) fn new(gate: Gate, discovery: Arc<dyn Discovery>) -> Self {
        Self {
            gate: Arc::new(gate),
            discovery,
            is_watched: Arc::default(),
            alive: Mutex::default(),
        }
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Spawns the watcher if there is none and there is a runtime.
    pub(super) fn start(&self) {
        self.start_with(None);
    }

    /// The same; `opened` is a watch of the guard's own boundary that is open already.
    pub(super) fn start_with(&self, opened: Option<Watch>) {
        if self.is_watched.load(Acquire) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.is_watched.swap(true, AcqRel) {
            return;
        }
        let (alive, ended) = oneshot::channel();
        *lock(&self.alive) = Some(alive);
        let (gate, discovery) = (Arc::clone(&self.gate), Arc::clone(&self.discovery));
        let is_watched = Arc::clone(&self.is_watched);
        let watcher = Watcher::new(gate, discovery, opened, ended, is_watched);
        // With no lock held: a runtime that is shutting down drops it at once, and with it foreign code.
        runtime.spawn(watcher);
    }
}
