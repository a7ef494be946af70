use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use super::environment::{Bind, Environment};
use super::error::WorkerError;
use super::loopback::WarnOfOtherHosts;
use crate::balance::BalanceLayer;
use crate::discovery::{Backend, Discovery, Lease, Registrar, Registration, Schemes};
use crate::error::discovery::RegisterError;
use crate::guard::{Guard, Listener, Networks};
use crate::http::{Client, TcpOptions};
use crate::model::address::Address;
use crate::model::instance::{Availability, InstanceId, Visibility};
use crate::model::name::{Boundary, EndpointName, Role};
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
/// use rolecall::{Worker, http};
/// # async fn serve(_: rolecall::guard::Listener) {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let worker = Worker::from_env()?;
/// let listener = worker.listen("http").await?;
/// let client: http::Client = worker.client("billing:http")?;
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
    role: Role,
    id: InstanceId,
    bind: Bind,
    advertise: Option<IpAddr>,
    /// Whether it was warned that its clients cannot reach other hosts.
    is_warned: Arc<AtomicBool>,
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
    /// | `ROLECALL_BIND` | `127.0.0.1` | the ip at which it listens, or `unix:` and a folder: each endpoint then has the Unix socket `{role}-{id}-{endpoint}.sock` there |
    /// | `ROLECALL_ADVERTISE` | `ROLECALL_BIND` | the ip by which others reach it, and from which its calls come; required where it listens at all addresses, such as `0.0.0.0` |
    /// | `ROLECALL_ALLOW` | none | networks that its listeners admit, such as `10.0.0.0/8, fd00::/8`, or `any`; required where discovery cannot list the peers of a boundary and it listens at an ip |
    /// | `ROLECALL_ZONE` | none | the failure domain it runs in |
    ///
    /// # Errors
    ///
    /// [`WorkerError::Missing`] and [`WorkerError::Invalid`], which name the variable and show a value that is right;
    /// [`WorkerError::Guard`] if `ROLECALL_ALLOW` is required, which is found out inside a tokio runtime only.
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
            environment
                .bind
                .unwrap_or(Bind::Ip(Ipv4Addr::LOCALHOST.into())),
            environment.advertise,
            environment.allow,
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
    /// [`WorkerError::Register`] if the registration is invalid, and [`WorkerError::Guard`] if discovery cannot list peers:
    /// then use [`from_env`](Self::from_env) with `ROLECALL_ALLOW`, or a [`Guard`] of your own.
    pub fn new(
        backend: impl Backend,
        registration: Registration,
        bind: IpAddr,
    ) -> Result<Self, WorkerError> {
        let bind = Bind::Ip(bind);
        Self::build(Arc::new(backend), registration, bind, None, None)
    }

    fn build(
        backend: Arc<dyn Backend>,
        registration: Registration,
        bind: Bind,
        advertise: Option<IpAddr>,
        allow: Option<Networks>,
    ) -> Result<Self, WorkerError> {
        let announced = registration.clone().validate()?;
        let boundary = announced.boundary().clone();
        let mut guard = Guard::builder(Arc::clone(&backend), boundary.clone());
        if let Visibility::Granted(others) = announced.visibility() {
            guard = others
                .iter()
                .cloned()
                .fold(guard, |guard, other| guard.allow(other));
        }
        if let Some(networks) = allow {
            guard = guard.allow_networks(networks);
        }
        if bind.ip().is_none() {
            guard = guard.for_unix_sockets();
        }
        let guard = guard.build()?;
        // Its sockets are named by it, before it is registered.
        let id = announced.id().clone();
        let registration = registration.id(id.clone());
        let advertise = announced.peer_ip().or(advertise);
        let reached_by = advertise.or_else(|| bind.ip().filter(|bind| !bind.is_unspecified()));
        let registration = match reached_by {
            Some(ip) => registration.peer_ip(ip),
            None => registration,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                discovery: backend,
                boundary,
                role: announced.role().clone(),
                id,
                registration,
                bind,
                advertise,
                is_warned: Arc::default(),
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
        let endpoint = EndpointName::new(endpoint).map_err(RegisterError::from)?;
        let address = match &self.inner.bind {
            Bind::Ip(ip) => Address::from((*ip, 0)),
            Bind::Folder(folder) => Address::Unix(self.socket(folder, &endpoint)),
        };
        self.listen_at(endpoint, address).await
    }

    /// The path of an endpoint's socket, the same in the next process of this id.
    fn socket(&self, folder: &Path, endpoint: &EndpointName) -> Arc<Path> {
        let Inner { role, id, .. } = &*self.inner;
        let id = id.as_str().replace('/', "%2F");
        folder.join(format!("{role}-{id}-{endpoint}.sock")).into()
    }

    /// The same at an address of your own; port 0 is a free one. A Unix socket is bound as
    /// [`Guard::listen_unix`] does it, and admits by user id.
    ///
    /// # Errors
    ///
    /// As of [`listen`](Self::listen).
    pub async fn listen_at(
        &self,
        endpoint: impl AsRef<str>,
        address: impl Into<Address>,
    ) -> Result<Listener, WorkerError> {
        let address = address.into();
        let Some(addr) = address.tcp() else {
            let listener = self.bind_unix(&address).map_err(|source| {
                let address = address.clone();
                WorkerError::Bind { address, source }
            })?;
            self.open(endpoint, address).await?;
            return Ok(listener);
        };
        let refused = |source| WorkerError::Bind { address, source };
        let listener = TcpListener::bind(addr).await;
        let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (addr, listener) = bound.map_err(refused)?;
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

    #[cfg(unix)]
    fn bind_unix(&self, address: &Address) -> io::Result<Listener> {
        let invalid = |reason| io::Error::new(io::ErrorKind::InvalidInput, reason);
        if let Some(reason) = address.fault() {
            return Err(invalid(reason));
        }
        let path = address.path().ok_or_else(|| invalid("no path"))?;
        self.inner.guard.listen_unix(path)
    }

    #[cfg(not(unix))]
    fn bind_unix(&self, _: &Address) -> io::Result<Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Announces an endpoint that the program serves by itself, or its new address.
    ///
    /// # Errors
    ///
    /// [`WorkerError::Register`], [`WorkerError::Drained`].
    pub async fn open(
        &self,
        endpoint: impl AsRef<str>,
        address: impl Into<Address>,
    ) -> Result<(), WorkerError> {
        self.inner
            .told(async |lease| lease.add_endpoint(endpoint, address).await)
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

    /// An HTTP/1.1 client of another role, or of its own: an [`http::Client`](crate::http::Client) in its boundary. It calls
    /// from the ip that it listens at, by which the guards of others know it; where it listens at all addresses, from the one
    /// that the system chooses.
    ///
    /// # Errors
    ///
    /// `target` is not written as one.
    pub fn client<B, T>(&self, target: T) -> Result<Client<B>, TargetError>
    where
        T: TryInto<Target>,
        T::Error: Into<TargetError>,
    {
        let client = Client::builder(self.callees(), target).boundary(self.inner.boundary.clone());
        match self.calls_from() {
            Some(ip) => client.tcp(TcpOptions::new().local_address(ip)).build(),
            None => client.build(),
        }
    }

    /// Balances gRPC calls over the instances of another role, or its own, for clients that tonic generates, in its
    /// boundary. It calls from the ip that it listens at, as [`client`](Self::client) does.
    ///
    /// # Errors
    ///
    /// `target` is not written as one.
    #[cfg(feature = "grpc")]
    pub fn channel<T>(&self, target: T) -> Result<crate::grpc::Channel, TargetError>
    where
        T: TryInto<Target>,
        T::Error: Into<TargetError>,
    {
        let mut channel = crate::grpc::Channel::builder(self.callees(), target)?
            .boundary(self.inner.boundary.clone());
        if let Some(ip) = self.calls_from() {
            channel = channel.local_address(ip);
        }
        Ok(channel.build())
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
        let layer = BalanceLayer::new(self.callees(), target)?;
        Ok(layer.boundary(self.inner.boundary.clone()))
    }

    /// The discovery of its clients.
    fn callees(&self) -> Arc<dyn Discovery> {
        let discovery = self.discovery();
        if !self.calls_from().is_some_and(|ip| ip.is_loopback()) {
            return discovery;
        }
        let is_warned = Arc::clone(&self.inner.is_warned);
        Arc::new(WarnOfOtherHosts {
            discovery,
            is_warned,
        })
    }

    /// The ip that its clients dial from, by which the guards of others know it. `None`: the system's choice.
    fn calls_from(&self) -> Option<IpAddr> {
        self.inner.bind.ip().filter(|bind| !bind.is_unspecified())
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

#[cfg(all(test, unix))]
mod tests {
    use http_body_util::Empty;

    use super::*;
    use crate::discovery::{List, Registry};

    fn registration() -> Registration {
        Registration::new("worker").id("w/1").boundary("shop")
    }

    #[tokio::test]
    async fn a_worker_in_a_folder_announces_a_unix_socket() {
        use futures::StreamExt;

        let folder = format!("rolecall-worker-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let registry = Registry::new();
        let bind = Bind::Folder(folder.clone().into());
        let backend = Arc::new(registry.clone());
        let worker = Worker::build(backend, registration(), bind, None, None).unwrap();
        let mut listener = worker.listen("http").await.unwrap();
        let target = "shop/worker:http".parse().unwrap();
        let set = registry.watch(&target).next().await.unwrap().unwrap();
        let instance = set.get("w/1").unwrap();
        let path = folder.join("worker-w%2F1-http.sock");
        assert_eq!(instance.address().path(), Some(path.as_path()));
        let (dialled, (_connection, peer)) =
            tokio::join!(crate::balance::connect::dial(instance), listener.accept());
        assert!(dialled.is_ok() && peer.uid().is_some());
        let taken = worker.listen("http").await.unwrap_err();
        assert!(
            taken.to_string().starts_with("cannot listen at unix:/"),
            "{taken}"
        );
        drop(listener);
        assert!(!path.exists());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn without_peers_a_worker_has_to_be_told_whom_it_admits() {
        let here = || Bind::Ip(Ipv4Addr::LOCALHOST.into());
        let list = || Arc::new(List::new([]).unwrap());
        let refused = Worker::build(list(), registration(), here(), None, None).unwrap_err();
        assert!(matches!(refused, WorkerError::Guard(_)), "{refused}");
        assert!(refused.to_string().contains("ROLECALL_ALLOW"), "{refused}");
        let any = Some("any".parse().unwrap());
        let worker = Worker::build(list(), registration(), here(), None, any).unwrap();
        let mut listener = worker.listen("http").await.unwrap();
        let addr = listener.local_addr().unwrap().tcp().unwrap();
        let (dialled, _) = tokio::join!(tokio::net::TcpStream::connect(addr), listener.accept());
        assert!(dialled.is_ok());
        let client = worker.client::<Empty<bytes::Bytes>, _>("other:http");
        assert!(client.is_ok());
    }
}
