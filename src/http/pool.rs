//! The connections to one instance.
//!
//! A claim is served by an open line, the most recently used first, so that what a burst opened goes idle and is closed. Without
//! one it waits and starts a dial. Every line that opens or is freed goes to the claim that waited longest, and so does a failed
//! dial: claims that lose patience, or that are served by a freed line first, leave the dial's product to the others. So at
//! all times no more claims wait than dials are under way.
//!
//! hyper-util's `client::pool` has a cache and a singleton of this kind; it dials outside `poll_ready`, takes lines back
//! before they are ready, and bounds neither their number nor their age.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, mem, pin};

use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::address::Fallback;
use super::error::ConnectError;
use super::line::{Line, Transport};

/// The limits of one pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) max_idle: usize,
}

pub(super) struct Pool<L> {
    addr: SocketAddr,
    fallback: Fallback,
    limits: Limits,
    runtime: Handle,
    store: Mutex<Store<L>>,
    // Apart from the store: a runtime that is shutting down drops a dial while it is spawned, and a dropped dial takes the store's lock.
    dials: Mutex<JoinSet<()>>,
}

struct Store<L> {
    lines: Vec<L>,
    waiting: VecDeque<oneshot::Sender<Claimed<L>>>,
    dialling: bool,
}

type Claimed<L> = Result<Grant<L>, ConnectError>;

/// A line for one request.
pub(super) struct Grant<L> {
    pub(super) line: L,
    /// Opened for this claim; one that lay in the pool may have been closed by the instance meanwhile.
    pub(super) fresh: bool,
}

impl<L: Transport> Pool<L> {
    /// Dials `addr`; the connection serves the first claim.
    pub(super) async fn open(addr: SocketAddr, limits: Limits) -> Result<Arc<Self>, ConnectError> {
        let runtime = Handle::try_current().map_err(|_| ConnectError::no_runtime(addr))?;
        let pool = Arc::new(Self {
            addr,
            fallback: Fallback::new(addr),
            limits,
            runtime,
            store: Mutex::new(Store {
                lines: Vec::new(),
                waiting: VecDeque::new(),
                dialling: false,
            }),
            dials: Mutex::new(JoinSet::new()),
        });
        let line = connect(addr, limits.connect_timeout, Arc::downgrade(&pool)).await?;
        pool.deliver(line, true);
        Ok(pool)
    }

    fn claim(self: &Arc<Self>) -> Claim<L> {
        let mut store = lock(&self.store);
        if let Some(line) = store.take() {
            return Claim::Held(Grant { line, fresh: false });
        }
        let (claimant, claimed) = oneshot::channel();
        store.waiting.push_back(claimant);
        let under_way = L::SHARED && mem::replace(&mut store.dialling, true);
        drop(store);
        if !under_way {
            self.dial();
        }
        Claim::Waiting(claimed)
    }

    fn dial(self: &Arc<Self>) {
        let mut dial = Dial {
            pool: Arc::downgrade(self),
            addr: self.addr,
            done: false,
        };
        let timeout = self.limits.connect_timeout;
        let mut dials = lock(&self.dials);
        while dials.try_join_next().is_some() {}
        dials.spawn_on(
            async move {
                let result = connect(dial.addr, timeout, dial.pool.clone()).await;
                dial.end(result);
            },
            &self.runtime,
        );
    }
}

async fn connect<L: Transport>(
    addr: SocketAddr,
    limit: Duration,
    home: Weak<Pool<L>>,
) -> Result<L, ConnectError> {
    let opening = async {
        let stream = TcpStream::connect(addr)
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|error| ConnectError::io(addr, error))?;
        L::open(stream, home)
            .await
            .map_err(|error| ConnectError::handshake(addr, error))
    };
    tokio::time::timeout(limit, opening)
        .await
        .unwrap_or_else(|_| Err(ConnectError::timed_out(addr, limit)))
}

/// One dial under way. Claims wait for its end, so it also ends when its runtime drops it.
struct Dial<L: Line> {
    pool: Weak<Pool<L>>,
    addr: SocketAddr,
    done: bool,
}

impl<L: Line> Dial<L> {
    fn end(&mut self, result: Result<L, ConnectError>) {
        self.done = true;
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        match result {
            Ok(line) => pool.deliver(line, true),
            Err(error) => pool.fail(error),
        }
    }
}

impl<L: Line> Drop for Dial<L> {
    fn drop(&mut self) {
        if !self.done {
            self.end(Err(ConnectError::no_runtime(self.addr)));
        }
    }
}

