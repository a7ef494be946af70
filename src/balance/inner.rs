//! The state that all clones of a balancer share, and what each connection carries of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast, oneshot};

use super::control::{Control, Controlled};
use super::shared::Shared;
use crate::error::discovery::DiscoveryErrorKind;
use crate::error::{BoxError, Error, ErrorKind, NoDriver};
use crate::event::Event;
use crate::fleet::{BalanceConfig, CountedRef, Fleet, InFleet, Member, MemberRef, Pick, PickError};
use crate::model::hints::Hints;
use crate::model::instance::InstanceId;
use crate::runtime::{clock, random, timer};
use crate::status::Status;

/// A driver that does not run yet, or no longer runs.
pub(super) type IdleDriver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Lives as long as a clone of the balancer, or a call that waits.
pub(super) struct Inner<S, C> {
    pub(super) fleet: Arc<Fleet<Connected<S, C>>>,
    pub(super) shared: Arc<Shared<C>>,
    pub(super) control: Control,
    /// The driver, while it has no runtime to run in.
    idle_driver: Mutex<Option<IdleDriver>>,
    /// Tells the driver to end, by being dropped.
    _alive: oneshot::Sender<()>,
}

/// A member's service, as the fleet keeps it, with what its attempts need of the balancer.
pub(super) struct Connected<S, C> {
    pub(super) service: S,
    /// Not the whole balancer, so that calls that have an instance do not keep it alive.
    pub(super) shared: Arc<Shared<C>>,
}

impl<S, C> Inner<S, C>
where
    S: Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    pub(super) fn new(
        fleet: Arc<Fleet<Connected<S, C>>>,
        shared: Arc<Shared<C>>,
        alive: oneshot::Sender<()>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|inner: &Weak<Self>| {
            let controlled: Weak<dyn Controlled> = inner.clone();
            Self {
                control: Control::new(shared.target.clone(), controlled),
                fleet,
                shared,
                idle_driver: Mutex::new(None),
                _alive: alive,
            }
        })
    }

    /// The only caller of the fleet's pick: with two it is no longer inlined, and each call takes a tenth longer.
    pub(super) fn pick(&self, hints: Hints<'_>) -> Result<Pick<Connected<S, C>>, PickError> {
        let now = self.fleet.reads_clock().then(clock::now);
        let picked = random::with_rng(|rng| self.fleet.pick_at(now, rng, hints));
        if let Ok(pick) = &picked
            && pick.moves_deadline()
        {
            self.shared.driver.notify_one();
        }
        picked
    }

    /// Hastens the next dials of an instance for which a pinned call waits.
    pub(super) fn want(&self, id: &InstanceId) {
        self.fleet.want(id, clock::now());
        self.shared.driver.notify_one();
    }

    /// Keeps a driver that does not run for the next runtime.
    pub(super) fn keep_driver(&self, driver: IdleDriver) {
        *self.idle_driver() = Some(driver);
    }

    /// Spawns the driver, if none runs and there is a runtime with timers. Returns whether one runs, or is about to.
    pub(super) fn start_driver(&self) -> bool {
        if self.idle_driver().is_none() {
            return !self.shared.is_abandoned();
        }
        let Some(runtime) = Handle::try_current().ok().filter(|_| timer::is_there()) else {
            return false;
        };
        // Spawned without the lock: a runtime that is shutting down drops the driver at once, which puts it back here.
        let driver = self.idle_driver().take();
        if let Some(driver) = driver {
            runtime.spawn(driver);
        }
        self.idle_driver().is_none()
    }

    /// Why no driver runs, if none does.
    fn no_driver(&self) -> Option<NoDriver> {
        if self.shared.is_driven() {
            None
        } else if self.shared.is_abandoned() {
            Some(NoDriver::Dropped)
        } else if self.idle_driver().is_some() {
            Some(NoDriver::OutsideRuntime)
        } else {
            Some(NoDriver::NotPolled)
        }
    }

    fn idle_driver(&self) -> MutexGuard<'_, Option<IdleDriver>> {
        self.idle_driver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The error of a call that no instance got. `lost`: why the last candidate was lost.
    pub(super) fn refusal(&self, why: &PickError, lost: Option<BoxError>) -> Error {
        let no_driver = match why {
            why if why.is_final() => None,
            _ => self.no_driver(),
        };
        let error = self.shared.discovery_error();
        let hidden = error
            .as_ref()
            .is_some_and(|error| error.kind() == DiscoveryErrorKind::NotVisible);
        let (kind, source) = match why {
            PickError::Unresolved | PickError::Empty if hidden => (ErrorKind::NotVisible, error),
            PickError::Unresolved => (ErrorKind::Unresolved, error),
            PickError::Empty => (ErrorKind::Empty, error),
            PickError::NoneUsable(census) => (ErrorKind::NoneUsable(Arc::clone(census)), None),
            PickError::Saturated => (ErrorKind::Saturated, None),
            PickError::Pinned { id, fault } => {
                let source = no_driver.map(Into::into).or(lost);
                let target = self.shared.target.clone();
                return Error::pinned(target, id.clone(), *fault, source);
            }
        };
        let source = source.map(Into::into).or(lost);
        let source = no_driver.map(Into::into).or(source);
        Error::refused(self.shared.target.clone(), kind, source)
    }
}

