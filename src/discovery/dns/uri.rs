//! `dns:example.com`, `dns://10.0.0.2:53/example.com?port=8080`

use std::net::{IpAddr, SocketAddr};

use super::names::Dns;
use crate::discovery::uri_parts::{Parts, duration};
use crate::error::BoxError;
use crate::runtime::text::excerpt;

pub(in crate::discovery) fn from_uri(rest: &str) -> Result<Dns, BoxError> {
    let parts = Parts::of(rest)?;
    parts.only(&["port", "shortest-ttl", "longest-ttl", "timeout"])?;
    let domain = parts.path.trim_matches('.');
    let is_label = |label: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(is_part)
    };
    if !domain.split('.').all(is_label) {
        return Err(format!(
            "expected a domain such as example.com, found \"{}\"",
            excerpt(parts.path)
        )
        .into());
    }
    let mut dns = match parts.parameter("port") {
        None => Dns::srv(domain),
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => Dns::addresses(domain, port),
            _ => {
                return Err(format!(
                    "expected a port from 1 to 65535, found \"{}\"",
                    excerpt(port)
                )
                .into());
            }
        },
    };
    let servers = parts.hosts.iter().map(|host| server(host));
    dns = dns.servers(servers.collect::<Result<Vec<_>, _>>()?);
    if let Some(timeout) = parts.parameter("timeout") {
        dns = dns.timeout(duration(timeout)?);
    }
    let (shortest, longest) = super::names::TTL_BOUNDS;
    let bound = |name, default| parts.parameter(name).map_or(Ok(default), duration);
    Ok(dns.ttl_bounds(
        bound("shortest-ttl", shortest)?,
        bound("longest-ttl", longest)?,
    ))
}

/// An address with a port, or one without, which is that of DNS.
fn server(text: &str) -> Result<SocketAddr, BoxError> {
    let alone = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(server) = text.parse() {
        return Ok(server);
    }
    match alone.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, 53)),
        Err(_) => Err(format!(
            "expected the IP address of a DNS server, found \"{}\"",
            excerpt(text)
        )
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_a_domain_servers_and_a_port() {
        for good in [
            "example.com",
            "svc.cluster.local.",
            "//10.0.0.2:5353,[::1]:53,10.0.0.3,[::1]/example.com",
            "//10.0.0.2/example.com?port=8080&timeout=200ms&shortest-ttl=5s&longest-ttl=1m",
        ] {
            assert!(from_uri(good).is_ok(), "{good}");
        }
        for (bad, says) in [
            ("", "expected a domain"),
            ("//10.0.0.2", "expected a domain"),
            ("a b", "expected a domain"),
            ("a..b", "expected a domain"),
            ("//ns.example.com/example.com", "IP address of a DNS server"),
            ("example.com?port=0", "1 to 65535"),
            ("example.com?port=http", "1 to 65535"),
            ("example.com?ttl=1s", "shortest-ttl"),
            ("example.com?timeout=soon", "500ms, 10s"),
        ] {
            let error = from_uri(bad).unwrap_err().to_string();
            assert!(error.contains(says), "{bad:?} gave {error}");
        }
    }
}
