//! The HTTP/1.1 connections to one instance.
//!
//! A claim gets the idle connection that was used last, so that what a burst opened stays idle and is closed. Without one it
//! waits, and starts a dial if more claims wait than dials are under way. Every connection that opens or is freed goes to the
//! claim that waited longest, and so does the failure of a dial: a claim that is given up, or served by a freed connection
//! first, leaves its dial to the others, the next one included. So claims that come and go, as they do at a lost instance while
//! another one is ready, neither dial each for itself nor keep from the balancer that the instance is lost.
//!
//! An old connection serves until a young one is there. The first claim to get an old one dials for that, and so does the
//! connection itself while there is no claim.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use http_body::Body;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::connection::{Connection, Owner};
use crate::error::BoxError;
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

/// After a failed dial no old connection is replaced for this time.
const PAUSE: Duration = Duration::from_millis(500);
/// Idle connections are looked through this many times in their idle timeout, so they are closed at most a quarter late.
const LOOKS: u32 = 4;

pub(in crate::http) struct Pool<B> {
    peer: Peer,
    fallback: Fallback,
    limits: Limits,
    store: Mutex<Store<B>>,
    tasks: Tasks,
}

struct Store<B> {
    /// Whether connections get old.
    ages: bool,
    /// The one used last is the last.
    idle: Vec<Connection<B>>,
    /// In order; also those that were given up meanwhile.
    waiting: VecDeque<oneshot::Sender<Dialled<B>>>,
    /// How many claims wait, without those that were given up.
    live: usize,
    /// How many dials are under way.
    dials: usize,
    /// The last dial's failure, if no claim was told of it and no connection was there since.
    unreported: Option<ConnectError>,
    /// When the last dial failed.
    failed: Option<Instant>,
    /// Whether that was because the instance was not trusted, and no dial has succeeded since.
    is_distrusted: bool,
}

/// What comes of a claim that had to wait.
pub(super) type Dialled<B> = Result<Acquired<B>, ConnectError>;

/// A connection for one request.
pub(super) struct Acquired<B> {
    pub(super) connection: Connection<B>,
    /// Just opened; one that was idle may have been closed by the instance meanwhile.
    pub(super) is_fresh: bool,
}

/// The pool's answer to a claim.
pub(super) enum Claim<B> {
    Acquired(Acquired<B>),
    Waiting(oneshot::Receiver<Dialled<B>>),
    /// A dial failed that an earlier claim left behind, or what it opened was closed at once.
    Failed(ConnectError),
}

impl<B> Acquired<B> {
    /// Whether a loss of the connection says, without another word, that the instance is lost: it was opened for this claim,
    /// and others did not use it first.
    pub(super) fn is_first_use(&self) -> bool {
        self.is_fresh && !self.connection.age().is_used()
    }
}

