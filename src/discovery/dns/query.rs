use std::fmt;

use crate::model::target::Target;

/// What [`Dns`](super::Dns) asks for a target: SRV records, or the addresses of a host.
///
/// A name that ends in a dot is asked as it is. To others the resolver applies the search domains of the system
/// configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsQuery {
    pub(super) name: String,
    /// Of the addresses; SRV records name their own.
    pub(super) port: Option<u16>,
}

impl DnsQuery {
    /// The SRV records of a name, such as `_http._tcp.worker.example.com.`. Each is an instance.
    pub fn srv(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            port: None,
        }
    }

    /// The A records of a host, or its AAAA records if it has no A record. Each is an instance at this port.
    pub fn addresses(host: impl Into<String>, port: u16) -> Self {
        Self {
            name: host.into(),
            port: Some(port),
        }
    }

    /// `_{endpoint}._tcp.{role}.{boundary}.{domain}.`
    pub(super) fn srv_of(target: &Target, domain: &str) -> Self {
        let endpoint = target.endpoint();
        Self::srv(format!("_{endpoint}._tcp.{}", host(target, domain)))
    }

    /// `{role}.{boundary}.{domain}.`
    pub(super) fn addresses_of(target: &Target, domain: &str, port: u16) -> Self {
        Self::addresses(host(target, domain), port)
    }
}

fn host(target: &Target, domain: &str) -> String {
    let boundary = target.boundary().cloned().unwrap_or_default();
    let domain = domain.trim_matches('.');
    let role = target.role();
    match domain {
        "" => format!("{role}.{boundary}."),
        domain => format!("{role}.{boundary}.{domain}."),
    }
}

impl fmt::Display for DnsQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = crate::runtime::text::excerpt(&self.name);
        match self.port {
            None => write!(f, "SRV {name}"),
            Some(port) => write!(f, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_the_target_and_end_in_the_root() {
        let target: Target = "media/worker:http".parse().unwrap();
        for domain in ["example.com", "example.com.", ".example.com"] {
            let query = DnsQuery::srv_of(&target, domain);
            assert_eq!(query.name, "_http._tcp.worker.media.example.com.");
            let query = DnsQuery::addresses_of(&target, domain, 80);
            assert_eq!(query.to_string(), "worker.media.example.com.:80");
        }
        let target: Target = "worker:http".parse().unwrap();
        assert_eq!(
            DnsQuery::srv_of(&target, "").name,
            "_http._tcp.worker.default."
        );
    }
}
