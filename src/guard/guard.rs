use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_core::Stream;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;

use super::error::GuardError;
use super::event::GuardEvent;
use super::explanation::GuardExplanation;
use super::forward::Forwarder;
use super::gate::Gate;
use super::listener::Listener;
use super::networks::Networks;
#[cfg(unix)]
use super::socket_file;
use super::status::GuardStatus;
use super::watched::WatchedGate;
use crate::balance::watch::Watch;
use crate::discovery::Discovery;
use crate::error::discovery::{DiscoveryError, DiscoveryErrorKind};
use crate::model::name::Boundary;
use crate::runtime::panic::caught;

/// Admits the peers of its boundary, and of boundaries that it allows, by their source address.
///
/// Its peers are all registered instances of the boundary, from [`Discovery::peers`], also those that serve nothing. Every
/// other connection is denied. Until discovery has answered, all connections are denied. If discovery fails or its stream
/// ends, admitted peers stay admitted.
///
/// Over Unix sockets the guard does not ask discovery. It admits its own effective user id, and those named by
/// [`allow_uid`](GuardBuilder::allow_uid).
///
/// Clones are cheap and share everything. A check takes no lock. One task watches discovery: it starts with the guard, or with
/// the first check inside a tokio runtime, and ends with the last clone, listener and connection. If its runtime ends earlier,
/// admitted peers stay admitted, and the next check or accept inside another runtime starts the task again.
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
/// let guard = Guard::builder(registry.clone(), "shop".parse()?).build()?;
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let addr = listener.local_addr()?;
/// let mut listener = guard.wrap(listener);
/// tokio::spawn(async move {
///     loop {
///         let (_connection, _peer) = listener.accept().await;
///         // Serve it.
///     }
/// });
///
/// // A caller that is not registered is denied.
/// guard.synced().await;
/// let mut denied = TcpStream::connect(addr).await?;
/// assert_eq!(denied.read(&mut [0]).await?, 0);
/// let why = guard.explain([127, 0, 0, 1].into());
/// assert_eq!(
///     why.to_string(),
///     "denied: no instance registered in boundary shop has address 127.0.0.1; 0 s old"
/// );
///
/// // A registered caller is admitted.
/// let here = Registration::new("cron").boundary("shop").peer_ip([127, 0, 0, 1].into());
/// let _lease = registry.register(here).await?;
/// # while !guard.admits([127, 0, 0, 1].into()) { tokio::task::yield_now().await; }
/// assert!(guard.admits([127, 0, 0, 1].into()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Guard {
    watched: Arc<WatchedGate>,
}

/// Builds a [`Guard`]. Made by [`Guard::builder`].
///
/// # Defaults
///
/// It admits the peers of one boundary, and over Unix sockets its own effective user id. No networks are allowed, and no proxy
/// is trusted. Connections of peers that left stay open.
pub struct GuardBuilder {
    discovery: Arc<dyn Discovery>,
    boundary: Boundary,
    gate: Gate,
    asks_for_networks: bool,
}

impl GuardBuilder {
    /// Admits the peers of one more boundary.
    #[must_use]
    pub fn allow(self, boundary: Boundary) -> Self {
        self.gate.allow(boundary);
        self
    }

    /// Admits every address in these networks without asking discovery. Required if discovery cannot list peers.
    #[must_use]
    pub fn allow_networks(mut self, networks: Networks) -> Self {
        self.gate.networks = Some(networks);
        self
    }

    /// Admits processes of this user id over Unix sockets, besides the guard's own effective user id.
    #[must_use]
    pub fn allow_uid(mut self, uid: u32) -> Self {
        self.gate.uids.push(uid);
        self
    }

    /// Requires a PROXY header from this address, and trusts it; see [`Guard::trust_proxy`].
    #[must_use]
    pub fn trust_proxy(self, ip: IpAddr) -> Self {
        self.gate.trust_proxy(ip);
        self
    }

