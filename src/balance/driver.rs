use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::futures::OwnedNotified;
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tower_service::Service;

use super::balance::Inner;
use super::dialler::Dialler;
use super::hub::{Connected, Hub};
use super::log::Log;
use super::news::News;
use crate::discovery::view::View;
use crate::error::BoxError;
use crate::event::Event;
use crate::fleet::{Dial, Fleet};
use crate::model::instance::Instance;
use crate::runtime::panic::caught;
use crate::runtime::{clock, random};

/// Answers of discovery taken in one go; a source that is always ready must not starve dials and deadlines.
const ANSWERS_AT_ONCE: usize = 64;
/// Rounds made before other tasks get their turn; the same source must not starve them either.
const ROUNDS_AT_ONCE: usize = 16;
/// Between two hints that discovery's answer may be stale.
const REFRESH_PACE: Duration = Duration::from_secs(1);

/// Feeds a [`Balance`](crate::Balance): follows discovery and dials. A future to be spawned; it ends with the last clone
/// of its balancer.
///
/// Each dial is a task of its own, spawned in the runtime that polls the driver.
///
/// # Cancellation
///
/// Dropped earlier, it takes all connections of its balancer along, and is not started again: calls fail at once, and say
/// that the driver was dropped. Ejections keep their ends.
///
/// # Panics
///
/// Polled outside a tokio runtime with timers.
#[must_use = "futures do nothing unless polled"]
pub struct Driver(Option<Box<dyn Drives>>);

impl Driver {
    pub(super) fn new<M, S, C>(
        fleet: Arc<Fleet<Connected<S, C>>>,
        hub: Arc<Hub<C>>,
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
            fleet,
            hub,
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

/// What a driver does, whatever its types.
trait Drives: Send {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    fn restart_when_dropped(&mut self);

    /// It is not polled any more, and its balancer may still be there.
    fn stop(self: Box<Self>);
}

/// A driver between its runs, and in one.
struct Drive<M, S, C> {
    fleet: Arc<Fleet<Connected<S, C>>>,
    hub: Arc<Hub<C>>,
    discovery: Arc<View>,
    connector: M,
    /// Ready when the last clone of the balancer is gone.
    ended: oneshot::Receiver<()>,
    /// Whether it runs again in another runtime.
    restarts: bool,
    run: Option<Run<S, C>>,
}

/// What belongs to the runtime that polls the driver.
struct Run<S, C> {
    fleet: Arc<Fleet<Connected<S, C>>>,
    hub: Arc<Hub<C>>,
    discovery: Arc<View>,
    /// When discovery was last told that its answer may be stale.
    refreshed: Option<Instant>,
    /// `None` once discovery has no more of it.
    news: Option<News>,
    dialler: Dialler<S>,
    /// Ready when the fleet's next deadline moved earlier, or there is something to report.
    hurry: Pin<Box<OwnedNotified>>,
    deadline: Option<(Instant, Pin<Box<Sleep>>)>,
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
        let run = match &mut self.run {
            Some(run) => run,
            run => run.insert(Run::begin(&self.fleet, &self.hub, &self.discovery)),
        };
        run.poll(cx, &mut self.connector);
        Poll::Pending
    }

    fn restart_when_dropped(&mut self) {
        self.restarts = true;
    }

    fn stop(mut self: Box<Self>) {
        let hub = Arc::clone(&self.hub);
        let Some(balance) = hub.home::<Inner<S, C>>() else {
            return;
        };
        if let Some(mut run) = self.run.take() {
            self.fleet.stop(clock::now());
            run.report();
            hub.toggle_driven();
            // A watch and dials are foreign code.
            let _ = caught(|| drop(run));
        }
        if self.restarts {
            balance.keep_driver(Driver(Some(self)));
        } else {
            hub.abandon();
        }
        hub.look_again.notify_waiters();
    }
}

impl<S: Send + Sync + 'static, C: Send + Sync + 'static> Run<S, C> {
    fn begin(
        fleet: &Arc<Fleet<Connected<S, C>>>,
        hub: &Arc<Hub<C>>,
        discovery: &Arc<View>,
    ) -> Self {
        let mut dialler = Dialler::new(random::seed());
        dialler.queue(fleet.start(clock::now()));
        hub.toggle_driven();
        Self {
            news: Some(News::of(|| discovery.watch(&hub.target))),
            discovery: Arc::clone(discovery),
            refreshed: None,
            dialler,
            hurry: Box::pin(Arc::clone(&hub.driver).notified_owned()),
            deadline: None,
            log: Log::default(),
            fleet: Arc::clone(fleet),
            hub: Arc::clone(hub),
        }
    }

