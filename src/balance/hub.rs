use std::any::Any;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, broadcast};

use crate::error::discovery::DiscoveryError;
use crate::event::Event;
use crate::fleet::{CountedRef, InFleet, Member, MemberRef};
use crate::model::target::Target;

/// Events kept for a subscriber that is late.
const EVENTS_KEPT: usize = 1024;

/// Where a balancer, its driver and its attempts meet.
pub(super) struct Hub<C> {
    pub(super) target: Target,
    pub(super) classifier: Arc<C>,
    /// How long an attempt may go without an answer.
    pub(super) attempt_timeout: Option<Duration>,
    /// How often a driver began or was dropped: odd while one runs. Without one nobody can be usable.
    driven: AtomicU64,
    /// Whether the driver was dropped and is never started again.
    abandoned: AtomicBool,
    /// Tells the driver that the fleet's next deadline moved earlier, or that there is something to report.
    pub(super) driver: Arc<Notify>,
    /// Tells waiting calls to look again: somebody is usable, or the configuration is another.
    pub(super) look_again: Arc<Notify>,
    /// Made for the first subscriber: the ring takes 96 KiB at once.
    events: OnceLock<broadcast::Sender<Event>>,
    discovery_error: Mutex<Option<DiscoveryError>>,
    /// The balancer, whatever its services are, for calls that need it again.
    home: OnceLock<Weak<dyn Any + Send + Sync>>,
}

impl<C> Hub<C> {
    pub(super) fn new(
        target: Target,
        classifier: Arc<C>,
        attempt_timeout: Option<Duration>,
    ) -> Self {
        Self {
            target,
            classifier,
            attempt_timeout,
            driven: AtomicU64::new(0),
            abandoned: AtomicBool::new(false),
            driver: Arc::default(),
            look_again: Arc::default(),
            events: OnceLock::new(),
            discovery_error: Mutex::default(),
            home: OnceLock::new(),
        }
    }

    /// How often a driver began or was dropped.
    pub(super) fn driven(&self) -> u64 {
        self.driven.load(Acquire)
    }

    pub(super) fn is_driven(&self) -> bool {
        self.driven() % 2 == 1
    }

    /// A driver begins, or the one that runs is dropped.
    pub(super) fn toggle_driven(&self) {
        self.driven.fetch_add(1, AcqRel);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Acquire)
    }

    /// The driver was dropped, and is never started again.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Release);
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Event> {
        let events = || broadcast::Sender::new(EVENTS_KEPT);
        self.events.get_or_init(events).subscribe()
    }

    /// Tells an event to whoever has subscribed.
    pub(super) fn tell(&self, event: Event) {
        if let Some(events) = self.events.get() {
            // They may all be gone again.
            let _ = events.send(event);
        }
    }

    /// Remembers what it belongs to. The first one counts.
    pub(super) fn belongs_to<T: Send + Sync + 'static>(&self, home: &Arc<T>) {
        let home: Weak<T> = Arc::downgrade(home);
        // There is but one.
        let _ = self.home.set(home);
    }

    /// What it belongs to, unless that is gone.
    pub(super) fn home<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.home.get()?.upgrade()?.downcast().ok()
    }

    /// Discovery's last error, if no set came after it.
    pub(super) fn discovery_error(&self) -> Option<DiscoveryError> {
        let error = self.discovery_error.lock();
        error.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_discovery_error(&self, error: Option<DiscoveryError>) {
        let slot = self.discovery_error.lock();
        let replaced = std::mem::replace(&mut *slot.unwrap_or_else(PoisonError::into_inner), error);
        drop(replaced);
    }
}

/// What the fleet hands back for a pick: the member's service, and the way back to the balancer.
pub(super) struct Connected<S, C> {
    pub(super) service: S,
    pub(super) hub: Arc<Hub<C>>,
}

/// How an attempt that knows no types reaches the driver.
pub(super) trait Signal: InFleet {
    fn driver(&self) -> &Notify;
}

impl<S, C> Signal for Member<Connected<S, C>> {
    fn driver(&self) -> &Notify {
        &self.service().hub.driver
    }
}

impl<S, C> Signal for CountedRef<Connected<S, C>> {
    fn driver(&self) -> &Notify {
        &self.service().hub.driver
    }
}

impl<S, C> Signal for MemberRef<Connected<S, C>> {
    fn driver(&self) -> &Notify {
        &self.service().hub.driver
    }
}

impl<T: Signal + ?Sized> Signal for Arc<T> {
    fn driver(&self) -> &Notify {
        (**self).driver()
    }
}
