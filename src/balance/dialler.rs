use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Sleep, sleep, sleep_until, timeout};
use tower_service::Service;

use super::check::Check;
use crate::error::BoxError;
use crate::fleet::{BalanceConfig, Dial, Ticket};
use crate::model::instance::Instance;
use crate::runtime::clock;
use crate::runtime::panic::{Panicked, caught};

/// A dial that takes longer is silent: most likely its packets are dropped.
const SILENT_AFTER: Duration = Duration::from_millis(250);
/// The most dials at once while nothing is usable, silent ones included, as a multiple of `connect_concurrency`.
const MAX_WITH_SILENT: usize = 8;

/// How a dial ended.
pub(super) type Dialled<S> = (Ticket, Result<Fresh<S>, BoxError>);

/// The service of a new connection, and the outcome of its check, if there is a check.
pub(super) struct Fresh<S> {
    pub(super) service: S,
    pub(super) checked: Option<Result<(), BoxError>>,
}

/// Runs dials, each in a task of its own, and limits how many run at once.
///
/// Instances that were never tried go first, so that hundreds of dead ones do not delay a few live ones. Among those the order
/// is random, so that a fleet of callers does not dial the same instance first. While nothing is usable, silent dials do not
/// count towards the limit.
pub(super) struct Dialler<S> {
    untried: Vec<Dial>,
    redials: Vec<Dial>,
    /// The dial that waits for the connector to get ready, and how long it may wait.
    next: Option<(Dial, Option<Pin<Box<Sleep>>>)>,
    tasks: JoinSet<Dialled<S>>,
    /// The running dials whose outcome is still wanted.
    running: HashMap<Ticket, Running>,
    /// When the next running dial becomes silent.
    silence: Option<(Instant, Pin<Box<Sleep>>)>,
    rng: SmallRng,
}

struct Running {
    task: AbortHandle,
    begun: Instant,
}