impl<B> Pool<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Dials `peer`; the connection serves the first claim.
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
            store: Mutex::new(Store::new(limits.max_age.is_some())),
            tasks: Tasks::default(),
        });
        let connection = pool.connect().await?;
        pool.deliver(connection, true);
        pool.tasks
            .spawn(reap(Arc::downgrade(&pool), limits.http1.idle_timeout));
        Ok(pool)
    }

    fn connect(
        self: &Arc<Self>,
    ) -> impl Future<Output = Result<Connection<B>, ConnectError>> + Send + use<B> {
        let (peer, limits, pool) = (self.peer.clone(), self.limits, Arc::downgrade(self));
        async move {
            let addr = peer.addr();
            let open = async |stream: Stream| {
                let aging = Aging::new(limits.max_age);
                Connection::open(stream, addr, &limits.http1, aging, Told(pool)).await
            };
            dial::connect(&peer, limits.connect_timeout, &["http/1.1"], open).await
        }
    }

    /// Takes an idle connection, or waits for one.
    pub(super) fn claim(self: &Arc<Self>) -> Claim<B> {
        let mut closed_at_once = false;
        let mut store = lock(&self.store);
        while let Some(connection) = store.idle.pop() {
            drop(store);
            if connection.is_alive() {
                if connection.age().is_old() {
                    self.replace_old(lock(&self.store));
                }
                let is_fresh = false;
                return Claim::Acquired(Acquired {
                    connection,
                    is_fresh,
                });
            }
            closed_at_once |= connection.age().is_closed_at_once();
            drop(connection);
            store = lock(&self.store);
        }
        if closed_at_once {
            // Every claim would dial in vain, and while others serve the requests nobody would ever be told.
            return Claim::Failed(ConnectError::closed(self.peer.addr()));
        }
        if let Some(error) = store.unreported.take() {
            return Claim::Failed(error);
        }
        let (claimant, dialled) = oneshot::channel();
        store.waiting.push_back(claimant);
        store.live += 1;
        let dials = store.dials < store.live;
        store.dials += usize::from(dials);
        drop(store);
        if dials {
            self.dial();
        }
        Claim::Waiting(dialled)
    }

    /// Closes the old connections that nobody uses. If there is no other one, one is opened first.
    fn renew(self: &Arc<Self>) {
        let mut store = lock(&self.store);
        if store.has_young() {
            let old = store.remove_old();
            drop(store);
            drop(old);
        } else if !store.idle.is_empty() {
            self.replace_old(store);
        }
    }

    /// Opens what is to take the place of old connections, one at a time, and not again at once if that failed.
    fn replace_old(self: &Arc<Self>, mut store: MutexGuard<'_, Store<B>>) {
        let is_pause = |failed| clock::now().saturating_duration_since(failed) < PAUSE;
        if store.dials == 0 && !store.failed.is_some_and(is_pause) {
            store.dials += 1;
            drop(store);
            self.dial();
        }
    }

    fn dial(self: &Arc<Self>) {
        self.tasks.dial(self, self.connect());
    }
}

impl<B> Pool<B> {
    pub(in crate::http) fn addr(&self) -> Address {
        self.peer.addr()
    }

    pub(in crate::http) fn fallback(&self) -> &Fallback {
        &self.fallback
    }

    /// A claim no longer waits: it was given up.
    pub(super) fn give_up(&self) {
        lock(&self.store).live -= 1;
    }

    /// Leaves a failure to the next claim.
    pub(super) fn leave(&self, error: ConnectError) {
        lock(&self.store).leave(error);
    }
}

impl<B> Pool<B> {
    /// Takes back a connection that is ready for another request, or closed.
    pub(super) fn put(&self, connection: Connection<B>) {
        let is_wanted = || !connection.age().is_old() || lock(&self.store).uses_old();
        if connection.is_ready() && is_wanted() {
            self.deliver(connection, false);
        }
    }

    /// Hands a connection to the claim that waited longest, and keeps it if there is none.
    fn deliver(&self, connection: Connection<B>, is_fresh: bool) {
        let mut acquired = Acquired {
            connection,
            is_fresh,
        };
        loop {
            let mut store = lock(&self.store);
            store.unreported = None;
            store.is_distrusted &= !acquired.is_fresh;
            let Some(claimant) = store.waiting.pop_front() else {
                let spare = store.keep(acquired.connection, self.limits.http1.max_idle);
                drop(store);
                drop(spare);
                return;
            };
            drop(store);
            match claimant.send(Ok(acquired)) {
                Ok(()) => {
                    lock(&self.store).live -= 1;
                    return;
                }
                Err(Ok(unclaimed)) => acquired = unclaimed,
                Err(Err(_)) => return,
            }
        }
    }

    /// Tells the claim that waited longest, else the next one.
    fn fail(&self, error: &ConnectError) {
        let mut store = lock(&self.store);
        let old = store.note(error);
        loop {
            let Some(claimant) = store.waiting.pop_front() else {
                if !store.has_ready() {
                    store.leave(error.clone());
                }
                break;
            };
            drop(store);
            let is_told = claimant.send(Err(error.clone())).is_ok();
            store = lock(&self.store);
            if is_told {
                store.live -= 1;
                break;
            }
        }
        drop(store);
        drop(old);
    }