    /// Sets whether open connections of a peer are closed when it is no longer admitted; see [`Guard::cut_off`].
    #[must_use]
    pub fn cut_off(self, cut_off: bool) -> Self {
        self.gate.cut_off(cut_off);
        self
    }

    /// Builds a guard for Unix sockets only, for which discovery need not list peers.
    #[cfg(feature = "worker")]
    pub(crate) fn for_unix_sockets(mut self) -> Self {
        self.asks_for_networks = false;
        self
    }

    /// Builds the guard. Inside a tokio runtime it starts watching discovery.
    ///
    /// # Errors
    ///
    /// A [`GuardError`] if discovery answers at once that it cannot list peers
    /// ([`Unsupported`](DiscoveryErrorKind::Unsupported)), and no networks are allowed: such a guard would deny everybody.
    /// Outside a runtime discovery is not asked.
    pub fn build(self) -> Result<Guard, GuardError> {
        let opened = Handle::try_current()
            .is_ok()
            .then(|| first_answer(&*self.discovery, &self.boundary));
        let opened = match opened {
            Some(Err(_)) if self.asks_for_networks && self.gate.networks.is_none() => {
                return Err(GuardError::no_peers(self.boundary));
            }
            Some(Ok(opened)) => Some(opened),
            // It is asked again, so that status and events tell.
            Some(Err(_)) | None => None,
        };
        let watched = WatchedGate::new(self.gate, self.discovery);
        watched.start_with(opened);
        Ok(Guard {
            watched: Arc::new(watched),
        })
    }
}

/// A watch of the boundary's peers, or the error of a discovery that has no such list.
fn first_answer(discovery: &dyn Discovery, boundary: &Boundary) -> Result<Watch, DiscoveryError> {
    let mut unsupported = None;
    let watch = Watch::open(|| {
        let mut answers = discovery.peers(boundary);
        match caught(|| answers.next().now_or_never()) {
            Ok(None) => answers,
            Ok(Some(None)) => Box::pin(stream::empty()),
            Ok(Some(Some(answer))) => {
                let error = answer.as_ref().err();
                unsupported = error
                    .filter(|error| error.kind() == DiscoveryErrorKind::Unsupported)
                    .cloned();
                Box::pin(stream::iter([answer]).chain(answers))
            }
            Err(panic) => Box::pin(stream::iter([Err(DiscoveryError::backend(
                "watching", panic,
            ))])),
        }
    });
    unsupported.map_or(Ok(watch), Err)
}

impl fmt::Debug for GuardBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardBuilder")
            .field("boundary", &self.boundary)
            .finish_non_exhaustive()
    }
}

impl Guard {
    /// A guard that admits the peers of `boundary`, as `discovery` lists them.
    pub fn builder(discovery: impl Discovery, boundary: Boundary) -> GuardBuilder {
        GuardBuilder {
            discovery: Arc::new(discovery),
            boundary: boundary.clone(),
            gate: Gate::new(boundary),
            asks_for_networks: true,
        }
    }

    /// Admits the peers of one more boundary from now on. Returns whether they were not admitted before.
    pub fn allow(&self, boundary: Boundary) -> bool {
        let gate = self.gate();
        let is_new = gate.allow(boundary.clone());
        if is_new {
            gate.journal.tell(GuardEvent::BoundaryAllowed { boundary });
        }
        is_new
    }

    /// Denies the peers of a boundary from now on, and closes their open connections. Peers of another admitted boundary are
    /// not affected. Returns whether the boundary was admitted.
    pub fn revoke(&self, boundary: &Boundary) -> bool {
        self.gate().revoke(boundary)
    }

    /// Requires a PROXY header (version 1 or 2) on connections from this address. The guard then checks the address in the
    /// header.
    ///
    /// Connections of the proxy itself, such as health checks, are admitted if their header says `LOCAL` (version 2). With
    /// version 1 they look like a client on the proxy's machine, so register the proxy. A connection without a header is
    /// closed. From other addresses, a header is ordinary data for the server.
    ///
    /// Name only proxies that add the header to every connection. Anyone else who can connect from such an address can claim
    /// any address.
    pub fn trust_proxy(&self, ip: IpAddr) {
        self.gate().trust_proxy(ip);
    }