impl<S: Send + 'static> Dialler<S> {
    /// `seed` determines the order of dials.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            untried: Vec::new(),
            redials: Vec::new(),
            next: None,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            silence: None,
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    pub(super) fn queue(&mut self, dials: Vec<Dial>) {
        for dial in dials {
            let queue = match dial.is_redial {
                true => &mut self.redials,
                false => &mut self.untried,
            };
            queue.push(dial);
        }
    }

    /// Gives up dials that run or are queued.
    pub(super) fn cancel(&mut self, cancelled: Vec<Ticket>) {
        let cancelled: HashSet<_> = cancelled.into_iter().collect();
        if cancelled.is_empty() {
            return;
        }
        for ticket in &cancelled {
            if let Some(running) = self.running.remove(ticket) {
                running.task.abort();
            }
        }
        for queue in [&mut self.untried, &mut self.redials] {
            queue.retain(|dial| !cancelled.contains(&dial.ticket));
        }
        // The next dial gives the connector the full time to get ready.
        self.next
            .take_if(|(dial, _)| cancelled.contains(&dial.ticket));
    }

    /// Starts dials as far as the limit allows, and returns those that have ended.
    pub(super) fn poll<M>(
        &mut self,
        cx: &mut Context<'_>,
        connector: &mut M,
        check: Option<&Check<S>>,
        config: &BalanceConfig,
        is_unusable: bool,
    ) -> Vec<Dialled<S>>
    where
        M: Service<Instance, Response = S>,
        M::Future: Send + 'static,
        M::Error: Into<BoxError>,
    {
        let patience = config.connect_timeout();
        let mut ended = Vec::new();
        loop {
            while let Poll::Ready(Some(done)) = self.tasks.poll_join_next(cx) {
                ended.extend(self.end(done));
            }
            if self.next.is_none() {
                self.next = self.choose().map(|dial| (dial, None));
            }
            if self.next.is_none() || !self.has_room(cx, config.connect_concurrency(), is_unusable)
            {
                return ended;
            }
            let Poll::Ready(ready) = self.poll_connector(cx, connector, patience) else {
                return ended;
            };
            let Some((dial, _)) = self.next.take() else {
                return ended;
            };
            match ready {
                Ok(()) => self.begin(dial, connector, check.cloned(), patience),
                Err(error) => ended.push((dial.ticket, Err(error))),
            }
        }
    }

    /// The outcome of a dial, unless it was given up.
    fn end(&mut self, done: Result<Dialled<S>, JoinError>) -> Option<Dialled<S>> {
        match done {
            Ok((ticket, result)) => {
                self.running.remove(&ticket);
                Some((ticket, result))
            }
            // Aborted by `cancel`, or by the end of a runtime that is not the driver's.
            Err(error) => {
                let mut running = self.running.iter();
                let (ticket, _) = running.find(|(_, running)| running.task.id() == error.id())?;
                let ticket = ticket.clone();
                self.running.remove(&ticket);
                Some((ticket, Err(error.into())))
            }
        }
    }

    fn choose(&mut self) -> Option<Dial> {
        let queue = match self.untried.is_empty() {
            true => &mut self.redials,
            false => &mut self.untried,
        };
        let count = queue.len();
        (count > 0).then(|| queue.swap_remove(self.rng.random_range(..count)))
    }

    /// Whether one more dial may start.
    fn has_room(&mut self, cx: &mut Context<'_>, limit: usize, is_unusable: bool) -> bool {
        if self.tasks.len() < limit {
            return true;
        }
        if !is_unusable || self.tasks.len() >= limit.saturating_mul(MAX_WITH_SILENT) {
            return false;
        }
        let mut now = clock::now();
        loop {
            let silent_at = self.running.values().map(|dial| dial.begun + SILENT_AFTER);
            let counting = silent_at.filter(|at| *at > now);
            let (count, first) = counting.fold((0, None), |(count, first), at| {
                (
                    count + 1,
                    Some(first.map_or(at, |first: Instant| first.min(at))),
                )
            });
            let Some(first) = first.filter(|_| count >= limit) else {
                return true;
            };
            let sleep = match &mut self.silence {
                Some((at, sleep)) if *at == first => sleep,
                silence => {
                    let sleep = Box::pin(sleep_until(first.into()));
                    &mut silence.insert((first, sleep)).1
                }
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            // A timer may fire a little early.
            now = now.max(first);
        }
    }

    fn poll_connector<M>(
        &mut self,
        cx: &mut Context<'_>,
        connector: &mut M,
        patience: Duration,
    ) -> Poll<Result<(), BoxError>>
    where
        M: Service<Instance>,
        M::Error: Into<BoxError>,
    {
        match caught(|| connector.poll_ready(cx).map_err(Into::into)) {
            Ok(Poll::Ready(result)) => return Poll::Ready(result),
            Err(panic) => return Poll::Ready(Err(panic.into())),
            Ok(Poll::Pending) => {}
        }
        let Some((_, ready_by)) = &mut self.next else {
            return Poll::Pending;
        };
        let ready_by = ready_by.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready_by.as_mut().poll(cx).map(|()| Err(late(patience)))
    }

    fn begin<M>(
        &mut self,
        dial: Dial,
        connector: &mut M,
        check: Option<Check<S>>,
        patience: Duration,
    ) where
        M: Service<Instance, Response = S>,
        M::Future: Send + 'static,
        M::Error: Into<BoxError>,
    {
        let ticket = dial.ticket.clone();
        let instance = dial.instance.clone();
        let dialling = caught(|| connector.call(dial.instance));
        // All foreign values are used and dropped inside, where a panic is caught.
        let outcome = AssertUnwindSafe(async move {
            let service = match timeout(patience, dialling?).await {
                Ok(result) => result.map_err(Into::into)?,
                Err(_) => return Err(late(patience)),
            };
            let checking = check.map(|check| check.run(&service, instance, patience));
            let checked = match checking {
                Some(checking) => Some(checking.await),
                None => None,
            };
            Ok(Fresh { service, checked })
        });
        let task = self.tasks.spawn(async move {
            let outcome = outcome.catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|panic| Err(Panicked::new(panic).into()));
            (ticket, outcome)
        });
        let begun = clock::now();
        self.running.insert(dial.ticket, Running { task, begun });
    }
}

fn late(patience: Duration) -> BoxError {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no connection within {patience:?}"),
    )
    .into()
}
