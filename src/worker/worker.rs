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
use crate::fleet::BalanceConfig;
use crate::guard::{Guard, Listener, Networks};
use crate::http::{Client, TcpOptions};
use crate::model::address::Address;
use crate::model::instance::{Availability, InstanceId, Visibility, Zone};
use crate::model::name::{Boundary, EndpointName, Role};
use crate::model::target::{Target, TargetError};
use crate::runtime::clock;

/// One instance of a role. It registers itself, admits only its own boundary, and calls other roles.
///
/// Clones are cheap and refer to the same instance. Dropping the last clone deregisters it, best-effort.
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
    zone: Option<Zone>,
    registration: Registration,
    role: Role,
    id: InstanceId,
    bind: Bind,
    advertise: Option<IpAddr>,
    /// Whether the warning that its clients cannot reach other hosts was logged.
    is_warned: Arc<AtomicBool>,
    guard: Guard,
    place: Mutex<Place>,
    /// Whether a drain has begun. Other operations then end early.
    drains: watch::Sender<bool>,
}

/// The result of a [drain](Worker::drain).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// The number of connections still open at the deadline; 0 if the drain ended earlier.
    pub open: usize,
}

/// How far its registration has come.
enum Place {
    Unregistered,
    Registered(Lease),
    Drained,
}

impl Worker {
    /// Configures a worker from environment variables.
    ///
    /// | Variable | Default | Meaning |
    /// |---|---|---|
    /// | `ROLECALL_ROLE` | none, is required | its role |
    /// | `ROLECALL_DISCOVERY` | none, is required | the discovery backend, as a [URI](crate::discovery::from_uri) |
    /// | `ROLECALL_BOUNDARY` | `default` | its service boundary |
    /// | `ROLECALL_ID` | `host-pid-random` | its id; unique among the live instances of the role |
    /// | `ROLECALL_BIND` | `127.0.0.1` | the ip to listen at, or `unix:` and a folder, in which each endpoint gets the Unix socket `{role}-{id}-{endpoint}.sock` |
    /// | `ROLECALL_ADVERTISE` | `ROLECALL_BIND` | the ip by which others reach it and from which its calls come; required if it listens at all addresses, such as `0.0.0.0` |
    /// | `ROLECALL_ALLOW` | none | networks that its listeners admit, such as `10.0.0.0/8, fd00::/8`, or `any`; required if discovery cannot list peers and it listens at an ip |
    /// | `ROLECALL_ZONE` | none | the failure domain it runs in, which its clients prefer |
    ///
    /// # Errors
    ///
    /// [`WorkerError::Missing`] and [`WorkerError::Invalid`] name the variable and show a valid value.
    /// [`WorkerError::Guard`] means that `ROLECALL_ALLOW` is required. It is detected only inside a tokio runtime.
    pub fn from_env() -> Result<Self, WorkerError> {
        Self::from_env_with(&Schemes::default())
    }

    /// Like [`from_env`](Self::from_env), with additional URI schemes for `ROLECALL_DISCOVERY`.
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

    /// Configures a worker from a registration, for programs with their own settings.
    ///
    /// The worker listens at the ip `bind`. Others reach it by the registration's [`peer_ip`](Registration::peer_ip), or else
    /// by `bind`. Endpoints in the registration are announced as they are; the program serves them.
    ///
    /// Listeners admit the worker's own boundary and those that its visibility [grants](Visibility::Granted). A
    /// [public](Visibility::Public) registration is visible to all boundaries, but [`listen`](Self::listen) still admits only
    /// its own. Serve a public endpoint with a listener of your own, and announce it with [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// [`WorkerError::Register`] if the registration is invalid. [`WorkerError::Guard`] if discovery cannot list peers: use
    /// [`from_env`](Self::from_env) with `ROLECALL_ALLOW`, or a [`Guard`] of your own.
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
                zone: announced.zone().cloned(),
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

    /// Listens at a free port and announces it as this endpoint. Connections from outside the boundary are closed.
    ///
    /// The endpoint is announced once the guard knows its peers from discovery.
    ///
    /// # Errors
    ///
    /// [`WorkerError::Bind`] with what the system says; [`WorkerError::NoAddress`]; [`WorkerError::Register`] if the name is
    /// invalid, the id is taken, or discovery failed; [`WorkerError::Drained`].
    ///
    /// # Cancellation
    ///
    /// The endpoint may stay announced without a listener. Listen again, or [`close`](Self::close) it.
    pub async fn listen(&self, endpoint: impl AsRef<str>) -> Result<Listener, WorkerError> {
        let endpoint = EndpointName::new(endpoint).map_err(RegisterError::from)?;
        let address = match &self.inner.bind {
            Bind::Ip(ip) => Address::from((*ip, 0)),
            Bind::Folder(folder) => Address::Unix(self.socket(folder, &endpoint)),
        };
        self.listen_at(endpoint, address).await
    }

