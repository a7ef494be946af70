use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, Mutex};

use futures_core::Stream;
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;

use super::gate::{Gate, lock};
use super::watcher::Watcher;
use super::{Event, Explanation, Listener, Status, forward};
use crate::discovery::Discovery;
use crate::model::name::Boundary;

/// Admits the peers of a boundary, and of those that were granted access, by the address they call from.
///
/// Who they are it hears from [`Discovery::peers`]: everybody who is registered, whatever their role, also callers that
/// serve nothing. Nobody else is admitted, and nobody at all before discovery answered. An error of discovery, or the end
/// of its news, changes nothing: who was admitted stays admitted.
///
/// Clones are cheap and share everything; asking takes no lock. One task watches discovery. It begins with the guard, or
/// outside a tokio runtime with the first question inside one, and ends with the last clone, listener and connection. If its
/// runtime ends before, who was admitted stays so, and the next question or accept inside another runtime begins it anew.
///
/// # Examples
///
/// ```
/// use rolecall::{Registrar, Registration, Registry, guard::Guard};
/// use tokio::io::AsyncReadExt;
/// use tokio::net::{TcpListener, TcpStream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = Registry::new();
/// let guard = Guard::new(registry.clone(), "shop".parse()?);
/// let mut listener = guard.wrap(TcpListener::bind("127.0.0.1:0").await?);
/// let addr = listener.local_addr()?;
/// tokio::spawn(async move {
///     loop {
///         let (_connection, _friend) = listener.accept().await;
///         // Serve it.
///     }
/// });
///
/// // A stranger is turned away.
/// guard.heard().await;
/// let mut stranger = TcpStream::connect(addr).await?;
/// assert_eq!(stranger.read(&mut [0]).await?, 0);
/// let why = guard.explain([127, 0, 0, 1].into());
/// assert_eq!(why.to_string(), "unknown: no registration of shop has this address; 0 s old");
///
/// // Whoever registers is a friend.
/// let here = Registration::new("cron").boundary("shop").peer_ip([127, 0, 0, 1].into());
/// let _lease = registry.register(here).await?;
/// # while !guard.admits([127, 0, 0, 1].into()) { tokio::task::yield_now().await; }
/// assert!(guard.admits([127, 0, 0, 1].into()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    gate: Arc<Gate>,
    discovery: Arc<dyn Discovery>,
    /// Whether there is a watcher; it says so itself when it is dropped with its runtime.
    is_watched: Arc<AtomicBool>,
    /// Dropped with the last clone: tells the watcher to end.
    alive: Mutex<Option<oneshot::Sender<()>>>,
}

impl Guard {
    /// Admits the peers of `boundary`, as `discovery` tells them.
    pub fn new(discovery: impl Discovery, boundary: Boundary) -> Self {
        let inner = Inner {
            gate: Arc::new(Gate::new(boundary)),
            discovery: Arc::new(discovery),
            is_watched: Arc::default(),
            alive: Mutex::default(),
        };
        inner.start();
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Admits the peers of one more boundary from now on. Returns this very guard.
    pub fn allow_boundary(&self, boundary: Boundary) -> Self {
        let gate = &self.inner.gate;
        if gate.allow(boundary.clone()) {
            gate.journal.tell(Event::BoundaryAllowed { boundary });
        }
        self.clone()
    }

    /// Admits the peers of a boundary no longer, at once, and closes the connections that they have open, unless they are
    /// peers of another admitted boundary. Returns whether they were admitted.
    pub fn revoke_boundary(&self, boundary: &Boundary) -> bool {
        self.inner.gate.revoke(boundary)
    }

    /// Requires a PROXY header (version 1 or 2) of connections from this address, and believes it: admitted is whoever has
    /// the address it tells. Connections that the proxy makes by itself, to see whether the server is well, are admitted if
    /// they say so (`LOCAL` of version 2); with version 1 they look like those of any client on its machine, so register it.
    /// Without a header, or from others, a header is nothing but bytes for the server. Returns this very guard.
    ///
    /// Name only proxies that put the header on every connection: who else can send from such an address can claim any.
    pub fn trust_proxy(&self, ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        self.inner.gate.proxies.rcu(|proxies| {
            let others = proxies.iter().filter(|other| **other != ip);
            others.copied().chain([ip]).collect::<Vec<_>>()
        });
        self.clone()
    }

    /// Sets whether open connections of a peer are closed when it is admitted no longer. Off by default: it is let finish,
    /// and cannot come again. Returns this very guard.
    pub fn cut_off(&self, cut_off: bool) -> Self {
        self.inner.gate.cut_off(cut_off);
        self.clone()
    }

    /// Whether a connection from this address is admitted now.
    pub fn admits(&self, ip: IpAddr) -> bool {
        self.inner.start();
        self.inner.gate.admits(ip)
    }

    /// Whether a connection from this address is admitted now, and why.
    pub fn explain(&self, ip: IpAddr) -> Explanation {
        self.inner.start();
        self.inner.gate.explain(ip)
    }

    /// Turns strangers away from a listener, for servers that accept by themselves.
    pub fn wrap(&self, listener: TcpListener) -> Listener {
        Listener::new(self.clone(), listener)
    }

    /// Relays the connections of friends that come to `listener` to the server at `addr`, which needs to know nothing of it
    /// and should listen where nobody else can reach it.
    ///
    /// # Cancellation
    ///
    /// The future never ends by itself. Dropped, it closes the listener and every connection that it relays.
    pub fn forward(
        &self,
        listener: TcpListener,
        addr: SocketAddr,
    ) -> impl Future<Output = Infallible> + Send + use<> {
        forward::forward(self.wrap(listener), addr)
    }

    /// Waits until discovery answered for every boundary that is admitted, or ended: for as long as that takes, and
    /// [`status`](Self::status) says what discovery reports meanwhile.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost.
    pub async fn heard(&self) {
        self.inner.start();
        let gate = &self.inner.gate;
        loop {
            let mut news = std::pin::pin!(gate.published.notified());
            news.as_mut().enable();
            if gate.list().is_heard() {
                return;
            }
            news.await;
        }
    }

    /// How things stand.
    pub fn status(&self) -> Status {
        self.inner.gate.status()
    }

    /// What happens from now on. A reader that is more than 1024 events late is told how many it
    /// [missed](Event::Missed). Ends with the guard.
    pub fn events(&self) -> impl Stream<Item = Event> + Send + Unpin + use<> {
        let events = self.inner.gate.journal.events.subscribe();
        Box::pin(stream::unfold(events, async |mut events| {
            match events.recv().await {
                Ok(event) => Some((event, events)),
                Err(RecvError::Lagged(count)) => Some((Event::Missed { count }, events)),
                Err(RecvError::Closed) => None,
            }
        }))
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.inner.gate
    }

    /// Spawns the watcher if there is none and there is a runtime.
    pub(super) fn start(&self) {
        self.inner.start();
    }
}

impl Inner {
    fn start(&self) {
        if self.is_watched.load(Acquire) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.is_watched.swap(true, AcqRel) {
            return;
        }
        let (alive, ended) = oneshot::channel();
        *lock(&self.alive) = Some(alive);
        let (gate, discovery) = (Arc::clone(&self.gate), Arc::clone(&self.discovery));
        let watcher = Watcher::new(gate, discovery, ended, Arc::clone(&self.is_watched));
        // With no lock held: a runtime that is shutting down drops it at once, and with it foreign code.
        runtime.spawn(watcher);
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}