    /// Sets whether a peer's open connections are closed when it is no longer admitted. Off by default: they may finish, but
    /// the peer cannot connect again.
    pub fn cut_off(&self, cut_off: bool) {
        self.gate().cut_off(cut_off);
    }

    /// Whether a connection from this address is admitted now.
    pub fn admits(&self, ip: IpAddr) -> bool {
        self.watched.start();
        self.gate().admits(ip)
    }

    /// Whether a connection over a Unix socket from a process of this user id is admitted.
    pub fn admits_uid(&self, uid: u32) -> bool {
        self.gate().admits_uid(uid)
    }

    /// Whether a connection from this address is admitted now, and why.
    pub fn explain(&self, ip: IpAddr) -> GuardExplanation {
        self.watched.start();
        self.gate().explain(ip)
    }

    /// Wraps a listener. Denied connections are closed before a byte is read.
    pub fn wrap(&self, listener: TcpListener) -> Listener {
        Listener::tcp(Arc::clone(&self.watched), listener)
    }

    /// Wraps a listener on a Unix socket. Connections are admitted by the user id of the process at the other end.
    #[cfg(unix)]
    pub fn wrap_unix(&self, listener: UnixListener) -> Listener {
        Listener::unix(Arc::clone(&self.watched), listener)
    }

    /// Binds a Unix socket at this path and wraps its listener.
    ///
    /// An existing socket is replaced if it belongs to the own effective user id and no process listens on it. Any other file
    /// is left alone. The socket is removed when the listener is dropped. Its mode is left to the umask, and its folder
    /// decides who may reach it.
    ///
    /// # Errors
    ///
    /// Those of the system: [`AddrInUse`](std::io::ErrorKind::AddrInUse) if there is a file that is not replaced.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[cfg(unix)]
    pub fn listen_unix(&self, path: impl AsRef<std::path::Path>) -> std::io::Result<Listener> {
        let (listener, file) = socket_file::bind(path.as_ref())?;
        Ok(self.wrap_unix(listener).removing(file))
    }

    /// Relays admitted connections of `listener` to the server at `addr`. The server need not know the guard, and should listen
    /// where only the forwarder can reach it. [`Forwarder::run`] does the work.
    pub fn forward(&self, listener: TcpListener, addr: SocketAddr) -> Forwarder {
        Forwarder::new(self.wrap(listener), addr)
    }

    /// Waits until discovery has answered for every allowed boundary, or has said that it cannot. There is no time limit;
    /// [`status`](Self::status) shows the errors of discovery meanwhile.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost.
    pub async fn synced(&self) {
        self.watched.start();
        let gate = self.gate();
        loop {
            let mut published = std::pin::pin!(gate.published.notified());
            published.as_mut().enable();
            if gate.list().is_synced() {
                return;
            }
            published.await;
        }
    }

    /// Waits until no connection that the guard admitted is open.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost.
    pub async fn idle(&self) {
        self.gate().idle().await;
    }

    /// The state of the guard now.
    pub fn status(&self) -> GuardStatus {
        self.gate().status()
    }

    /// Returns a stream of the events from now on. A reader that falls more than 1024 events behind gets their number as
    /// [`Missed`](GuardEvent::Missed). The stream ends with the guard.
    pub fn events(&self) -> impl Stream<Item = GuardEvent> + Send + Unpin + use<> {
        let events = self.gate().journal.events.subscribe();
        Box::pin(stream::unfold(events, async |mut events| {
            match events.recv().await {
                Ok(event) => Some((event, events)),
                Err(RecvError::Lagged(count)) => Some((GuardEvent::Missed { count }, events)),
                Err(RecvError::Closed) => None,
            }
        }))
    }

    fn gate(&self) -> &Gate {
        self.watched.gate()
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}