    /// The path of an endpoint's socket. It is the same for the next process with this id.
    fn socket(&self, folder: &Path, endpoint: &EndpointName) -> Arc<Path> {
        let Inner { role, id, .. } = &*self.inner;
        let id = id.as_str().replace('/', "%2F");
        folder.join(format!("{role}-{id}-{endpoint}.sock")).into()
    }

    /// Like [`listen`](Self::listen), at the given address. Port 0 is a free port. A Unix socket is bound as by
    /// [`Guard::listen_unix`], and admits by user id.
    ///
    /// # Errors
    ///
    /// As for [`listen`](Self::listen).
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

    /// Announces an endpoint that the program serves itself, or a new address of it.
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

    /// Withdraws an endpoint. Does nothing if it is not announced.
    ///
    /// # Errors
    ///
    /// [`WorkerError::Register`], [`WorkerError::Drained`].
    pub async fn close(&self, endpoint: impl AsRef<str>) -> Result<(), WorkerError> {
        self.inner
            .told(async |lease| lease.remove_endpoint(endpoint).await)
            .await
    }

    /// Registers the worker if it is not registered yet, and returns its id. A worker without endpoints needs this, so that
    /// other guards admit its calls.
    ///
    /// # Errors
    ///
    /// [`WorkerError::Register`], [`WorkerError::Drained`].
    pub async fn register(&self) -> Result<InstanceId, WorkerError> {
        self.inner.told(async |lease| Ok(lease.id().clone())).await
    }

    /// Announces whether the worker wants requests.
    ///
    /// # Errors
    ///
    /// [`WorkerError::Register`], [`WorkerError::Drained`].
    pub async fn set_availability(&self, availability: Availability) -> Result<(), WorkerError> {
        self.inner
            .told(async |lease| lease.set_availability(availability).await)
            .await
    }

    /// Makes an HTTP/1.1 client for a role: an [`http::Client`](crate::http::Client) in the worker's boundary.
    ///
    /// It calls from the ip at which the worker listens, because other guards know the worker by it. If the worker listens at
    /// all addresses, the system chooses the source address.
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
        let client = client.config(self.config());
        match self.calls_from() {
            Some(ip) => client.tcp(TcpOptions::new().local_address(ip)).build(),
            None => client.build(),
        }
    }

    /// Makes a gRPC channel for a role, in the worker's boundary, for clients that tonic generates. It calls from the same ip
    /// as [`client`](Self::client).
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
            .boundary(self.inner.boundary.clone())
            .config(self.config());
        if let Some(ip) = self.calls_from() {
            channel = channel.local_address(ip);
        }
        Ok(channel.build())
    }

    /// Makes a layer for any other connector, in the worker's boundary.
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
        let layer = layer.boundary(self.inner.boundary.clone());
        Ok(layer.config(self.config()))
    }

    /// The configuration of its clients: the defaults, and its own [zone](crate::ConfigBuilder::zone) if it has one. A layer that
    /// gets another configuration should begin with this one.
    #[must_use]
    pub fn config(&self) -> BalanceConfig {
        // The defaults are valid, and any zone is.
        let config = BalanceConfig::builder().zone(self.inner.zone.clone());
        config.build().unwrap_or_default()
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

    /// The source address of its clients, by which other guards know it. `None`: the system chooses.
    fn calls_from(&self) -> Option<IpAddr> {
        self.inner.bind.ip().filter(|bind| !bind.is_unspecified())
    }

    /// Its discovery. Whoever uses it must also set [the boundary](Self::boundary).
    #[must_use]
    pub fn discovery(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.inner.discovery)
    }

    /// The boundary it belongs to.
    #[must_use]
    pub fn boundary(&self) -> &Boundary {
        &self.inner.boundary
    }

    /// The guard of its listeners.
    pub fn guard(&self) -> &Guard {
        &self.inner.guard
    }

    /// Announces draining, waits until every accepted connection is closed, and deregisters. It returns within `deadline`,
    /// even if discovery does not answer.
    ///
    /// A caller that learns of it finishes its requests in flight and closes its connections. Meanwhile the listeners still
    /// accept requests, for callers that have not learned of it yet; drop a listener to stop that. Connections that are open
    /// at the deadline stay open and are counted. Deregistration starts one second before the deadline, or after three
    /// quarters of a deadline under four seconds. A pending [`listen`](Self::listen) ends with [`WorkerError::Drained`].
    ///
    /// # Errors
    ///
    /// [`WorkerError::Register`] if the worker could not be deregistered by the deadline, or another drain was still running.
    /// Deregistration continues best-effort, and the lease expires by itself.
    ///
    /// # Cancellation
    ///
    /// Dropping the future deregisters the worker at once, best-effort.
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
    /// Waits until the guard knows its peers, or a drain begins.
    async fn synced(&self) -> Result<(), WorkerError> {
        let mut drains = self.drains.subscribe();
        let drained = pin!(drains.wait_for(|drains| *drains));
        match select(drained, pin!(self.guard.synced())).await {
            Either::Left(_) => Err(WorkerError::Drained),
            Either::Right(_) => Ok(()),
        }
    }

    /// Registers the worker if necessary and edits its lease, unless a drain begins.
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
