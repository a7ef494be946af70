use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use futures_util::future::{Either, select};
use futures_util::stream;
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tower_service::Service;

use super::attempt::Picked;
use super::classify::{Classify, ClassifyResult};
use super::driver::Driver;
use super::future::ResponseFuture;
use super::hub::{Connected, Hub};
use super::waiting::Waiting;
use crate::error::discovery::DiscoveryErrorKind;
use crate::error::{BoxError, Error, ErrorKind, NoDriver};
use crate::event::Event;
use crate::fleet::{BalanceConfig, Fleet, PickError};
use crate::model::instance::InstanceId;
use crate::model::target::Target;
use crate::runtime::{clock, random, timer};
use crate::status::Status;

/// A longer wait is cut to this one: a timer knows no later moment.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Spreads requests over the instances of a [`Target`], each by a service of its own.
///
/// Made by [`BalanceLayer`](crate::BalanceLayer). Clones are cheap and share everything; a request takes no lock and
/// allocates nothing. When the last clone is dropped and the last waiting call is done, its driver, its dials and its
/// connections end.
///
/// # Readiness
///
/// [`poll_ready`](Service::poll_ready) is always ready and reserves nothing. [`call`](Service::call) picks with the
/// request in hand. If nobody is usable the response waits, until nobody has been usable for
/// [`unavailable_after`](crate::ConfigBuilder::unavailable_after); from then on all calls fail at once, and give way to other
/// tasks as often as tokio's own resources do. If the picked instance's service is not ready at once, a second one is asked
/// too, and whichever is ready first gets the request. One that leaves the set, drains, is ejected or loses its connection
/// meanwhile is given up at once; if no instance is usable then, the response waits as above. A caller that gives up
/// during these waits judges no instance. How long the instance that got the request may take is for
/// [`attempt_timeout`](crate::BalanceLayer::attempt_timeout) to limit. A service that fails to get ready loses its connection, not the
/// request: that goes to another instance, and so does one that comes [back](Classify::take_back) unsent. If a service fails to
/// get ready because this process has no file descriptors, local ports or memory left, its connection stays, and the request
/// asks again until it has waited that long.
///
/// # Runtimes
///
/// The driver starts with [`layer`](tower_layer::Layer::layer) inside a tokio runtime with timers, else with the first call
/// or wait that is polled inside one. It ends with its runtime, and all connections with it
/// ([`Event::DriverStopped`]); the next call or wait that is polled inside a runtime starts it again. Calls of other
/// runtimes that wait meanwhile are woken, and one of them starts it in its own. Then discovery is watched anew, all known
/// instances are dialled, and the time of [`unavailable_after`](crate::ConfigBuilder::unavailable_after) counts from there.
/// Ejections keep their ends. So a `static` balancer works in any number of `#[tokio::test]`s. Outside a runtime calls work
/// while somebody is usable, and else fail at once.
///
/// # Errors
///
/// [`Error`] says by its [kind](Error::kind) why nobody could be asked, or is a [`Call`](ErrorKind::Call) with the
/// instance's own error as its source.
pub struct Balance<S, C = ClassifyResult> {
    inner: Arc<Inner<S, C>>,
}

pub(super) struct Inner<S, C> {
    pub(super) fleet: Arc<Fleet<Connected<S, C>>>,
    pub(super) hub: Arc<Hub<C>>,
    /// The driver, while it has no runtime to run on.
    unstarted: Mutex<Option<Driver>>,
    /// Dropped with the last clone: tells the driver to end.
    _alive: oneshot::Sender<()>,
}

