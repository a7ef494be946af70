use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Sleep, sleep, timeout};
use tower_service::Service;

use super::unwound::{Panicked, caught};
use crate::fleet::{Dial, Ticket};
use crate::{BalanceConfig, BoxError, Instance};

/// How a dial ended.
pub(super) type Dialled<S> = (Ticket, Result<S, BoxError>);

/// Dials by a connector, several at once, the others in turn.
pub(super) struct Dialler<M, S> {
    connector: M,
    waiting: VecDeque<Dial>,
    running: FuturesUnordered<BoxFuture<'static, Dialled<S>>>,
    /// Until when the connector has to get ready for the next dial.
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
            ready_by: None,
        }
    }

    pub(super) fn queue(&mut self, dials: Vec<Dial>) {
        self.waiting.extend(dials);
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
            while let Poll::Ready(Some(dialled)) = self.running.poll_next_unpin(cx) {
                ended.push(dialled);
            }
            while self
                .waiting
                .front()
                .is_some_and(|dial| !awaited(&dial.ticket))
            {
                self.waiting.pop_front();
            }
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
        match caught(|| self.connector.poll_ready(cx)) {
            Ok(Poll::Ready(result)) => return Poll::Ready(result.map_err(Into::into)),
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
        match caught(|| self.connector.call(instance)) {
            Err(panic) => {
                let ended = std::future::ready((ticket, Err(panic.into())));
                self.running.push(Box::pin(ended));
            }
            Ok(dialling) => self.running.push(Box::pin(async move {
                let dialling = AssertUnwindSafe(dialling).catch_unwind();
                let result = match timeout(patience, dialling).await {
                    Ok(Ok(result)) => result.map_err(Into::into),
                    Ok(Err(panic)) => Err(Panicked::new(panic).into()),
                    Err(_) => Err(late(patience)),
                };
                (ticket, result)
            })),
        }
    }
}

fn late(patience: Duration) -> BoxError {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no connection within {patience:?}"),
    )
    .into()
}
