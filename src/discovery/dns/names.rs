use std::fmt;
use std::future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use super::query::DnsQuery;
use super::resolver::Resolver;
use crate::discovery::backend::{PerTarget, PollBounds, poll};
use crate::discovery::lease::Lease;
use crate::discovery::registration::Registration;
use crate::discovery::{BoxFuture, BoxStream, Discovery, Registrar, no_peers};
use crate::error::discovery::{DiscoveryError, DiscoveryErrorKind, RegisterError};
use crate::model::instance::{InstanceSet, Visibility};
use crate::model::name::Boundary;
use crate::model::target::Target;

/// Instances that DNS knows: SRV records, or the addresses of a host.
///
/// | Record | Becomes |
/// |---|---|
/// | SRV | an instance with the id `host:port`; all addresses of the host are its address and alternates, IPv4 first |
/// | priority | rank, in order: 0 for the lowest priority |
/// | weight | weight, but at least 1: a weight of 0 means "seldom" in DNS, "never" here |
/// | A; AAAA if there is no A record | an instance with the id `ip:port` |
///
/// - An answer is asked again when the shortest TTL of its records is over, at the soonest after 1 s and at the latest after
///   60 s unless [set](Self::ttl_bounds) otherwise. The time varies at random by 10 % within these bounds, so that many
///   callers do not ask in step. A name that does not exist, or has no such records, is asked again within 5 s.
///   While dials fail or nothing is usable, a balancer asks about once a second.
/// - A name that does not exist is an unknown role. Once a watch has given a set, it is an empty set, as is a name without
///   such records. Sets are never confirmed, so a balancer doubts one that is suddenly empty.
/// - Any other failure, of one name among many too, is an error, and the last set stays. Of one host, the addresses of one
///   family do if the server fails to answer for the other. A timeout of the A records is still an error: IPv4 addresses
///   come first, and a lost datagram must not exchange them all.
/// - Truncated answers are asked again over TCP, and chains of CNAME are followed. Order and duplicates make no difference.
/// - All watches of a target share its queries. Each query opens its own sockets and caches nothing.
///
/// DNS lists no peers. A registration announces nothing: whoever writes the zone does.
///
/// # Trust
///
/// Answers are not authenticated. Where an attacker can forge them, use TLS with names that the program chooses, and
/// `guard::Networks`.
///
/// # Panics
///
/// A watch has to be polled in a tokio runtime with timers and I/O.
///
/// # Examples
///
/// ```
/// use rolecall::discovery::{Dns, DnsQuery};
///
/// // worker:http is _http._tcp.worker.default.svc.example.com
/// let services = Dns::srv("svc.example.com");
/// // worker:http is worker.default.svc.example.com, port 8080
/// let hosts = Dns::addresses("svc.example.com", 8080);
/// // whatever the program likes
/// let own = Dns::query(|target| DnsQuery::srv(format!("{}.service.consul.", target.role())))
///     .servers([([127, 0, 0, 1], 8600).into()]);
/// ```
#[derive(Clone)]
pub struct Dns {
    settings: Settings,
    polled: PerTarget,
}

#[derive(Clone)]
struct Settings {
    query: Arc<dyn Fn(&Target) -> DnsQuery + Send + Sync>,
    resolver: Resolver,
    bounds: PollBounds,
    visibility: Visibility,
}

pub(super) const TTL_BOUNDS: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(60));
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(30));

impl Dns {
    /// The SRV records `_{endpoint}._tcp.{role}.{boundary}.{domain}`.
    pub fn srv(domain: impl Into<String>) -> Self {
        let domain = domain.into();
        Self::query(move |target| DnsQuery::srv_of(target, &domain))
    }

    /// The addresses of the host `{role}.{boundary}.{domain}`, each an instance at this port, whatever the endpoint is
    /// called.
    pub fn addresses(domain: impl Into<String>, port: u16) -> Self {
        let domain = domain.into();
        Self::query(move |target| DnsQuery::addresses_of(target, &domain, port))
    }

    /// The query that `query` makes of a target.
    ///
    /// The target has a boundary. `query` is called before each query, and must not block.
    pub fn query(query: impl Fn(&Target) -> DnsQuery + Send + Sync + 'static) -> Self {
        Self::with(Settings {
            query: Arc::new(query),
            resolver: Resolver {
                servers: Vec::new(),
                timeout: Duration::from_secs(1),
            },
            bounds: PollBounds::new(TTL_BOUNDS.0, TTL_BOUNDS.1),
            visibility: Visibility::Public,
        })
    }

    /// Asks these servers, over UDP and TCP. Default: those of the system configuration, which is read before each query.
    #[must_use]
    pub fn servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.settings.resolver.servers = servers.into_iter().collect();
        Self::with(self.settings)
    }

    /// How soon and how late an answer is asked again, whatever its TTL is: 10 ms to 1 h, default 1 s to 60 s. `longest` is
    /// at least `shortest`.
    ///
    /// They also bound the pauses after errors, which double from one to the other.
    #[must_use]
    pub fn ttl_bounds(mut self, shortest: Duration, longest: Duration) -> Self {
        self.settings.bounds = PollBounds::new(shortest, longest);
        Self::with(self.settings)
    }

    /// How long a server may take, 10 ms to 30 s; default 1 s. Each is asked twice.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.resolver.timeout = timeout.clamp(TIMEOUT.0, TIMEOUT.1);
        Self::with(self.settings)
    }

    /// Who may see the instances. Default: [`Visibility::Public`].
    #[must_use]
    pub fn visibility(mut self, visibility: Visibility) -> Self {
        self.settings.visibility = visibility;
        Self::with(self.settings)
    }

    fn with(settings: Settings) -> Self {
        let of = settings.clone();
        let ask = move |target: Target| {
            let settings = of.clone();
            async move {
                let query = (settings.query)(&target);
                let resolved = settings
                    .resolver
                    .resolve(&target, &query, &settings.visibility);
                resolved.await
            }
        };
        let polled = poll(ask, settings.bounds);
        Self { settings, polled }
    }
}

impl Discovery for Dns {
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let mut has_given_set = false;
        let answers = self.polled.watch(target).map(move |answer| match answer {
            Err(error) if has_given_set && error.kind() == DiscoveryErrorKind::UnknownRole => {
                Ok(InstanceSet::empty())
            }
            answer => {
                has_given_set |= answer.is_ok();
                answer
            }
        });
        Box::pin(answers)
    }

    /// An error: DNS does not tell who belongs to a boundary.
    fn peers(&self, _: &Boundary) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        no_peers()
    }

    fn refresh(&self, target: &Target) {
        self.polled.refresh(target);
    }
}

impl Registrar for Dns {
    /// Announces nothing: whoever writes the zone does.
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        let announcement = registration.validate();
        Box::pin(future::ready(announcement.map(|a| Lease::by_platform(&a))))
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns")
            .field("resolver", &self.settings.resolver)
            .field("bounds", &self.settings.bounds)
            .field("visibility", &self.settings.visibility)
            .finish_non_exhaustive()
    }
}