impl<S, C> Balance<S, C>
where
    S: Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    pub(super) fn new(
        fleet: Arc<Fleet<Connected<S, C>>>,
        hub: Arc<Hub<C>>,
        alive: oneshot::Sender<()>,
    ) -> Self {
        let inner = Inner {
            fleet,
            hub,
            unstarted: Mutex::new(None),
            _alive: alive,
        };
        let inner = Arc::new(inner);
        inner.hub.belongs_to(&inner);
        Self { inner }
    }

    /// Spawns the driver, now or as soon as there is a runtime.
    pub(super) fn start(&self, driver: Driver) {
        self.inner.keep_driver(driver);
        self.inner.start_driver();
    }

    /// What is balanced, its boundary resolved.
    pub fn target(&self) -> &Target {
        &self.inner.hub.target
    }

    /// How things stand: a copy, made under the lock that membership changes take.
    pub fn status(&self) -> Status {
        let hub = &self.inner.hub;
        Status {
            target: Some(hub.target.clone()),
            discovery_error: hub.discovery_error().map(|error| error.with_causes()),
            ..self.inner.fleet.status(clock::now())
        }
    }

    /// What happens from now on. A reader that is more than 1024 events late is told how many it
    /// [missed](Event::Missed). Ends with the balancer and its last call. The first call takes 96 KiB for as long as the
    /// balancer lives.
    pub fn events(&self) -> impl Stream<Item = Event> + Send + Unpin + use<S, C> {
        let events = self.inner.hub.subscribe();
        Box::pin(stream::unfold(events, async |mut events| {
            match events.recv().await {
                Ok(event) => Some((event, events)),
                Err(RecvError::Lagged(count)) => Some((Event::Missed { count }, events)),
                Err(RecvError::Closed) => None,
            }
        }))
    }

    /// Waits until a member is usable, at most for `timeout`.
    ///
    /// # Errors
    ///
    /// Why nobody is, when the time is over; at once outside a tokio runtime with timers, or if the driver of a
    /// [`pair`](crate::BalanceLayer::pair) was dropped.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost.
    pub async fn wait_usable(&self, timeout: Duration) -> Result<(), Error> {
        let inner = &self.inner;
        let until = clock::now().checked_add(timeout.min(LONGEST_WAIT));
        let mut over = until.and_then(timer::sleep_until);
        loop {
            let mut news = pin!(inner.hub.look_again.notified());
            news.as_mut().enable();
            if inner.fleet.unusable_since().is_none() {
                return Ok(());
            }
            let Some(over) = over.as_mut().filter(|_| inner.start_driver()) else {
                break;
            };
            if let Either::Right(_) = select(news, over).await {
                break;
            }
        }
        if inner.fleet.unusable_since().is_none() {
            return Ok(());
        }
        match inner.pick(&[]) {
            Ok(_) => Ok(()),
            Err(why) => Err(inner.refusal(&why, None)),
        }
    }

    /// Ejects an instance for so long, whatever the rules and their cap say; under the cap it takes a place that the rules
    /// lack then. One that is out already is out for so long from now on. If nobody else is in play, it is picked from all the
    /// same. Afterwards a trial decides whether it is back; so it does at once if the instance
    /// comes back meanwhile, or gets another address. While no driver runs, the ejection is kept; its end waits for the next
    /// driver.
    ///
    /// Returns whether the instance is known.
    pub fn eject(&self, id: &InstanceId, time: Duration) -> bool {
        let known = self.inner.fleet.eject(id, time, clock::now());
        self.inner.hub.driver.notify_one();
        known
    }

    /// Puts an ejected instance back into play, by slow start. Returns whether it was out.
    pub fn restore(&self, id: &InstanceId) -> bool {
        let was_out = self.inner.fleet.restore(id, clock::now());
        self.inner.hub.driver.notify_one();
        was_out
    }

    /// Follows another configuration from now on, for all clones and for calls that wait already.
    pub fn reconfigure(&self, config: BalanceConfig) {
        let target = self.target();
        tracing::info!(target: "rolecall", %target, ?config, "reconfigured");
        self.inner.fleet.reconfigure(config, clock::now());
        self.inner.hub.driver.notify_one();
        self.inner.hub.look_again.notify_waiters();
    }
}

