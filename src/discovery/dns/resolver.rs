//! Asks DNS servers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join;
use futures_util::{StreamExt, stream};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::answer::{self, Addresses, Service};
use super::query::DnsQuery;
use crate::discovery::backend::PollAnswer;
use crate::error::discovery::DiscoveryError;
use crate::model::instance::{InstanceSet, Visibility};
use crate::model::target::Target;

/// Hosts of SRV records whose addresses are asked at once.
const MOST_AT_ONCE: usize = 16;

/// How to ask.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    /// Those of the system configuration if there is none.
    pub(super) servers: Vec<SocketAddr>,
    pub(super) timeout: Duration,
}

/// What an answer says, or that there is no such name.
struct Answered<T> {
    /// None if the name does not exist.
    found: Option<T>,
    /// Seconds; of negative answers too, if the server says so.
    ttl: Option<u32>,
}

impl Resolver {
    /// The instances of a target, and how long they are valid.
    pub(super) async fn resolve(
        &self,
        target: &Target,
        query: &DnsQuery,
        visibility: &Visibility,
    ) -> Result<PollAnswer, DiscoveryError> {
        let failed = |error| DiscoveryError::backend(format!("resolving {query}"), error);
        let asked = async {
            let resolver = self.open()?;
            let name = Name::from_utf8(&query.name)?;
            match query.port {
                Some(port) => {
                    let answered = addresses(&resolver, name).await?;
                    let set = answered
                        .found
                        .map(|found| answer::of_addresses(&found, port, visibility));
                    Ok((set, answered.ttl))
                }
                None => services(&resolver, name, visibility).await,
            }
        };
        let (set, ttl) = asked.await.map_err(failed)?;
        let set = set.ok_or_else(|| DiscoveryError::unknown_role(target))?;
        // A negative answer without a TTL is asked again as soon as may be.
        let valid_for = Duration::from_secs(ttl.unwrap_or(0).into());
        Ok(PollAnswer::new(set).valid_for(valid_for))
    }

    /// A new one for each query: it belongs to no runtime, and follows the system configuration. It caches nothing,
    /// since answers are asked again when they expire.
    fn open(&self) -> Result<TokioResolver, NetError> {
        let mut builder = if self.servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = self.servers.iter().map(|server| {
                let mut config = NameServerConfig::udp_and_tcp(server.ip());
                for connection in &mut config.connections {
                    connection.port = server.port();
                }
                config
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.timeout = self.timeout;
        options.attempts = 1;
        options.edns0 = true;
        // Of two dead servers, neither delays the answer of a third.
        options.num_concurrent_reqs = 3;
        options.use_hosts_file = ResolveHosts::Never;
        builder.build()
    }
}

async fn services(
    resolver: &TokioResolver,
    name: Name,
    visibility: &Visibility,
) -> Result<(Option<InstanceSet>, Option<u32>), NetError> {
    let answered = asked(resolver, name, RecordType::SRV).await?;
    let mut ttl = answered.ttl;
    let Some((records, additionals)) = answered.found else {
        return Ok((None, ttl));
    };
    let services: BTreeSet<Service> = records.iter().filter_map(service).collect();
    let mut known = Addresses::new();
    for record in &additionals {
        if let Some(ip) = ip(record) {
            known.entry(host(&record.name)).or_default().insert(ip);
        }
    }
    if answer::are_complete(&services, &known) {
        let glue = additionals.iter().filter(|record| ip(record).is_some());
        ttl = ttl.into_iter().chain(glue.map(|record| record.ttl)).min();
    } else {
        let hosts: BTreeSet<String> = services
            .iter()
            .map(|service| service.host.clone())
            .collect();
        let mut asking = stream::iter(hosts)
            .map(async |host| {
                let name = Name::from_utf8(format!("{host}."))?;
                Ok::<_, NetError>((host, addresses(resolver, name).await?))
            })
            .buffer_unordered(MOST_AT_ONCE);
        known.clear();
        while let Some(asked) = asking.next().await {
            let (host, answered) = asked?;
            ttl = ttl.into_iter().chain(answered.ttl).min();
            known.insert(host, answered.found.unwrap_or_default());
        }
    }
    Ok((
        Some(answer::of_services(&services, &known, visibility)),
        ttl,
    ))
}

/// The addresses of a host, of both families.
///
/// Some servers fail for AAAA records of names that have A records, so one family does where the other fails. Only if no
/// answer for A records comes at all, nobody knows what they are: one lost datagram must not exchange all addresses.
async fn addresses(
    resolver: &TokioResolver,
    name: Name,
) -> Result<Answered<BTreeSet<IpAddr>>, NetError> {
    let v4 = asked(resolver, name.clone(), RecordType::A);
    let v6 = asked(resolver, name, RecordType::AAAA);
    let answered = match join(v4, v6).await {
        (Ok(v4), Ok(v6)) => [Some(v4), Some(v6)],
        (Ok(v4), Err(_)) if has_address(&v4) => [Some(v4), None],
        (Err(NetError::Dns(_)), Ok(v6)) if has_address(&v6) => [Some(v6), None],
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    let answered: Vec<_> = answered.into_iter().flatten().collect();
    let exists = answered.iter().any(|family| family.found.is_some());
    let any = answered.iter().any(has_address);
    // An absent family may come later, but as long as the other one is there, that is soon enough.
    let ttls = answered.iter().filter(|family| !any || has_address(family));
    let ttl = ttls.filter_map(|family| family.ttl).min();
    let found = answered.into_iter().filter_map(|family| family.found);
    let ips: BTreeSet<IpAddr> = found
        .flat_map(|(records, _)| records)
        .filter_map(|record| ip(&record))
        .collect();
    Ok(Answered {
        found: exists.then_some(ips),
        ttl,
    })
}

fn has_address(family: &Answered<(Vec<Record>, Vec<Record>)>) -> bool {
    let records = family.found.as_ref().map(|(records, _)| records);
    records.is_some_and(|records| records.iter().any(|record| ip(record).is_some()))
}

/// The answers, which are none if the name has no such record, and the additional records.
async fn asked(
    resolver: &TokioResolver,
    name: Name,
    kind: RecordType,
) -> Result<Answered<(Vec<Record>, Vec<Record>)>, NetError> {
    match resolver.lookup(name, kind).await {
        Ok(lookup) => {
            let answers = lookup.answers();
            Ok(Answered {
                ttl: answers.iter().map(|record| record.ttl).min(),
                found: Some((answers.to_vec(), lookup.additionals().to_vec())),
            })
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            let found = match none.response_code {
                ResponseCode::NoError => Some((Vec::new(), Vec::new())),
                ResponseCode::NXDomain => None,
                code => return Err(DnsError::ResponseCode(code).into()),
            };
            Ok(Answered {
                found,
                ttl: none.negative_ttl,
            })
        }
        Err(error) => Err(error),
    }
}

fn service(record: &Record) -> Option<Service> {
    match &record.data {
        RData::SRV(srv) => Some(Service {
            priority: srv.priority,
            weight: srv.weight,
            host: host(&srv.target),
            port: srv.port,
        }),
        _ => None,
    }
}

fn ip(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(ip) => Some(ip.0.into()),
        RData::AAAA(ip) => Some(ip.0.into()),
        _ => None,
    }
}

fn host(name: &Name) -> String {
    let mut host = name.to_lowercase().to_ascii();
    if host.ends_with('.') {
        host.pop();
    }
    host
}
