use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep, timeout};
use tower_service::Service;

use super::unwound::{Panicked, caught};
use crate::fleet::{Dial, Ticket};
use crate::{BalanceConfig, BoxError, Instance};

/// How a dial ended.
pub(super) type Dialled<S> = (Ticket, Result<S, BoxError>);

/// Dials by a connector, several at once, the others in turn; and only for as long as somebody awaits the outcome.
pub(super) struct Dialler<M, S> {
    connector: M,
    waiting: VecDeque<Dial>,
    /// Yields `Ok(None)` for a dial that was given up.
    running: FuturesUnordered<BoxFuture<'static, Dialled<Option<S>>>>,
    /// The dials under way; each is given up when its sender is dropped.
    wanted: HashMap<Ticket, oneshot::Sender<()>>,
    /// Until when the connector has to get ready for the first dial that waits.
    ready_by: Option<Pin<Box<Sleep>>>,
}

impl<M, S> Dialler<M, S>
where
    M: Service<Instance, Response = S>,
    M::Future: Send + 'static,
    M::Error: Into<BoxError>,
    S: Send + 'static,
{
    pub(super) fn new(connector: M) -> Self {
        Self {
            connector,
            waiting: VecDeque::new(),
            running: FuturesUnordered::new(),
            wanted: HashMap::new(),
            ready_by: None,
        }
    }

    /// Takes on more dials, and gives up those whose outcome nobody awaits any more. What waits is looked at when it grows.
    pub(super) fn queue(&mut self, dials: Vec<Dial>, awaited: impl Fn(&Ticket) -> bool) {
        self.wanted.retain(|ticket, _| awaited(ticket));
        if !dials.is_empty() {
            self.drop_first(&awaited);
            self.waiting.retain(|dial| awaited(&dial.ticket));
        }
        self.waiting.extend(dials);
    }

    /// Gives up the first ones of those that wait, as long as nobody awaits them. The connector has its time to get ready for
    /// the next.
    fn drop_first(&mut self, awaited: impl Fn(&Ticket) -> bool) {
        while self
            .waiting
            .pop_front_if(|dial| !awaited(&dial.ticket))
            .is_some()
        {
            self.ready_by = None;
        }
    }

    /// Begins what can begin, and returns what has ended. Dials that nobody awaits any more are not begun.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        config: &BalanceConfig,
        awaited: impl Fn(&Ticket) -> bool,
    ) -> Vec<Dialled<S>> {
        let mut ended = Vec::new();
        loop {
            while let Poll::Ready(Some((ticket, outcome))) = self.running.poll_next_unpin(cx) {
                self.wanted.remove(&ticket);
                ended.extend(outcome.transpose().map(|result| (ticket, result)));
            }
            self.drop_first(&awaited);
            if self.waiting.is_empty() || self.running.len() >= config.connect_concurrency() {
                return ended;
            }
            let ready = self.poll_connector(cx, config.connect_timeout());
            let Poll::Ready(ready) = ready else {
                return ended;
            };
            self.ready_by = None;
            let Some(dial) = self.waiting.pop_front() else {
                return ended;
            };
            match ready {
                Ok(()) => self.begin(dial, config.connect_timeout()),
                Err(error) => ended.push((dial.ticket, Err(error))),
            }
        }
    }

    fn poll_connector(
        &mut self,
        cx: &mut Context<'_>,
        patience: Duration,
    ) -> Poll<Result<(), BoxError>> {
        match caught(|| self.connector.poll_ready(cx).map_err(Into::into)) {
            Ok(Poll::Ready(result)) => return Poll::Ready(result),
            Err(panic) => return Poll::Ready(Err(panic.into())),
            Ok(Poll::Pending) => {}
        }
        let ready_by = self
            .ready_by
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        ready_by.as_mut().poll(cx).map(|()| Err(late(patience)))
    }

    fn begin(&mut self, dial: Dial, patience: Duration) {
        let Dial { ticket, instance } = dial;
        let (wanted, given_up) = oneshot::channel();
        self.wanted.insert(ticket.clone(), wanted);
        let dialling = caught(|| self.connector.call(instance));
        // All that is the connector's ends in here, also by being dropped.
        let outcome = AssertUnwindSafe(async move {
            match select(pin!(timeout(patience, dialling?)), given_up).await {
                Either::Left((Ok(result), _)) => result.map(Some).map_err(Into::into),
                Either::Left((Err(_), _)) => Err(late(patience)),
                Either::Right(_) => Ok(None),
            }
        });
        self.running.push(Box::pin(async move {
            let outcome = outcome.catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|panic| Err(Panicked::new(panic).into()));
            (ticket, outcome)
        }));
    }
}

fn late(patience: Duration) -> BoxError {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no connection within {patience:?}"),
    )
    .into()
}
