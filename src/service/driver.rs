use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::futures::OwnedNotified;
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tower_service::Service;

use super::clock;
use super::dialler::Dialler;
use super::hub::{Connected, Hub};
use super::log::Log;
use super::news::News;
use super::unwound::caught;
use crate::discovery::Discovery;
use crate::fleet::{Dial, Fleet};
use crate::{BoxError, Event, Instance};

/// Answers of discovery taken in one go; a source that is always ready must not starve dials and deadlines.
const ANSWERS_AT_ONCE: usize = 64;
/// Rounds made before other tasks get their turn; the same source must not starve them either.
const ROUNDS_AT_ONCE: usize = 16;

/// Feeds a [`Balance`](crate::Balance): follows discovery and dials. A future to be spawned; it ends with the last clone
/// of its balancer.
///
/// # Cancellation
///
/// Dropped earlier, the balancer goes on with the connections it has and learns nothing new. Nobody would end an ejection
/// then, so all that were ejected are back, and no more are, not by hand either.
///
/// # Panics
///
/// Polled outside a tokio runtime with timers.
#[must_use = "futures do nothing unless polled"]
pub struct Driver(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Driver {
    pub(super) fn new<M, S, C>(
        fleet: Arc<Fleet<Connected<S, C>>>,
        hub: Arc<Hub<C>>,
        discovery: Arc<dyn Discovery>,
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
        Self(Box::pin(async move {
            fleet.restart_wait(clock::now());
            hub.driven.store(true, Release);
            let mut drive = Drive {
                news: Some(News::of(|| discovery.watch(&hub.target))),
                dialler: Dialler::new(connector),
                hurry: Box::pin(Arc::clone(&hub.driver).notified_owned()),
                deadline: None,
                ended,
                log: Log::default(),
                fleet,
                hub,
            };
            poll_fn(move |cx| drive.poll(cx)).await;
        }))
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

struct Drive<M, S, C> {
    fleet: Arc<Fleet<Connected<S, C>>>,
    hub: Arc<Hub<C>>,
    /// `None` once discovery has no more of it.
    news: Option<News>,
    dialler: Dialler<M, S>,
    /// Ready when the fleet's next deadline moved earlier, or there is something to report.
    hurry: Pin<Box<OwnedNotified>>,
    deadline: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Ready when the last clone of the balancer is gone.
    ended: oneshot::Receiver<()>,
    log: Log,
}

impl<M, S, C> Drive<M, S, C>
where
    M: Service<Instance, Response = S> + Send + 'static,
    M::Future: Send + 'static,
    M::Error: Into<BoxError>,
    S: Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS_AT_ONCE {
            if Pin::new(&mut self.ended).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut moved = self.poll_news(cx);
            moved |= self.poll_dials(cx);
            moved |= self.poll_hurry(cx);
            moved |= self.poll_deadline(cx);
            self.report();
            if !moved {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
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

    fn poll_dials(&mut self, cx: &mut Context<'_>) -> bool {
        let config = self.fleet.config();
        let done = self
            .dialler
            .poll(cx, &config, |ticket| self.fleet.awaits(ticket));
        if done.is_empty() {
            return false;
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
        self.dialler
            .queue(dials, |ticket| self.fleet.awaits(ticket));
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
        // Nobody may be listening.
        let _ = self.hub.events.send(event);
    }
}

/// Without a driver loads go on to be learnt.
impl<M, S, C> Drop for Drive<M, S, C> {
    fn drop(&mut self) {
        self.fleet.stop(clock::now());
    }
}
