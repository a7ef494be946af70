//! The HTTP/2 connections to one instance.
//!
//! The first one is dialled by whoever makes the pool, which is the balancer's driver. The pool dials the next one itself: if
//! the server takes no more streams on those that are there, if one gets old, and if the server goes away or no stream number
//! is left. A lost connection is not replaced: once none is left, [`Checkout::poll_ready`] fails, and the driver dials anew.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::connection::{Connection, Owner, Slot, State};
use crate::http::address::Fallback;
use crate::http::age::Aging;
use crate::http::dial::{self, Peer};
use crate::http::error::ConnectError;
use crate::http::redial::{Dials, Tasks};
use crate::http::settings::Limits;
use crate::http::stream::Stream;
use crate::model::address::Address;
use crate::runtime::clock;
use crate::runtime::lock::lock;

/// After a failed dial the pool does not dial again for this time, as long as it has a connection.
const PAUSE: Duration = Duration::from_millis(500);

pub(in crate::http) struct Pool {
    peer: Peer,
    fallback: Fallback,
    limits: Limits,
    inner: Mutex<Inner>,
    /// Woken when a stream ends, and when a dial does.
    freed: Arc<Notify>,
    dials: Tasks,
}

#[derive(Default)]
struct Inner {
    connections: Vec<Arc<Connection>>,
    is_dialling: bool,
    /// Why and when the last dial failed, if no connection was opened since.
    failed: Option<(ConnectError, Instant)>,
}

/// What a claim comes to.
enum Claimed {
    Slot(Slot),
    /// A stream or a connection will be there.
    Later,
}

impl Pool {
    /// Dials `peer`, for the first connection.
    pub(in crate::http) async fn open(
        peer: Peer,
        fallback: Fallback,
        limits: Limits,
    ) -> Result<Arc<Self>, ConnectError> {
        Handle::try_current().map_err(|_| ConnectError::no_runtime(peer.addr()))?;
        let pool = Arc::new(Self {
            peer,
            fallback,
            limits,
            inner: Mutex::default(),
            freed: Arc::new(Notify::new()),
            dials: Tasks::default(),
        });
        let connection = pool.connect().await?;
        lock(&pool.inner).connections.push(connection);
        Ok(pool)
    }

    fn connect(
        self: &Arc<Self>,
    ) -> impl Future<Output = Result<Arc<Connection>, ConnectError>> + Send + use<> {
        let (peer, limits) = (self.peer.clone(), self.limits);
        let (freed, pool) = (Arc::clone(&self.freed), Arc::downgrade(self));
        async move {
            let addr = peer.addr();
            let open = async |stream: Stream| {
                let aging = Aging::new(limits.max_age);
                Connection::open(stream, addr, &limits.http2, aging, freed, Told(pool)).await
            };
            dial::connect(&peer, limits.connect_timeout, &["h2"], open).await
        }
    }

    pub(in crate::http) fn addr(&self) -> Address {
        self.peer.addr()
    }

    pub(in crate::http) fn fallback(&self) -> &Fallback {
        &self.fallback
    }

    fn claim(self: &Arc<Self>) -> Result<Claimed, ConnectError> {
        let mut inner = lock(&self.inner);
        let (gone, is_left) = inner.remove_gone();
        let most = self.limits.http2.streams_per_connection;
        let claimed = inner.reserve(most.unwrap_or(usize::MAX));
        let wants_next = match &claimed {
            Some(slot) => slot.connection().age().is_old() && !inner.has_young(),
            None if inner.connections.is_empty() => is_left,
            None => inner.connections.len() < self.limits.http2.max_connections,
        };
        let dials = wants_next && inner.may_dial();
        inner.is_dialling |= dials;
        let result = match claimed {
            Some(slot) => Ok(Claimed::Slot(slot)),
            None if inner.is_dialling || !inner.connections.is_empty() => Ok(Claimed::Later),
            None => Err(match &inner.failed {
                Some((error, _)) => error.clone(),
                None => ConnectError::closed(self.peer.addr()),
            }),
        };
        drop(inner);
        // The last holder of a connection wakes its task.
        drop(gone);
        if dials {
            self.dial();
        }
        result
    }

    fn dial(self: &Arc<Self>) {
        self.dials.dial(self, self.connect());
    }

    /// Replaces what is old, and what goes away.
    fn renew(self: &Arc<Self>) {
        let mut inner = lock(&self.inner);
        let (gone, is_left) = inner.remove_gone();
        let old = match inner.has_young() {
            true => inner.remove_old(),
            false => Vec::new(),
        };
        let wants_next = match inner.connections.is_empty() {
            true => is_left,
            false => !inner.has_young(),
        };
        let dials = wants_next && inner.may_dial();
        inner.is_dialling |= dials;
        drop(inner);
        drop((gone, old));
        if dials {
            self.dial();
        }
        self.freed.notify_waiters();
    }
}

