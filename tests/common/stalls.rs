//! What of a test's time is the machine's fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Adds up by how much a thread of this process comes late.
pub(crate) struct Stalls {
    microseconds: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

impl Stalls {
    #[expect(clippy::disallowed_methods, reason = "measures a real machine")]
    pub(crate) fn measure() -> Self {
        let stalls = Self {
            microseconds: Arc::default(),
            is_over: Arc::default(),
        };
        let (sum, is_over) = (stalls.microseconds.clone(), stalls.is_over.clone());
        thread::spawn(move || {
            let step = Duration::from_millis(2);
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                thread::sleep(step);
                let late = began.elapsed().saturating_sub(step).as_micros();
                sum.fetch_add(u64::try_from(late).unwrap(), Ordering::Relaxed);
            }
        });
        stalls
    }

    /// Twice that: news pass through the thread that finds them and the one that hears them, and each may come late.
    pub(crate) fn so_far(&self) -> Duration {
        2 * Duration::from_micros(self.microseconds.load(Ordering::Relaxed))
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}
