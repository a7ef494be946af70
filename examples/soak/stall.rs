//! The times at which this process did not run.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::ledger::Ledger;

/// A shorter one does not make callers give up.
const STALL: Duration = Duration::from_millis(200);

/// Enters stalls of this process into the ledger until that is dropped.
pub(crate) fn watch(ledger: &Arc<Ledger>) {
    let ledger = Arc::downgrade(ledger);
    thread::spawn(move || {
        let mut before = Instant::now();
        while let Some(ledger) = ledger.upgrade() {
            let now = Instant::now();
            if now - before > STALL {
                ledger.stalled(before, now);
            }
            before = now;
            drop(ledger);
            thread::sleep(Duration::from_millis(10));
        }
    });
}
