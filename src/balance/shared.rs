//! What a balancer, its driver and its attempts share, whatever the services of its instances are.

use std::num::NonZeroU32;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, broadcast};

use crate::error::discovery::DiscoveryError;
use crate::error::{Error, ErrorKind, TooManyWaiting};
use crate::event::Event;
use crate::fleet::BalanceConfig;
use crate::model::hints::Sending;
use crate::model::target::Target;
use crate::runtime::clock;

/// Events kept for a subscriber that is late.
const EVENTS_KEPT: usize = 1024;

pub(super) struct Shared<C> {
    pub(super) target: Target,
    pub(super) classifier: Arc<C>,
    /// How long an attempt may go without an answer.
    pub(super) attempt_timeout: Option<Duration>,
    /// Counts starts and ends of drivers: odd while one runs. Without a driver no member can become usable.
    driver_epoch: AtomicU64,
    /// Whether the driver was dropped and is never started again.
    abandoned: AtomicBool,
    /// Wakes the driver: the fleet's next deadline moved earlier, or there are events to report.
    pub(super) driver: Arc<Notify>,
    /// Wakes waiting calls: a member may have become usable, or the configuration has changed.
    pub(super) look_again: Arc<Notify>,
    /// Created for the first subscriber, since the ring buffer takes 112 KiB at once.
    events: OnceLock<broadcast::Sender<(Instant, Event)>>,
    discovery_error: Mutex<Option<DiscoveryError>>,
    /// Set once, when the program asks for metrics.
    #[cfg(feature = "metrics")]
    pub(super) samples: OnceLock<super::samples::Samples>,
    /// Calls that no instance has yet, and how many there may be.
    waiting: AtomicU32,
    max_waiting: AtomicU32,
}

/// Stands for no limit. More calls than this cannot be counted either.
const NO_LIMIT: u32 = u32::MAX;

impl<C> Shared<C> {
    pub(super) fn new(
        target: Target,
        classifier: Arc<C>,
        attempt_timeout: Option<Duration>,
        config: &BalanceConfig,
    ) -> Self {
        let max_waiting = max_waiting(config);
        Self {
            target,
            classifier,
            attempt_timeout,
            driver_epoch: AtomicU64::new(0),
            abandoned: AtomicBool::new(false),
            driver: Arc::default(),
            look_again: Arc::default(),
            events: OnceLock::new(),
            discovery_error: Mutex::default(),
            #[cfg(feature = "metrics")]
            samples: OnceLock::new(),
            waiting: AtomicU32::new(0),
            max_waiting: AtomicU32::new(max_waiting),
        }
    }

    /// How often a driver has started or ended.
    pub(super) fn driver_epoch(&self) -> u64 {
        self.driver_epoch.load(Acquire)
    }

    pub(super) fn is_driven(&self) -> bool {
        self.driver_epoch() % 2 == 1
    }

    /// A driver starts, or the running one ends.
    pub(super) fn toggle_driven(&self) {
        self.driver_epoch.fetch_add(1, AcqRel);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Acquire)
    }

    /// The driver was dropped, and is never started again.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Release);
    }

    /// Events from now on, each with its time.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<(Instant, Event)> {
        let events = || broadcast::Sender::new(EVENTS_KEPT);
        self.events.get_or_init(events).subscribe()
    }

    /// Sends an event to all subscribers.
    pub(super) fn publish(&self, event: Event) {
        if let Some(events) = self.events.get() {
            // An error means that there is no subscriber left.
            let _ = events.send((clock::now(), event));
        }
    }

    /// Discovery's last error, if no set came after it.
    pub(super) fn discovery_error(&self) -> Option<DiscoveryError> {
        let error = self.discovery_error.lock();
        error.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_discovery_error(&self, error: Option<DiscoveryError>) {
        let slot = self.discovery_error.lock();
        let replaced = std::mem::replace(&mut *slot.unwrap_or_else(PoisonError::into_inner), error);
        // The error may hold foreign values: they are dropped without the lock.
        drop(replaced);
    }

    /// Counts one more call that waits; [`end_waiting`](Self::end_waiting) follows.
    ///
    /// # Errors
    ///
    /// `max_waiting` calls wait already.
    pub(super) fn begin_waiting(&self) -> Result<(), Error> {
        let limit = self.max_waiting.load(Relaxed);
        let count = |waiting| (waiting < limit).then_some(waiting + 1);
        match self.waiting.fetch_update(Relaxed, Relaxed, count) {
            Ok(_) => Ok(()),
            Err(_) => {
                let source = Some(TooManyWaiting(limit).into());
                let target = self.target.clone();
                Err(Error::refused(target, ErrorKind::Saturated, source))
            }
        }
    }

    /// How many calls wait.
    #[cfg(feature = "metrics")]
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    /// Counts a request that is sent to an instance, if it was sent before and the program reports metrics.
    #[cfg(feature = "metrics")]
    pub(super) fn count_sending(&self, sending: Sending) {
        if let Some(samples) = self.samples.get() {
            samples.count_sending(sending);
        }
    }

    #[cfg(not(feature = "metrics"))]
    pub(super) fn count_sending(&self, _: Sending) {}

    pub(super) fn end_waiting(&self) {
        self.waiting.fetch_sub(1, Relaxed);
    }

    /// Follows another configuration. Calls that wait already stay, even if there are more than its limit.
    pub(super) fn reconfigure(&self, config: &BalanceConfig) {
        self.max_waiting.store(max_waiting(config), Relaxed);
    }
}

fn max_waiting(config: &BalanceConfig) -> u32 {
    config.max_waiting().map_or(NO_LIMIT, NonZeroU32::get)
}