    fn poll<M>(&mut self, cx: &mut Context<'_>, connector: &mut M)
    where
        M: Service<Instance, Response = S>,
        M::Future: Send + 'static,
        M::Error: Into<BoxError>,
    {
        for _ in 0..ROUNDS_AT_ONCE {
            let mut moved = self.poll_news(cx);
            moved |= self.poll_dials(cx, connector);
            moved |= self.poll_hurry(cx);
            moved |= self.poll_deadline(cx);
            self.report();
            if !moved {
                return;
            }
        }
        cx.waker().wake_by_ref();
    }

    /// Takes what discovery has to say; only the newest set counts.
    fn poll_news(&mut self, cx: &mut Context<'_>) -> bool {
        let mut newest = None;
        let mut heard = false;
        for _ in 0..ANSWERS_AT_ONCE {
            let Some(news) = &mut self.news else {
                break;
            };
            match news.poll(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(set))) => {
                    self.hub.set_discovery_error(None);
                    newest = Some(set);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.hub.set_discovery_error(Some(error.clone()));
                    self.tell(Event::DiscoveryFailed { error });
                }
                Poll::Ready(None) => {
                    self.news = None;
                    self.tell(Event::DiscoveryEnded);
                }
            }
            heard = true;
        }
        if let Some(set) = newest {
            let dials = self.fleet.apply(set, clock::now());
            self.take_on(dials);
        }
        heard
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
            self.refresh();
        }
        let mut connected = Vec::new();
        for (ticket, result) in done {
            match result {
                Ok(service) => {
                    let hub = Arc::clone(&self.hub);
                    connected.push((ticket, Connected { service, hub }));
                }
                Err(error) => {
                    // The error's text is asked for, which is foreign code.
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
    fn refresh(&mut self) {
        let now = clock::now();
        let is_soon = |at: Instant| now.saturating_duration_since(at) < REFRESH_PACE;
        if self.news.is_some() && !self.refreshed.is_some_and(is_soon) {
            self.refreshed = Some(now);
            // Foreign code; a panic of it is its own affair.
            let _ = caught(|| self.discovery.refresh(&self.hub.target));
        }
    }

    fn poll_hurry(&mut self, cx: &mut Context<'_>) -> bool {
        let hurried = self.hurry.as_mut().poll(cx).is_ready();
        if hurried {
            self.hurry = Box::pin(Arc::clone(&self.hub.driver).notified_owned());
        }
        hurried
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(next) = self.fleet.next_deadline() else {
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
        // A timer may fire a little early by the fleet's clock, but never without getting anywhere.
        let now = clock::now().max(next);
        let dials = self.fleet.on_deadline(now);
        self.take_on(dials);
        true
    }

    fn take_on(&mut self, dials: Vec<Dial>) {
        self.dialler.cancel(self.fleet.take_cancelled());
        self.dialler.queue(dials);
    }

    /// Passes on what happened, and wakes the calls that wait: their candidates may be gone, or others usable.
    fn report(&mut self) {
        let mut is_news = false;
        for event in self.fleet.take_events() {
            // A failed dial changes no candidate. In an outage there are many, and all calls wait.
            is_news |= !matches!(event, Event::DialFailed { .. });
            self.tell(event);
        }
        if is_news {
            self.hub.look_again.notify_waiters();
        }
    }

    fn tell(&mut self, event: Event) {
        self.log.write(&self.hub.target, &event, clock::now());
        self.hub.tell(event);
    }
}