impl<L: Line> Pool<L> {
    /// Takes back a line that can serve another request, or is closed.
    pub(super) fn put(&self, line: L) {
        if !L::SHARED && line.is_ready() {
            self.deliver(line, false);
        }
    }

    fn deliver(&self, mut line: L, mut fresh: bool) {
        loop {
            let claimant = {
                let mut store = lock(&self.store);
                match store.waiting.pop_front() {
                    Some(claimant) => claimant,
                    None => return store.keep(line, self.limits.max_idle),
                }
            };
            let spare = line.share();
            match (claimant.send(Ok(Grant { line, fresh })), spare) {
                (Ok(()), Some(spare)) => line = spare,
                (Ok(()), None) => return,
                (Err(Ok(unclaimed)), _) => {
                    line = unclaimed.line;
                    fresh = unclaimed.fresh;
                }
                (Err(Err(_)), _) => return,
            }
        }
    }

    fn fail(&self, error: ConnectError) {
        tracing::debug!(addr = %self.addr, error = &error as &dyn std::error::Error, "no new connection");
        loop {
            let claimant = {
                let mut store = lock(&self.store);
                match store.waiting.pop_front() {
                    Some(claimant) => claimant,
                    None => {
                        store.dialling = false;
                        return;
                    }
                }
            };
            if claimant.send(Err(error.clone())).is_ok() && !L::SHARED {
                return;
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
        self.addr
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
        while let Some(line) = self.lines.pop() {
            if line.is_ready() {
                if let Some(share) = line.share() {
                    self.lines.push(share);
                }
                return Some(line);
            }
        }
        None
    }

    fn keep(&mut self, line: L, max_idle: usize) {
        if L::SHARED {
            self.dialling = false;
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

/// One request's hold on the pool. Dropped while it holds an unused line, it gives the line back.
pub(super) struct Checkout<L: Line> {
    pool: Arc<Pool<L>>,
    claim: Claim<L>,
}

enum Claim<L> {
    None,
    Waiting(oneshot::Receiver<Claimed<L>>),
    Held(Grant<L>),
}

impl<L: Line> Checkout<L> {
    pub(super) fn new(pool: Arc<Pool<L>>) -> Self {
        Self {
            pool,
            claim: Claim::None,
        }
    }

    pub(super) fn pool(&self) -> &Arc<Pool<L>> {
        &self.pool
    }

    /// Moves the claim into a checkout of its own.
    pub(super) fn split(&mut self) -> Self {
        Self {
            pool: self.pool.clone(),
            claim: mem::replace(&mut self.claim, Claim::None),
        }
    }
}

impl<L: Transport> Checkout<L> {
    /// Ready when a line is held.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        loop {
            match &mut self.claim {
                Claim::Held(grant) if grant.line.is_ready() => return Poll::Ready(Ok(())),
                Claim::Held(_) | Claim::None => self.claim = self.pool.claim(),
                Claim::Waiting(claimed) => {
                    let claimed = ready!(pin::Pin::new(claimed).poll(cx));
                    self.claim = Claim::None;
                    let Ok(claimed) = claimed else { continue };
                    let grant = claimed?;
                    if grant.fresh && !grant.line.is_ready() {
                        return Poll::Ready(Err(ConnectError::closed(self.pool.addr)));
                    }
                    self.claim = Claim::Held(grant);
                }
            }
        }
    }

    /// Waits for a line and takes it.
    pub(super) async fn take(&mut self) -> Result<Grant<L>, ConnectError> {
        loop {
            std::future::poll_fn(|cx| self.poll_ready(cx)).await?;
            if let Claim::Held(grant) = mem::replace(&mut self.claim, Claim::None) {
                return Ok(grant);
            }
        }
    }
}

impl<L: Line> Drop for Checkout<L> {
    fn drop(&mut self) {
        match mem::replace(&mut self.claim, Claim::None) {
            Claim::None => {}
            Claim::Held(grant) => self.pool.put(grant.line),
            Claim::Waiting(mut claimed) => {
                claimed.close();
                if let Ok(Ok(grant)) = claimed.try_recv() {
                    self.pool.put(grant.line);
                }
            }
        }
    }
}

impl<L: Line> Clone for Checkout<L> {
    fn clone(&self) -> Self {
        Self::new(self.pool.clone())
    }
}

impl<L> fmt::Debug for Pool<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = lock(&self.store);
        f.debug_struct("Pool")
            .field("addr", &self.addr)
            .field("idle", &store.lines.len())
            .field("waiting", &store.waiting.len())
            .finish_non_exhaustive()
    }
}

/// Locks a mutex whose holders cannot leave it half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
