//! The dials that a pool makes by itself. They end with it.

use std::sync::{Arc, Mutex, Weak};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::error::ConnectError;
use crate::model::address::Address;
use crate::runtime::lock::lock;

/// A pool that dials.
pub(super) trait Dials: Send + Sync + 'static {
    type Connection: Send + 'static;

    fn addr(&self) -> Address;

    /// Called once for each dial that was started.
    fn dialled(&self, connection: Result<Self::Connection, ConnectError>);
}

/// The tasks of a pool. They stand apart from its state: a runtime that is shutting down drops a dial while it is spawned, and
/// the drop locks the state.
#[derive(Default)]
pub(super) struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    /// Starts a task that ends with the pool. Must be called inside a runtime.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        lock(&self.0).spawn(task);
    }

    /// Starts a dial.
    pub(super) fn dial<P, C>(&self, pool: &Arc<P>, connecting: C)
    where
        P: Dials,
        C: Future<Output = Result<P::Connection, ConnectError>> + Send + 'static,
    {
        let mut dial = Dial {
            pool: Arc::downgrade(pool),
            is_over: false,
        };
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let mut tasks = lock(&self.0);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(
            async move {
                let connection = connecting.await;
                dial.end(connection);
            },
            &runtime,
        );
    }
}

/// A dial of a pool, which is told of its end even if its runtime ends first.
struct Dial<P: Dials> {
    pool: Weak<P>,
    is_over: bool,
}

impl<P: Dials> Dial<P> {
    fn end(&mut self, connection: Result<P::Connection, ConnectError>) {
        self.is_over = true;
        if let Some(pool) = self.pool.upgrade() {
            pool.dialled(connection);
        }
    }
}

impl<P: Dials> Drop for Dial<P> {
    fn drop(&mut self) {
        if !self.is_over
            && let Some(pool) = self.pool.upgrade()
        {
            pool.dialled(Err(ConnectError::no_runtime(pool.addr())));
        }
    }
}
