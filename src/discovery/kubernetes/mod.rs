//! Services of a Kubernetes cluster.

mod pods;
mod slices;
mod uri;
mod watcher;

use std::fmt;
use std::future;
use std::time::Duration;

use self::pods::peer_updates;
use self::slices::service_updates;
use self::watcher::{Access, Cluster, Query};
use super::backend::{Backoff, Mirror, Mirrors, mirror};
use super::lease::Lease;
use super::registration::Registration;
use super::{BoxFuture, BoxStream, Discovery, Registrar};
use crate::error::discovery::{DiscoveryError, RegisterError};
use crate::model::instance::{InstanceSet, Visibility};
use crate::model::name::{Boundary, Role};
use crate::model::target::Target;

pub(super) use uri::parse;

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The services of a Kubernetes cluster, as their `EndpointSlice`s list them.
///
/// The target `shop/worker:http` is the port `http` of the service `worker` in the namespace `shop`. A port without a
/// name is the endpoint `default`. Only TCP ports count. A worker needs permission to `list` and `watch` `endpointslices`, and
/// `pods` if it has a guard; [`guide::kubernetes`](crate::guide::kubernetes) has the manifest.
///
/// - All slices of a service are merged. An endpoint that several slices list is one instance, and the readiest entry wins.
/// - A pod with addresses of both families is one instance. The IPv4 address is the first, and the IPv6 address its alternate.
/// - An instance has the name of its pod as id, or its IP address if no pod is behind it. Its zone is the endpoint's.
///   Its metadata has the entries `pod` and `node`.
/// - A ready endpoint is available. A terminating one drains while it is ready or serving. Any other is absent.
/// - An endpoint that vanishes without terminating stays for 2 s. Controllers move endpoints between slices, and replace
///   slices, in steps of which each is visible.
/// - [`peers`](Discovery::peers) are the pods of the namespace that run, by all their addresses. Pods in their host's
///   network are left out, because other programs of the host share that address.
/// - A registration is [left to the platform](Lease::by_platform).
///
/// One watch of a service serves all balancers of the process that use clones of this value. A watch that fails is opened again
/// after a pause of 200 ms to 10 s, with a new list. One that the server ends before its time, as it does when it is
/// restarted, is opened again with a new list within a second, at random. Sets are not confirmed.
///
/// # Defaults
///
/// The cluster and credentials of the kubeconfig file (`KUBECONFIG`, else `~/.kube/config`), else those of the pod;
/// visibility [`Public`](Visibility::Public), since a cluster has no such notion; a watch timeout of 60 s.
///
/// # Panics
///
/// A watch has to be polled in a tokio runtime with timers and I/O; elsewhere it gives nothing.
///
/// # Examples
///
/// ```
/// use rolecall::BalanceLayer;
/// use rolecall::discovery::Kubernetes;
///
/// let layer = BalanceLayer::<_>::new(Kubernetes::new(), "shop/worker:http")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Kubernetes {
    settings: Settings,
    mirrors: Mirrors<Subject>,
}

#[derive(Clone)]
struct Settings {
    cluster: Cluster,
    /// The namespace of the boundary `default`.
    namespace: Option<Boundary>,
    visibility: Visibility,
}

/// What one watch of the cluster is about.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Subject {
    Service(Boundary, Role),
    Pods(Boundary),
}

impl Kubernetes {
    /// The cluster that the kubeconfig file names, else the one that this process runs in.
    ///
    /// Both are read when a watch begins, and again after a failure. If neither is there, that is the error of the watch.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Access::Inferred)
    }

    /// The cluster that this configuration describes.
    ///
    /// Its retries and its connect timeout do not count: a request that fails is repeated by the watch.
    #[must_use]
    pub fn with_config(config: kube::Config) -> Self {
        Self::of(Access::Config(Box::new(config)))
    }

    /// The cluster of this client.
    ///
    /// The client belongs to the runtime it was made in, and no watch outlives that.
    #[must_use]
    pub fn with_client(client: kube::Client) -> Self {
        Self::of(Access::Client(client))
    }

    fn of(access: Access) -> Self {
        Self::with(Settings {
            cluster: Cluster::of(access),
            namespace: None,
            visibility: Visibility::Public,
        })
    }

    /// Clones made before go on with their own settings.
    fn with(settings: Settings) -> Self {
        let of = settings.clone();
        Self {
            settings,
            mirrors: Mirrors::new(move |subject| of.mirror(subject)),
        }
    }

    /// Takes the boundary `default` for this namespace, so that a program need not know where it runs. Default: the
    /// namespace `default`.
    #[must_use]
    pub fn namespace(mut self, namespace: Boundary) -> Self {
        self.settings.namespace = Some(namespace);
        Self::with(self.settings)
    }

    /// Sets which boundaries may see the instances. Default: all.
    #[must_use]
    pub fn visibility(mut self, visibility: Visibility) -> Self {
        self.settings.visibility = visibility;
        Self::with(self.settings)
    }

    /// Sets for how long the server keeps a watch open: 5 s to 290 s, and the nearer bound outside. Default: 60 s.
    ///
    /// A connection that died unnoticed is replaced 5 s after that time. Each watch of a process costs the server one request
    /// in that time.
    #[must_use]
    pub fn watch_timeout(mut self, timeout: Duration) -> Self {
        self.settings.cluster.set_watch_timeout(timeout);
        Self::with(self.settings)
    }
}

impl Settings {
    fn query(&self, boundary: &Boundary) -> Query {
        let namespace = match &self.namespace {
            Some(namespace) if *boundary == Boundary::default() => namespace,
            _ => boundary,
        };
        Query::new(&self.cluster, namespace.as_str())
    }

    fn mirror(&self, subject: Subject) -> Mirror {
        match subject {
            Subject::Service(boundary, role) => {
                let mut query = self.query(&boundary);
                query.labels = Some(format!("{SERVICE_NAME}={role}"));
                let visibility = self.visibility.clone();
                let open = move || {
                    let (boundary, role) = (boundary.clone(), role.clone());
                    service_updates(query.watch(), boundary, role, visibility.clone())
                };
                mirror(open, Backoff::default())
            }
            Subject::Pods(boundary) => {
                let mut query = self.query(&boundary);
                query.fields = Some("status.phase=Running");
                let open = move || peer_updates(query.watch(), boundary.clone());
                mirror(open, Backoff::default())
            }
        }
    }
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self::new()
    }
}

impl Discovery for Kubernetes {
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let boundary = target.boundary().cloned().unwrap_or_default();
        let subject = Subject::Service(boundary, target.role().clone());
        self.mirrors.read(subject, |mirror| mirror.watch(target))
    }

    fn peers(
        &self,
        boundary: &Boundary,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let subject = Subject::Pods(boundary.clone());
        self.mirrors.read(subject, |mirror| mirror.peers(boundary))
    }

    fn refresh(&self, _: &Target) {}
}

impl Registrar for Kubernetes {
    /// Announces nothing: the cluster lists a pod by the labels and the readiness that its manifest gives it.
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        let announcement = registration.validate();
        Box::pin(future::ready(announcement.map(|a| Lease::by_platform(&a))))
    }
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes")
            .field("namespace", &self.settings.namespace)
            .field("visibility", &self.settings.visibility)
            .finish_non_exhaustive()
    }
}
