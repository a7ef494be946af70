use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use http_body::Body;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tower_layer::Layer;

use super::WorkerError;
use super::environment::Environment;
use crate::balance::{Balance, BalanceLayer};
use crate::discovery::{Backend, Lease, Registrar, Registration, Schemes};
use crate::error::BoxError;
use crate::error::discovery::RegisterError;
use crate::guard::{Guard, Listener};
use crate::http::{ClassifyStatus, Connection, Connector};
use crate::model::instance::{Availability, InstanceId, Visibility};
use crate::model::name::Boundary;
use crate::model::target::{Target, TargetError};
use crate::runtime::clock;

/// One instance of a role: registers itself, lets only its boundary in, and calls others.
///
/// Clones are cheap and are the same instance. When the last one is dropped it is deregistered, best-effort.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use http_body_util::Empty;
/// use rolecall::Worker;
/// # async fn serve(_: rolecall::guard::Listener) {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let worker = Worker::from_env()?;
/// let listener = worker.listen("http").await?;
/// let client = worker.client::<Empty<bytes::Bytes>, _>("billing:http")?;
/// tokio::spawn(serve(listener));
/// tokio::signal::ctrl_c().await?;
/// worker.drain(Duration::from_secs(30)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Worker {
    inner: Arc<Inner>,
}

struct Inner {
    discovery: Arc<dyn Backend>,
    boundary: Boundary,
    registration: Registration,
    bind: IpAddr,
    advertise: Option<IpAddr>,
    guard: Guard,
    place: Mutex<Place>,
    /// Whether a drain has begun, for which others give way.
    drains: watch::Sender<bool>,
}

/// How a [drain](Worker::drain) ended that deregistered the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// How many connections were open at the deadline; 0 if it ended before.
    pub open: usize,
}

/// What discovery was told of it.
enum Place {
    Unregistered,
    Registered(Lease),
    Drained,
}

impl Worker {
    /// The instance that the environment tells of.
    ///
    /// | Variable | Default | Says |
    /// |---|---|---|
    /// | `ROLECALL_ROLE` | none, is required | its role |
    /// | `ROLECALL_DISCOVERY` | none, is required | where instances find each other: a [URI](crate::discovery::from_uri) |
    /// | `ROLECALL_BOUNDARY` | `default` | its service boundary |
    /// | `ROLECALL_ID` | `host-pid-random` | its id, which no other live instance of the role may have |
    /// | `ROLECALL_BIND` | `127.0.0.1` | the ip at which it listens |
    /// | `ROLECALL_ADVERTISE` | `ROLECALL_BIND` | the ip by which others reach it, and from which its calls come; required where it listens at all addresses, such as `0.0.0.0` |
    ///
    /// # Errors
    ///
    /// [`WorkerError::Missing`] and [`WorkerError::Invalid`], which name the variable and show a value that is right.
    pub fn from_env() -> Result<Self, WorkerError> {
        Self::from_env_with(&Schemes::default())
    }

    /// The same as [`from_env`](Self::from_env), with schemes of the program's own for `ROLECALL_DISCOVERY`.
    ///
    /// # Errors
    ///
    /// As for [`from_env`](Self::from_env).
    pub fn from_env_with(schemes: &Schemes) -> Result<Self, WorkerError> {
        let environment = Environment::read(std::env::var, schemes)?;
        Self::build(
            environment.backend,
            environment.registration,
            environment.bind.unwrap_or(Ipv4Addr::LOCALHOST.into()),
            environment.advertise,
        )
    }

    /// The instance that a registration tells of, for programs that have settings of their own.
    ///
    /// `bind` is the ip at which it listens. By which others reach it is the registration's
    /// [`peer_ip`](Registration::peer_ip), or else `bind`. Endpoints that the registration has already are announced as they
    /// are, and served by the program. A [granted](Visibility::Granted) boundary is admitted; where the registration is
    /// [public](Visibility::Public), everybody may call it but nobody else is admitted by
    /// [`listen`](Self::listen): serve it by [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// [`WorkerError::Register`] if the registration is invalid.
    pub fn new(
        backend: impl Backend,
        registration: Registration,
        bind: IpAddr,
    ) -> Result<Self, WorkerError> {
        Self::build(Arc::new(backend), registration, bind, None)
    }

