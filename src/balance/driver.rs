use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::futures::OwnedNotified;
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tower_service::Service;

use super::dialler::Dialler;
use super::inner::{Connected, Inner};
use super::log::Log;
use super::shared::Shared;
use super::watch::Watch;
use crate::discovery::view::View;
use crate::error::BoxError;
use crate::event::Event;
use crate::event::dial::DialError;
use crate::fleet::{Dial, Fleet, PickError};
use crate::model::instance::Instance;
use crate::runtime::panic::caught;
use crate::runtime::{clock, random};

/// Answers of discovery that one round takes. A stream that is always ready must not starve dials and deadlines.
const ANSWERS_PER_ROUND: usize = 64;
/// Rounds of one poll. The same stream must not starve other tasks either.
const ROUNDS_PER_POLL: usize = 16;
/// The shortest time between two hints that the answer of discovery may be stale.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// A future that follows discovery and dials for a [`Balance`](crate::Balance). Spawn it as a task.
///
/// It is ready when the last clone of its balancer is dropped. Each dial is a task of its own, spawned in the runtime that
/// polls the driver.
///
/// # Cancellation
///
/// If it is dropped earlier, all connections of its balancer close, and no driver starts again. Calls fail at once, and
/// their errors say that the driver was dropped. Ejections end when they would have ended.
///
/// # Panics
///
/// If polled outside a tokio runtime with timers.
#[must_use = "futures do nothing unless polled"]
pub struct Driver(Option<Box<dyn Drives>>);

impl Driver {
    pub(super) fn new<M, S, C>(
        balancer: &Arc<Inner<S, C>>,
        discovery: View,
        connector: M,
        ended: oneshot::Receiver<()>,
    ) -> Self
    where
        M: Service<Instance, Response = S> + Send + 'static,
        M::Future: Send + 'static,
        M::Error: Into<BoxError>,
        S: Send + Sync + 'static,
        C: Send + Sync + 'static,
    {
        Self(Some(Box::new(Drive {
            fleet: Arc::clone(&balancer.fleet),
            shared: Arc::clone(&balancer.shared),
            balancer: Arc::downgrade(balancer),
            discovery: Arc::new(discovery),
            connector,
            ended,
            restarts: false,
            run: None,
        })))
    }