impl<S, C> Controlled for Inner<S, C>
where
    S: Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    fn status(&self) -> Status {
        let error = self.shared.discovery_error();
        Status {
            target: Some(self.shared.target.clone()),
            discovery_error: error.map(|error| error.with_causes()),
            attempt_timeout: self.shared.attempt_timeout,
            ..self.fleet.status(clock::now())
        }
    }

    fn subscribe(&self) -> broadcast::Receiver<(Instant, Event)> {
        self.shared.subscribe()
    }

    fn is_usable(&self) -> bool {
        self.fleet.unusable_since().is_none()
    }

    fn look_again(&self) -> &Notify {
        &self.shared.look_again
    }

    fn start_driver(&self) -> bool {
        self.start_driver()
    }

    fn check_usable(&self) -> Result<(), Error> {
        if self.is_usable() {
            return Ok(());
        }
        // Only a pick says why there is none. If one succeeds after all, dropping it judges no instance.
        match self.pick(Hints::none()) {
            Ok(_) => Ok(()),
            Err(why) => Err(self.refusal(&why, None)),
        }
    }

    fn eject(&self, id: &InstanceId, time: Duration) -> bool {
        let known = self.fleet.eject(id, time, clock::now());
        self.shared.driver.notify_one();
        known
    }

    fn restore(&self, id: &InstanceId) -> bool {
        let was_out = self.fleet.restore(id, clock::now());
        self.shared.driver.notify_one();
        was_out
    }

    fn config(&self) -> BalanceConfig {
        self.fleet.config()
    }

    fn reconfigure(&self, config: BalanceConfig) {
        self.shared.reconfigure(&config);
        self.fleet.reconfigure(config, clock::now());
        self.shared.driver.notify_one();
        self.shared.look_again.notify_waiters();
    }

    #[cfg(feature = "metrics")]
    fn waiting(&self) -> u32 {
        self.shared.waiting()
    }

    #[cfg(feature = "metrics")]
    fn sample(&self, samples: super::samples::Samples) -> bool {
        self.shared.samples.set(samples).is_ok()
    }
}

/// Wakes the driver from an attempt, whatever the type of the service.
pub(super) trait Signal: InFleet {
    fn driver(&self) -> &Notify;

    /// Where requests are sampled, if the program asked for metrics.
    #[cfg(feature = "metrics")]
    fn samples(&self) -> Option<&super::samples::Samples>;
}

impl<S, C> Signal for Member<Connected<S, C>> {
    fn driver(&self) -> &Notify {
        &self.service().shared.driver
    }

    #[cfg(feature = "metrics")]
    fn samples(&self) -> Option<&super::samples::Samples> {
        self.service().shared.samples.get()
    }
}

impl<S, C> Signal for CountedRef<Connected<S, C>> {
    fn driver(&self) -> &Notify {
        &self.service().shared.driver
    }

    #[cfg(feature = "metrics")]
    fn samples(&self) -> Option<&super::samples::Samples> {
        self.service().shared.samples.get()
    }
}

impl<S, C> Signal for MemberRef<Connected<S, C>> {
    fn driver(&self) -> &Notify {
        &self.service().shared.driver
    }

    #[cfg(feature = "metrics")]
    fn samples(&self) -> Option<&super::samples::Samples> {
        self.service().shared.samples.get()
    }
}

impl<T: Signal + ?Sized> Signal for Arc<T> {
    fn driver(&self) -> &Notify {
        (**self).driver()
    }

    #[cfg(feature = "metrics")]
    fn samples(&self) -> Option<&super::samples::Samples> {
        (**self).samples()
    }
}