    fn build(
        backend: Arc<dyn Backend>,
        registration: Registration,
        bind: IpAddr,
        advertise: Option<IpAddr>,
    ) -> Result<Self, WorkerError> {
        let announced = registration.clone().validate()?;
        let boundary = announced.boundary().clone();
        let guard = Guard::builder(Arc::clone(&backend), boundary.clone()).build()?;
        if let Visibility::Granted(others) = announced.visibility() {
            for other in others {
                guard.allow(other.clone());
            }
        }
        let advertise = announced.peer_ip().or(advertise);
        let reached_by = advertise.or_else(|| Some(bind).filter(|bind| !bind.is_unspecified()));
        let registration = match reached_by {
            Some(ip) => registration.peer_ip(ip),
            None => registration,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                discovery: backend,
                boundary,
                registration,
                bind,
                advertise,
                guard,
                place: Mutex::new(Place::Unregistered),
                drains: watch::Sender::new(false),
            }),
        })
    }

    /// Listens at a free port, and announces it as this endpoint. Who is not of the boundary is turned away.
    ///
    /// It is announced once the guard has heard from discovery who is.
    ///
    /// # Errors
    ///
    /// [`WorkerError::Bind`] with what the system says; [`WorkerError::NoAddress`]; [`WorkerError::Register`] if the name is
    /// invalid, the id is taken, or discovery failed; [`WorkerError::Drained`].
    ///
    /// # Cancellation
    ///
    /// The endpoint may be announced with nobody listening; listen again, or [`close`](Self::close) it.
    pub async fn listen(&self, endpoint: impl AsRef<str>) -> Result<Listener, WorkerError> {
        let addr = SocketAddr::new(self.inner.bind, 0);
        self.listen_at(endpoint, addr).await
    }

    /// The same at an address of your own; port 0 is a free one.
    ///
    /// # Errors
    ///
    /// As of [`listen`](Self::listen).
    pub async fn listen_at(
        &self,
        endpoint: impl AsRef<str>,
        addr: SocketAddr,
    ) -> Result<Listener, WorkerError> {
        let refused = |source| WorkerError::Bind { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(refused)?;
        let addr = listener.local_addr().map_err(refused)?;
        let ip = match self.inner.advertise {
            Some(ip) => ip,
            None if addr.ip().is_unspecified() => return Err(WorkerError::NoAddress { addr }),
            None => addr.ip(),
        };
        // Whoever hears of it at once has to be admitted.
        self.inner.synced().await?;
        self.open(endpoint, SocketAddr::new(ip, addr.port()))
            .await?;
        Ok(self.inner.guard.wrap(listener))
    }

    /// Announces an endpoint that the program serves by itself, or its new address.
    ///
    /// # Errors
    ///
    /// [`WorkerError::Register`], [`WorkerError::Drained`].
    pub async fn open(
        &self,
        endpoint: impl AsRef<str>,
        addr: SocketAddr,
    ) -> Result<(), WorkerError> {
        self.inner
            .told(async |lease| lease.add_endpoint(endpoint, addr).await)
            .await
    }

    /// Announces that an endpoint is gone; nothing happens if it is not open.
    ///
    /// # Errors
    ///
    /// [`WorkerError::Register`], [`WorkerError::Drained`].
    pub async fn close(&self, endpoint: impl AsRef<str>) -> Result<(), WorkerError> {
        self.inner
            .told(async |lease| lease.remove_endpoint(endpoint).await)
            .await
    }

    /// Registers it, if nothing did so far, and tells its id: for those who only call, so that the guards of others admit
    /// them.
    ///
    /// # Errors
    ///
    /// [`WorkerError::Register`], [`WorkerError::Drained`].
    pub async fn register(&self) -> Result<InstanceId, WorkerError> {
        self.inner.told(async |lease| Ok(lease.id().clone())).await
    }

    /// Announces whether it wants requests.
    ///
    /// # Errors
    ///
    /// [`WorkerError::Register`], [`WorkerError::Drained`].
    pub async fn set_availability(&self, availability: Availability) -> Result<(), WorkerError> {
        self.inner
            .told(async |lease| lease.set_availability(availability).await)
            .await
    }

    /// Balances HTTP/1.1 requests over the instances of another role, or its own: [`http::client`](crate::http::client) in
    /// its boundary. It calls from the ip that it listens at, by which the guards of others know it; where it listens at all
    /// addresses, from the one that the system chooses.
    ///
    /// # Errors
    ///
    /// `target` is not written as one.
    pub fn client<B, T>(
        &self,
        target: T,
    ) -> Result<Balance<Connection<B>, ClassifyStatus>, TargetError>
    where
        B: Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
        T: TryInto<Target>,
        T::Error: Into<TargetError>,
    {
        let layer = self.balance(target)?.classify(ClassifyStatus::new());
        let connector = Connector::new();
        let bind = self.inner.bind;
        Ok(layer.layer(if bind.is_unspecified() {
            connector
        } else {
            connector.local_address(bind)
        }))
    }

    /// The layer for any other connector, in its boundary.
    ///
    /// # Errors
    ///
    /// `target` is not written as one.
    pub fn balance<T>(&self, target: T) -> Result<BalanceLayer, TargetError>
    where
        T: TryInto<Target>,
        T::Error: Into<TargetError>,
    {
        let layer = BalanceLayer::new(self.discovery(), target)?;
        Ok(layer.boundary(self.inner.boundary.clone()))
    }

    /// Its discovery, for whatever else takes one. Say there who asks: [its boundary](Self::boundary).
    #[must_use]
    pub fn discovery(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.inner.discovery)
    }

    /// The boundary it belongs to.
    #[must_use]
    pub fn boundary(&self) -> &Boundary {
        &self.inner.boundary
    }

    /// Who is let in by its listeners.
    pub fn guard(&self) -> &Guard {
        &self.inner.guard
    }

    /// Announces draining, waits until no connection that its listeners handed out is open, and deregisters: all of it by
    /// the deadline, whatever discovery does.
    ///
    /// Callers give up their connections when they hear of it and what is in flight has ended. Requests are served
    /// meanwhile, also those of callers who did not hear yet: the listeners end when they are dropped. Connections that are
    /// open at the deadline are left open, and counted. Deregistering begins a second before the deadline, or when three
    /// quarters of a shorter one are over. Whatever waits for discovery meanwhile, such as a [`listen`](Self::listen), gives
    /// way with [`WorkerError::Drained`].
    ///
    /// # Errors
    ///
    /// [`WorkerError::Register`] if it could not be deregistered by the deadline, or another drain was not over by then.
    /// It goes on best-effort, and the lease expires by itself.
    ///
    /// # Cancellation
    ///
    /// It is deregistered at once, best-effort.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with its timer enabled.
    pub async fn drain(&self, deadline: Duration) -> Result<Drained, WorkerError> {
        let began = clock::now();
        self.inner.drains.send_replace(true);
        // Held to the end: who calls it meanwhile waits for that, too.
        let mut place = timeout(deadline, self.inner.place.lock())
            .await
            .map_err(|late| RegisterError::backend("waiting for another drain", late))?;
        let lease = std::mem::replace(&mut *place, Place::Drained);
        if let Place::Registered(lease) = lease {
            let waited = clock::now().saturating_duration_since(began);
            let left = deadline.saturating_sub(waited);
            lease.drain_until(self.inner.guard.idle(), left).await?;
        }
        let open = self.inner.guard.status().open;
        Ok(Drained { open })
    }
}