    /// Lets its balancer start it again after it was dropped.
    pub(super) fn restarting(mut self) -> Self {
        if let Some(drive) = &mut self.0 {
            drive.restart_when_dropped();
        }
        self
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(drive) = &mut self.0 {
            ready!(drive.poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(drive) = self.0.take() {
            drive.stop();
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// A driver without its type parameters.
trait Drives: Send {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    fn restart_when_dropped(&mut self);

    /// Called when the driver is dropped. Its balancer may still exist.
    fn stop(self: Box<Self>);
}

/// A driver, with the state of its current run if there is one.
struct Drive<M, S, C> {
    fleet: Arc<Fleet<Connected<S, C>>>,
    shared: Arc<Shared<C>>,
    balancer: Weak<Inner<S, C>>,
    discovery: Arc<View>,
    connector: M,
    /// Ready when the last clone of the balancer is gone.
    ended: oneshot::Receiver<()>,
    /// Whether it runs again in another runtime.
    restarts: bool,
    run: Option<Run<S, C>>,
}

/// The part of a driver that belongs to the runtime that polls it.
struct Run<S, C> {
    fleet: Arc<Fleet<Connected<S, C>>>,
    shared: Arc<Shared<C>>,
    /// `None` once discovery's stream has ended.
    watch: Option<Watch>,
    discovery: Arc<View>,
    /// When discovery last got a hint that its answer may be stale.
    refreshed: Option<Instant>,
    dialler: Dialler<S>,
    /// Ready when the fleet's next deadline moved earlier, or there is something to report.
    wake_up: Pin<Box<OwnedNotified>>,
    deadline: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Errors of discovery since its last set, and when the first came.
    discovery_errors: Option<(u32, Instant)>,
    /// Since when no member is usable, as last reported as unavailable.
    unavailable_since: Option<Instant>,
    /// Why the last dial failed.
    dial_error: Option<Arc<DialError>>,
    log: Log,
}

impl<M, S, C> Drives for Drive<M, S, C>
where
    M: Service<Instance, Response = S> + Send + 'static,
    M::Future: Send + 'static,
    M::Error: Into<BoxError>,
    S: Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if Pin::new(&mut self.ended).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if self.run.is_none() {
            self.run = Some(Run::begin(self));
        }
        if let Some(run) = &mut self.run {
            run.poll(cx, &mut self.connector);
        }
        Poll::Pending
    }

    fn restart_when_dropped(&mut self) {
        self.restarts = true;
    }

    fn stop(mut self: Box<Self>) {
        let Some(balancer) = self.balancer.upgrade() else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        if let Some(mut run) = self.run.take() {
            self.fleet.stop(clock::now());
            run.report();
            shared.toggle_driven();
            // The watch and the dials are foreign code.
            let _ = caught(|| drop(run));
        }
        if self.restarts {
            balancer.keep_driver(Box::pin(Driver(Some(self))));
        } else {
            shared.abandon();
        }
        shared.look_again.notify_waiters();
    }
}

impl<S: Send + Sync + 'static, C: Send + Sync + 'static> Run<S, C> {
    fn begin<M>(drive: &Drive<M, S, C>) -> Self {
        let (fleet, shared) = (Arc::clone(&drive.fleet), Arc::clone(&drive.shared));
        let discovery = Arc::clone(&drive.discovery);
        let mut dialler = Dialler::new(random::seed());
        dialler.queue(fleet.start(clock::now()));
        shared.toggle_driven();
        Self {
            watch: Some(Watch::open(|| discovery.watch(&shared.target))),
            discovery,
            refreshed: None,
            dialler,
            wake_up: Box::pin(Arc::clone(&shared.driver).notified_owned()),
            deadline: None,
            discovery_errors: None,
            unavailable_since: None,
            dial_error: None,
            log: Log::default(),
            fleet,
            shared,
        }
    }

    fn poll<M>(&mut self, cx: &mut Context<'_>, connector: &mut M)
    where
        M: Service<Instance, Response = S>,
        M::Future: Send + 'static,
        M::Error: Into<BoxError>,
    {
        for _ in 0..ROUNDS_PER_POLL {
            let mut moved = self.poll_watch(cx);
            moved |= self.poll_dials(cx, connector);
            moved |= self.poll_wake_up(cx);
            moved |= self.poll_deadline(cx);
            self.report();
            if !moved {
                return;
            }
        }
        cx.waker().wake_by_ref();
    }

    /// Takes the answers of discovery. Of several sets only the newest is applied.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> bool {
        let mut newest = None;
        let mut answered = false;
        for _ in 0..ANSWERS_PER_ROUND {
            let Some(watch) = &mut self.watch else {
                break;
            };
            match watch.poll(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(set))) => {
                    // A provisional set, such as a cached one, does not end an error of discovery.
                    if set.provisional_age().is_none() {
                        self.shared.set_discovery_error(None);
                        if let Some((errors, since)) = self.discovery_errors.take() {
                            let after = clock::now().saturating_duration_since(since);
                            self.publish(Event::DiscoveryRecovered { errors, after });
                        }
                    }
                    newest = Some(set);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.shared.set_discovery_error(Some(error.clone()));
                    let first = (0, clock::now());
                    let (errors, _) = self.discovery_errors.get_or_insert(first);
                    *errors = errors.saturating_add(1);
                    let errors = *errors;
                    self.publish(Event::DiscoveryFailed { error, errors });
                }
                Poll::Ready(None) => {
                    self.watch = None;
                    self.publish(Event::DiscoveryEnded);
                }
            }
            answered = true;
        }
        if let Some(set) = newest {
            let dials = self.fleet.apply(set, clock::now());
            self.queue(dials);
            self.report();
            self.log.set_applied(&self.shared.target);
        }
        answered
    }

    fn poll_dials<M>(&mut self, cx: &mut Context<'_>, connector: &mut M) -> bool
    where
        M: Service<Instance, Response = S>,
        M::Future: Send + 'static,
        M::Error: Into<BoxError>,
    {
        let config = self.fleet.config();
        let is_unusable = self.fleet.unusable_since().is_some();
        let done = self.dialler.poll(cx, connector, &config, is_unusable);
        if done.is_empty() {
            return false;
        }
        if is_unusable || done.iter().any(|(_, result)| result.is_err()) {
            self.refresh(clock::now());
        }
        let mut connected = Vec::new();
        for (ticket, result) in done {
            match result {
                Ok(service) => {
                    let service = Connected {
                        service,
                        shared: Arc::clone(&self.shared),
                    };
                    connected.push((ticket, service));
                }
                Err(error) => {
                    // The fleet formats the error, which is foreign code.
                    let failed =
                        |error| self.fleet.dial_failed(ticket.clone(), error, clock::now());
                    if let Err(panic) = caught(|| failed(error)) {
                        failed(panic.into());
                    }
                }
            }
        }
        self.fleet.connected(connected, clock::now());
        true
    }

    /// Tells discovery that its answer may be stale, at most once a second.
    fn refresh(&mut self, now: Instant) {
        let is_soon = |at: Instant| now.saturating_duration_since(at) < REFRESH_INTERVAL;
        if self.watch.is_some() && !self.refreshed.is_some_and(is_soon) {
            self.refreshed = Some(now);
            // Foreign code: a panic in it does not end the driver.
            let _ = caught(|| self.discovery.refresh(&self.shared.target));
        }
    }

    fn poll_wake_up(&mut self, cx: &mut Context<'_>) -> bool {
        let is_woken = self.wake_up.as_mut().poll(cx).is_ready();
        if is_woken {
            self.wake_up = Box::pin(Arc::clone(&self.shared.driver).notified_owned());
        }
        is_woken
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> bool {
        let (unavailable, refresh) = (self.unavailable_at(), self.refresh_at());
        let next = [self.fleet.next_deadline(), unavailable, refresh];
        let Some(next) = next.into_iter().flatten().min() else {
            self.deadline = None;
            return false;
        };
        let sleep = match &mut self.deadline {
            Some((at, sleep)) if *at == next => sleep,
            deadline => {
                let sleep = Box::pin(tokio::time::sleep_until(next.into()));
                &mut deadline.insert((next, sleep)).1
            }
        };
        if sleep.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.deadline = None;
        // A timer may fire a little early by the fleet's clock. Without `max` the same deadline would be due again.
        let now = clock::now().max(next);
        let dials = self.fleet.on_deadline(now);
        self.queue(dials);
        if unavailable.is_some_and(|at| at <= now) {
            self.report_unavailable(now);
        }
        if refresh.is_some_and(|at| at <= now) {
            self.refresh(now);
        }
        true
    }

    /// When to tell discovery again that nothing is usable: a second after the last time, or after that began.
    fn refresh_at(&self) -> Option<Instant> {
        let since = self
            .fleet
            .unusable_since()
            .filter(|_| self.watch.is_some())?;
        let last = self.refreshed.map_or(since, |last| last.max(since));
        last.checked_add(REFRESH_INTERVAL)
    }

    /// When calls begin to fail because no member is usable, unless that is reported already.
    fn unavailable_at(&self) -> Option<Instant> {
        let since = self.fleet.unusable_since()?;
        let is_reported = self.unavailable_since == Some(since);
        let after = self.fleet.config().unavailable_after();
        since.checked_add(after).filter(|_| !is_reported)
    }

    fn report_unavailable(&mut self, now: Instant) {
        let Some(since) = self.fleet.unusable_since() else {
            return;
        };
        self.unavailable_since = Some(since);
        let Some(why) = self.fleet.why_unusable() else {
            return;
        };
        let (census, cause) = match why {
            PickError::NoneUsable(census) => {
                let census = census.to_string();
                // The census counts dials by their labels: they are not repeated.
                let cause = self.dial_error.as_ref().and_then(|error| {
                    if census.contains(error.label()) {
                        error.detail()
                    } else {
                        Some(error.brief())
                    }
                });
                (census, cause)
            }
            why => {
                let cause = self.shared.discovery_error();
                (why.to_string(), cause.map(|error| error.with_causes()))
            }
        };
        let since = now.saturating_duration_since(since);
        self.publish(Event::Unavailable {
            census,
            cause,
            since,
        });
    }

    fn queue(&mut self, dials: Vec<Dial>) {
        self.dialler.cancel(self.fleet.take_cancelled());
        self.dialler.queue(dials);
    }

    /// Publishes the fleet's events, and wakes waiting calls: their candidates may be gone, or others usable.
    fn report(&mut self) {
        let mut wakes_calls = false;
        for event in self.fleet.take_events() {
            // A failed dial changes no candidate. In an outage there are many of them, and many calls wait.
            wakes_calls |= !matches!(event, Event::DialFailed { .. } | Event::Unreachable { .. });
            match &event {
                Event::DialFailed { error, .. } => self.dial_error = Some(Arc::clone(error)),
                Event::Usable { .. } => self.dial_error = None,
                _ => {}
            }
            self.publish(event);
        }
        if wakes_calls {
            self.shared.look_again.notify_waiters();
        }
    }

    fn publish(&mut self, event: Event) {
        self.log.write(&self.shared.target, &event, clock::now());
        self.shared.publish(event);
    }
}