impl Inner {
    /// Removes what takes no more streams, and says whether some of it served and was left by its server in good order.
    fn remove_gone(&mut self) -> (Vec<Arc<Connection>>, bool) {
        let mut is_left = false;
        let gone = self.connections.extract_if(.., |connection| {
            let state = connection.state();
            is_left |= state == State::Closing && connection.age().is_used();
            state != State::Open
        });
        (gone.collect(), is_left)
    }

    fn remove_old(&mut self) -> Vec<Arc<Connection>> {
        let old = |connection: &mut Arc<Connection>| connection.age().is_old();
        self.connections.extract_if(.., old).collect()
    }

    /// A stream of the young connection with the fewest, else of an old one.
    fn reserve(&self, most: usize) -> Option<Slot> {
        let connections = self.connections.iter();
        connections
            .filter(|connection| connection.has_room(most))
            .min_by_key(|connection| (connection.age().is_old(), connection.streams()))?
            .reserve(most)
    }

    fn has_young(&self) -> bool {
        let mut connections = self.connections.iter();
        connections.any(|connection| !connection.age().is_old())
    }

    fn may_dial(&self) -> bool {
        let is_pause = |failed: Instant| clock::now().saturating_duration_since(failed) < PAUSE;
        let has_failed = self.failed.as_ref();
        !self.is_dialling && !has_failed.is_some_and(|(_, failed)| is_pause(*failed))
    }
}

/// What a connection tells of itself.
struct Told(Weak<Pool>);

impl Owner for Told {
    fn aged(&self) {
        if let Some(pool) = self.0.upgrade() {
            pool.renew();
        }
    }

    fn ended(&self) {
        self.aged();
    }

    fn has_open(&self) -> bool {
        self.0.upgrade().is_some_and(|pool| {
            let inner = lock(&pool.inner);
            let mut connections = inner.connections.iter();
            connections.any(|connection| connection.state() == State::Open)
        })
    }
}

impl Dials for Pool {
    type Connection = Arc<Connection>;

    fn addr(&self) -> Address {
        self.peer.addr()
    }

    fn dialled(&self, connection: Result<Arc<Connection>, ConnectError>) {
        let mut inner = lock(&self.inner);
        inner.is_dialling = false;
        let old = match connection {
            Ok(connection) => {
                inner.failed = None;
                let old = inner.remove_old();
                inner.connections.push(connection);
                old
            }
            Err(error) => {
                let is_distrust = error.is_distrust();
                inner.failed = Some((error, clock::now()));
                match is_distrust {
                    true => inner.remove_old(),
                    false => Vec::new(),
                }
            }
        };
        drop(inner);
        drop(old);
        self.freed.notify_waiters();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = lock(&self.inner);
        f.debug_struct("Pool")
            .field("addr", &self.peer.addr())
            .field("connections", &inner.connections.len())
            .field("is_dialling", &inner.is_dialling)
            .finish_non_exhaustive()
    }
}

/// A claim to one stream, for one request. Dropped before that it leaves the stream to others.
pub(in crate::http) struct Checkout {
    pool: Arc<Pool>,
    slot: Option<Slot>,
    waiting: Option<Pin<Box<OwnedNotified>>>,
}

impl Checkout {
    pub(in crate::http) fn new(pool: Arc<Pool>) -> Self {
        Self {
            pool,
            slot: None,
            waiting: None,
        }
    }

    pub(in crate::http) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Ready when a stream is reserved.
    pub(in crate::http) fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectError>> {
        loop {
            if let Some(slot) = &self.slot {
                if slot.connection().state() == State::Open {
                    return Poll::Ready(Ok(()));
                }
                self.slot = None;
            }
            match self.pool.claim()? {
                Claimed::Slot(slot) => {
                    self.slot = Some(slot);
                    self.waiting = None;
                    return Poll::Ready(Ok(()));
                }
                Claimed::Later => {
                    let wait = || Box::pin(Arc::clone(&self.pool.freed).notified_owned());
                    let is_new = self.waiting.is_none();
                    let waiting = self.waiting.get_or_insert_with(wait);
                    // What was freed before it waited is seen by the next claim.
                    if is_new {
                        waiting.as_mut().enable();
                        continue;
                    }
                    ready!(waiting.as_mut().poll(cx));
                    self.waiting = None;
                }
            }
        }
    }

    pub(in crate::http) fn take(&mut self) -> Option<Slot> {
        self.slot.take()
    }
}