impl Inner {
    /// Waits until the guard has heard of its peers, unless a drain begins.
    async fn synced(&self) -> Result<(), WorkerError> {
        let mut drains = self.drains.subscribe();
        let drained = pin!(drains.wait_for(|drains| *drains));
        match select(drained, pin!(self.guard.synced())).await {
            Either::Left(_) => Err(WorkerError::Drained),
            Either::Right(_) => Ok(()),
        }
    }

    /// Tells discovery something, once it is registered, unless a drain begins.
    async fn told<T>(
        &self,
        tell: impl AsyncFnOnce(&Lease) -> Result<T, RegisterError>,
    ) -> Result<T, WorkerError> {
        let mut drains = self.drains.subscribe();
        let drained = pin!(drains.wait_for(|drains| *drains));
        let told = pin!(async {
            let mut place = self.place.lock().await;
            let lease = self.registered(&mut place).await?;
            Ok(tell(lease).await?)
        });
        match select(drained, told).await {
            Either::Left(_) => Err(WorkerError::Drained),
            Either::Right((told, _)) => told,
        }
    }

    async fn registered<'a>(&self, place: &'a mut Place) -> Result<&'a Lease, WorkerError> {
        if let Place::Unregistered = place {
            let registration = self.registration.clone();
            *place = Place::Registered(self.discovery.register(registration).await?);
        }
        match place {
            Place::Registered(lease) => Ok(lease),
            Place::Unregistered | Place::Drained => Err(WorkerError::Drained),
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("registration", &self.inner.registration)
            .finish_non_exhaustive()
    }
}