impl<S, C, Req> Service<Req> for Balance<S, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    C: Classify<Req, S::Response, S::Error> + Send + Sync + 'static,
{
    type Response = C::Response;
    type Error = Error;
    type Future = ResponseFuture<S, Req, C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let inner = &self.inner;
        let avoid = inner.hub.classifier.avoid(&request);
        let waiting = || Waiting::new(Arc::clone(inner), avoid.to_vec());
        let mut judged = match inner.pick(avoid) {
            Ok(judged) => judged,
            Err(PickError::Saturated) => {
                return ResponseFuture::failed(inner.refusal(&PickError::Saturated, None));
            }
            Err(_) => return ResponseFuture::waiting(waiting(), request),
        };
        let mut service = judged.connected().service.clone();
        // Nearly every service is ready at once, and then the call needs no hold on the balancer. If not, the waiting
        // call polls again with a waker that wakes.
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => ResponseFuture::sent(judged, service.call(request)),
            Poll::Ready(Err(error)) => {
                ResponseFuture::waiting(waiting().after_loss(&mut judged, error.into()), request)
            }
            Poll::Pending => {
                ResponseFuture::waiting(waiting().with_candidate(judged, service), request)
            }
        }
    }
}

impl<S, C> Inner<S, C>
where
    S: Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    pub(super) fn pick(&self, avoid: &[InstanceId]) -> Result<Picked<S, C>, PickError> {
        let fleet = &self.fleet;
        let now = fleet.reads_clock().then(clock::now);
        let picked = random::with_rng(|rng| fleet.pick_at(now, rng, avoid)).map(Picked::of)?;
        if picked.slot().moves_deadline() {
            self.hub.driver.notify_one();
        }
        Ok(picked)
    }

    /// Spawns the driver, if none runs and there is a runtime with timers. Returns whether one runs, or is about to.
    pub(super) fn start_driver(&self) -> bool {
        if self.unstarted().is_none() {
            return !self.hub.is_abandoned();
        }
        let Some(runtime) = Handle::try_current().ok().filter(|_| timer::is_there()) else {
            return false;
        };
        // Spawned with no lock held: a runtime that is shutting down drops it at once, and then it is back here.
        let unstarted = self.unstarted().take();
        if let Some(driver) = unstarted {
            runtime.spawn(driver);
        }
        self.unstarted().is_none()
    }

    /// Keeps a driver that is not running, for the next runtime.
    pub(super) fn keep_driver(&self, driver: Driver) {
        *self.unstarted() = Some(driver);
    }

    /// Why no driver runs, if none does.
    fn no_driver(&self) -> Option<NoDriver> {
        if self.hub.is_driven() {
            None
        } else if self.hub.is_abandoned() {
            Some(NoDriver::Dropped)
        } else if self.unstarted().is_some() {
            Some(NoDriver::OutsideRuntime)
        } else {
            Some(NoDriver::NotPolled)
        }
    }

    fn unstarted(&self) -> MutexGuard<'_, Option<Driver>> {
        self.unstarted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What a caller is told where there is nobody to ask.
    pub(super) fn refusal(&self, why: &PickError, lost: Option<BoxError>) -> Error {
        let no_driver = match why {
            PickError::Saturated => None,
            _ => self.no_driver(),
        };
        let error = self.hub.discovery_error();
        let hidden = error
            .as_ref()
            .is_some_and(|error| error.kind() == DiscoveryErrorKind::NotVisible);
        let (kind, source) = match why {
            PickError::Unresolved | PickError::Empty if hidden => (ErrorKind::NotVisible, error),
            PickError::Unresolved => (ErrorKind::Unresolved, error),
            PickError::Empty => (ErrorKind::Empty, error),
            PickError::NoneUsable(census) => (ErrorKind::NoneUsable(Arc::clone(census)), None),
            PickError::Saturated => (ErrorKind::Saturated, None),
        };
        let source = source.map(Into::into).or(lost);
        let source = no_driver.map(Into::into).or(source);
        Error::refused(self.hub.target.clone(), kind, source)
    }
}

impl<S, C> Clone for Balance<S, C> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<S, C> fmt::Debug for Balance<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance")
            .field("target", &self.inner.hub.target)
            .finish_non_exhaustive()
    }
}