    /// Closes what is idle for too long.
    fn reap(&self) {
        let (now, timeout) = (clock::now(), self.limits.http1.idle_timeout);
        let is_over = |idle: &mut Connection<B>| {
            let time = now.saturating_duration_since(idle.last_read());
            time >= timeout || !idle.is_ready()
        };
        let mut store = lock(&self.store);
        let closed: Vec<_> = store.idle.extract_if(.., is_over).collect();
        drop(store);
        drop(closed);
    }
}

impl<B> Store<B> {
    fn new(ages: bool) -> Self {
        Self {
            ages,
            idle: Vec::new(),
            waiting: VecDeque::new(),
            live: 0,
            dials: 0,
            unreported: None,
            failed: None,
            is_distrusted: false,
        }
    }

    /// A dial failed. What is not trusted any more is returned, to be closed.
    fn note(&mut self, error: &ConnectError) -> Vec<Connection<B>> {
        self.failed = Some(clock::now());
        self.is_distrusted |= error.is_distrust();
        match self.is_distrusted {
            true => self.remove_old(),
            false => Vec::new(),
        }
    }

    fn remove_old(&mut self) -> Vec<Connection<B>> {
        if !self.ages {
            return Vec::new();
        }
        let old = |idle: &mut Connection<B>| idle.age().is_old();
        self.idle.extract_if(.., old).collect()
    }

    fn uses_old(&self) -> bool {
        !self.is_distrusted && !self.has_young()
    }

    fn has_young(&self) -> bool {
        let mut idle = self.idle.iter();
        idle.any(|connection| connection.is_ready() && !connection.age().is_old())
    }

    fn has_ready(&self) -> bool {
        self.idle.iter().any(Connection::is_ready)
    }

    /// Leaves a failure to the next claim. A fault of the process may be over by then, and says nothing of the instance.
    fn leave(&mut self, error: ConnectError) {
        if !error.is_local_fault() {
            self.unreported = Some(error);
        }
    }

    /// Keeps a connection that nobody waits for. What is too many is returned, to be closed.
    fn keep(&mut self, connection: Connection<B>, max_idle: usize) -> Vec<Connection<B>> {
        let mut spare = match connection.age().is_old() {
            true => Vec::new(),
            false => self.remove_old(),
        };
        if self.idle.len() >= max_idle {
            let closed = |idle: &mut Connection<B>| !idle.is_ready();
            spare.extend(self.idle.extract_if(.., closed));
        }
        match self.idle.len() < max_idle {
            true => self.idle.push(connection),
            false => spare.push(connection),
        }
        spare
    }
}

/// Closes what is idle for too long, as long as there is a pool.
async fn reap<B>(pool: Weak<Pool<B>>, timeout: Duration) {
    // A period of zero would be due again at once, for ever.
    let period = (timeout / LOOKS).max(Duration::from_millis(1));
    loop {
        tokio::time::sleep(period).await;
        match pool.upgrade() {
            Some(pool) => pool.reap(),
            None => return,
        }
    }
}

/// What a connection tells of itself.
struct Told<B>(Weak<Pool<B>>);

impl<B> Owner<B> for Told<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn freed(&self, connection: Connection<B>) {
        if let Some(pool) = self.0.upgrade() {
            pool.put(connection);
        }
    }

    fn aged(&self) {
        if let Some(pool) = self.0.upgrade() {
            pool.renew();
        }
    }
}

impl<B: Send + 'static> Dials for Pool<B> {
    type Connection = Connection<B>;

    fn addr(&self) -> Address {
        self.peer.addr()
    }

    fn dialled(&self, connection: Result<Connection<B>, ConnectError>) {
        lock(&self.store).dials -= 1;
        match connection {
            Ok(connection) => self.deliver(connection, true),
            Err(error) => self.fail(&error),
        }
    }
}

impl<B> fmt::Debug for Pool<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = lock(&self.store);
        f.debug_struct("Pool")
            .field("addr", &self.peer.addr())
            .field("idle", &store.idle.len())
            .field("waiting", &store.live)
            .finish_non_exhaustive()
    }
}
