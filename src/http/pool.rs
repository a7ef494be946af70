//! The connections to one instance.
//!
//! A claim is served by an open line, the most recently used first, so that what a burst opened goes idle and is closed.
//! Without one it waits, and starts a dial if more claims wait than dials are under way. Every line that opens or is freed
//! goes to the claim that waited longest, and so does a failed dial: a claim that is given up, or served by a freed line
//! first, leaves what it dialled to the others, the next one included. So claims that come and go, as they do at a lost
//! instance while another one is ready, neither dial each for itself nor keep from the balancer that the instance is lost.
//!
//! An old line serves until a young one is there, which the first claim to get an old one dials for, and so does the line
//! itself if there is no claim.
//!
//! hyper-util's `client::pool` has a cache and a singleton of this kind; it dials outside `poll_ready`, takes lines back
//! before they are ready, and bounds neither their number nor their age.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::address::{Fallback, Host};
use super::dial::{self, Dial, Peer};
use super::error::ConnectError;
use super::http2::KeepAlive;
use super::line::{Line, Transport};
use crate::runtime::clock;

/// After a failed dial no old line is replaced for so long.
const PAUSE: Duration = Duration::from_millis(500);

/// The limits of one pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) max_idle: usize,
    pub(super) max_age: Option<Duration>,
    pub(super) keep_alive: KeepAlive,
}

pub(super) struct Pool<L> {
    peer: Peer,
    fallback: Fallback,
    limits: Limits,
    store: Mutex<Store<L>>,
    // Apart from the store: a runtime that is shutting down drops a dial while it is spawned, and a dropped dial takes the
    // store's lock.
    dials: Mutex<JoinSet<()>>,
}

struct Store<L> {
    lines: Vec<L>,
    /// In order; also those that were given up meanwhile.
    waiting: VecDeque<oneshot::Sender<Claimed<L>>>,
    /// How many claims wait, without those that were given up.
    live: usize,
    /// How many dials are under way.
    dials: usize,
    /// The last dial's failure, if no claim was told of it and no line was there since.
    untold: Option<ConnectError>,
    /// When the last dial failed.
    failed: Option<Instant>,
    /// Whether that was for want of trust, and none succeeded since.
    is_distrusted: bool,
}

/// What comes of a claim that had to wait.
pub(super) type Claimed<L> = Result<Grant<L>, ConnectError>;

/// A line for one request.
pub(super) struct Grant<L> {
    pub(super) line: L,
    /// Just opened; one that lay in the pool may have been closed by the instance meanwhile.
    pub(super) fresh: bool,
}

/// The pool's answer to a claim.
pub(super) enum Claim<L> {
    Held(Grant<L>),
    Waiting(oneshot::Receiver<Claimed<L>>),
    /// A dial failed that an earlier claim left behind, or what it opened was closed at once.
    Failed(ConnectError),
}

impl<L: Line> Grant<L> {
    /// Whether a loss of the line, without another word, says that the instance is lost: it was opened for this claim, and
    /// others did not use it first.
    pub(super) fn is_unspent(&self) -> bool {
        self.fresh && !self.line.age().is_used()
    }
}

impl<L: Transport> Pool<L> {
    /// Dials `peer`; the connection serves the first claim.
    pub(super) async fn open(
        peer: Peer,
        host: &Host,
        limits: Limits,
    ) -> Result<Arc<Self>, ConnectError> {
        Handle::try_current().map_err(|_| ConnectError::no_runtime(peer.addr()))?;
        let pool = Arc::new(Self {
            fallback: Fallback::new(peer.addr(), host, peer.scheme()),
            peer,
            limits,
            store: Mutex::new(Store {
                lines: Vec::new(),
                waiting: VecDeque::new(),
                live: 0,
                dials: 0,
                untold: None,
                failed: None,
                is_distrusted: false,
            }),
            dials: Mutex::new(JoinSet::new()),
        });
        let line = dial::connect(&pool.peer, limits, Arc::downgrade(&pool)).await?;
        pool.deliver(line, true);
        Ok(pool)
    }

    /// Takes an open line, or waits for one.
    pub(super) fn claim(self: &Arc<Self>) -> Claim<L> {
        let mut store = lock(&self.store);
        let mut stillborn = false;
        while let Some(line) = store.take() {
            drop(store);
            if line.is_alive() {
                if line.age().is_old() {
                    self.succeed(lock(&self.store));
                }
                return Claim::Held(Grant { line, fresh: false });
            }
            stillborn |= line.age().is_stillborn();
            store = lock(&self.store);
            if L::SHARED {
                // It was only shared, and its task may be the next one on this very thread.
                store.lines.retain(Line::is_alive);
            }
        }
        if stillborn {
            // Every claim would dial in vain, and while others serve the requests nobody would ever be told.
            return Claim::Failed(ConnectError::closed(self.addr()));
        }
        if let Some(error) = store.untold.take() {
            return Claim::Failed(error);
        }
        let (claimant, claimed) = oneshot::channel();
        store.waiting.push_back(claimant);
        store.live += 1;
        let wanted = if L::SHARED { 1 } else { store.live };
        let dials = store.dials < wanted;
        store.dials += usize::from(dials);
        drop(store);
        if dials {
            self.dial();
        }
        Claim::Waiting(claimed)
    }

    /// Closes the old lines that nobody uses. If there is no other one, one is opened first.
    pub(super) fn renew(self: &Arc<Self>) {
        let mut store = lock(&self.store);
        if store.has_young() {
            return store.lines.retain(|line| !line.age().is_old());
        }
        if !store.lines.is_empty() {
            self.succeed(store);
        }
    }

    /// Opens what is to take the place of old lines, one at a time, and not again at once if that failed.
    fn succeed(self: &Arc<Self>, mut store: MutexGuard<'_, Store<L>>) {
        let is_pause = |failed| clock::now().saturating_duration_since(failed) < PAUSE;
        if store.dials == 0 && !store.failed.is_some_and(is_pause) {
            store.dials += 1;
            drop(store);
            self.dial();
        }
    }

    fn dial(self: &Arc<Self>) {
        let dial = Dial::new(Arc::downgrade(self), self.peer.clone());
        // The runtime of the caller, which may be another one than that of the first dial. Without one the dial fails.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let mut dials = lock(&self.dials);
        while dials.try_join_next().is_some() {}
        dials.spawn_on(dial.run(self.limits), &runtime);
    }
}

impl<L: Line> Pool<L> {
    /// Takes back a line that is ready for another request, or closed.
    pub(super) fn put(&self, line: L) {
        let is_wanted = || !line.age().is_old() || lock(&self.store).uses_old();
        if !L::SHARED && line.is_ready() && is_wanted() {
            self.deliver(line, false);
        }
    }

    /// A dial is over; what came of it is delivered next.
    pub(super) fn dialled(&self) {
        // A shared one is under way until all who waited for it are served.
        if !L::SHARED {
            lock(&self.store).dials -= 1;
        }
    }

    /// A claim no longer waits: it was served, or given up.
    pub(super) fn waits_no_more(&self) {
        lock(&self.store).live -= 1;
    }

    /// Leaves a failure to the next claim.
    pub(super) fn leave(&self, error: ConnectError) {
        lock(&self.store).leave(error);
    }

    /// Hands a line to the claim that waited longest, or a share of it to each, and keeps it if it is left over.
    pub(super) fn deliver(&self, mut line: L, mut fresh: bool) {
        loop {
            let claimant = {
                let mut store = lock(&self.store);
                store.untold = None;
                store.is_distrusted &= !fresh;
                match store.waiting.pop_front() {
                    Some(claimant) => claimant,
                    None => return store.keep(line, self.limits.max_idle),
                }
            };
            let spare = line.share();
            match (claimant.send(Ok(Grant { line, fresh })), spare) {
                (Ok(()), spare) => {
                    self.waits_no_more();
                    let Some(spare) = spare else { return };
                    line = spare;
                }
                (Err(Ok(unclaimed)), _) => {
                    line = unclaimed.line;
                    fresh = unclaimed.fresh;
                }
                (Err(Err(_)), _) => return,
            }
        }
    }

    /// Tells the claim that waited longest, or all of them if they wait for the same dial.
    pub(super) fn fail(&self, error: &ConnectError) {
        let mut told = false;
        lock(&self.store).note(error);
        loop {
            let claimant = {
                let mut store = lock(&self.store);
                match store.waiting.pop_front() {
                    Some(claimant) => claimant,
                    None => {
                        if L::SHARED {
                            store.dials = 0;
                        }
                        if !told && !store.lines.iter().any(Line::is_ready) {
                            store.leave(error.clone());
                        }
                        return;
                    }
                }
            };
            if claimant.send(Err(error.clone())).is_ok() {
                told = true;
                self.waits_no_more();
                if !L::SHARED {
                    return;
                }
            }
        }
    }

    /// Closes the idle lines for which `keep` is false.
    pub(super) fn retain(&self, keep: impl FnMut(&mut L) -> bool) {
        lock(&self.store).lines.retain_mut(keep);
    }
}

impl<L> Pool<L> {
    pub(super) fn addr(&self) -> SocketAddr {
        self.peer.addr()
    }

    pub(super) fn fallback(&self) -> &Fallback {
        &self.fallback
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        self.limits.idle_timeout
    }
}

impl<L: Line> Store<L> {
    fn take(&mut self) -> Option<L> {
        let line = self.lines.pop()?;
        if line.is_ready() {
            self.lines.extend(line.share());
        }
        Some(line)
    }

    /// A dial failed.
    fn note(&mut self, error: &ConnectError) {
        self.failed = Some(clock::now());
        self.is_distrusted |= error.is_distrust();
        if self.is_distrusted {
            self.lines.retain(|line| !line.age().is_old());
        }
    }

    fn uses_old(&self) -> bool {
        !self.is_distrusted && !self.has_young()
    }

    fn has_young(&self) -> bool {
        let mut lines = self.lines.iter();
        lines.any(|line| line.is_ready() && !line.age().is_old())
    }

    /// A fault of the process may be over by the next claim, and is no news of the instance.
    fn leave(&mut self, error: ConnectError) {
        if !error.is_local_fault() {
            self.untold = Some(error);
        }
    }

    fn keep(&mut self, line: L, max_idle: usize) {
        if !line.age().is_old() {
            self.lines.retain(|line| !line.age().is_old());
        }
        if L::SHARED {
            self.dials = 0;
            self.lines.clear();
        } else if self.lines.len() >= max_idle {
            self.lines.retain(Line::is_ready);
            if self.lines.len() >= max_idle {
                return;
            }
        }
        self.lines.push(line);
    }
}

impl<L> fmt::Debug for Pool<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = lock(&self.store);
        f.debug_struct("Pool")
            .field("addr", &self.addr())
            .field("lines", &store.lines.len())
            .field("waiting", &store.waiting.len())
            .finish_non_exhaustive()
    }
}

/// Locks a mutex whose holders cannot leave it half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
