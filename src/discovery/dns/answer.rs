//! What records mean: the rules from an answer to a set, without any I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::model::address::Address;
use crate::model::instance::{Instance, InstanceSet, Visibility};

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    /// Lower case, without the last dot.
    pub(super) host: String,
    pub(super) port: u16,
}

/// The addresses of each host.
pub(super) type Addresses = BTreeMap<String, BTreeSet<IpAddr>>;

/// The set of the addresses of one host: A records, and AAAA records only if there is no A record. Nobody knows which of
/// both are one instance.
pub(super) fn of_addresses(
    addresses: &BTreeSet<IpAddr>,
    port: u16,
    visibility: &Visibility,
) -> InstanceSet {
    let has_v4 = addresses.iter().any(IpAddr::is_ipv4);
    let instances = addresses
        .iter()
        .filter(|ip| ip.is_ipv4() || !has_v4)
        .map(|ip| SocketAddr::new(*ip, port))
        .map(|addr| Instance::new(addr.to_string(), addr).with_visibility(visibility.clone()));
    instances.filter(|it| it.validate().is_ok()).collect()
}

/// The set of SRV records: `host:port` is the id, so neither order nor address nor weight makes another instance of it.
///
/// - A host without an address, and what cannot be dialled, is absent.
/// - Priorities become ranks in their order: 0 for the lowest one.
/// - A weight of 0 means "seldom" here and "never" in the model, so it becomes 1.
/// - All addresses of a host are one instance: IPv4 first, since of both families IPv6 is more often announced than routed.
pub(super) fn of_services(
    services: &BTreeSet<Service>,
    addresses: &Addresses,
    visibility: &Visibility,
) -> InstanceSet {
    let priorities: BTreeSet<u16> = services.iter().map(|service| service.priority).collect();
    let rank = |priority: u16| {
        let rank = priorities.range(..priority).count();
        u8::try_from(rank).unwrap_or(u8::MAX)
    };
    let mut instances = BTreeMap::new();
    for service in services {
        let Service { host, port, .. } = service;
        // Sorted by family, then by address.
        let mut reached = addresses.get(host).into_iter().flatten();
        let Some(first) = reached.next() else {
            continue;
        };
        let alternates = reached.map(|ip| Address::from(SocketAddr::new(*ip, *port)));
        let id = format!("{host}:{port}");
        let instance = Instance::new(id.as_str(), SocketAddr::new(*first, *port))
            .with_alternates(alternates)
            .with_rank(rank(service.priority))
            .with_weight(service.weight.max(1))
            .with_visibility(visibility.clone());
        if instance.validate().is_ok() {
            // Of two records of one instance the better priority counts.
            instances.entry(id).or_insert(instance);
        }
    }
    instances.into_values().collect()
}

/// Whether the addresses that came with the records are all there are.
///
/// A server leaves out what does not fit, without saying so. If it left out anything, then some host has none, or not
/// the families that the others have.
pub(super) fn are_complete(services: &BTreeSet<Service>, addresses: &Addresses) -> bool {
    let families = |host: &String| {
        let known = addresses.get(host)?;
        Some((
            known.iter().any(IpAddr::is_ipv4),
            known.iter().any(IpAddr::is_ipv6),
        ))
    };
    let all: BTreeSet<_> = services
        .iter()
        .map(|service| families(&service.host))
        .collect();
    all.len() == 1 && !all.contains(&None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(priority: u16, weight: u16, host: &str) -> Service {
        Service {
            priority,
            weight,
            host: host.to_owned(),
            port: 80,
        }
    }

    fn addresses(of: &[(&str, &[&str])]) -> Addresses {
        let parse = |ips: &[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect();
        of.iter()
            .map(|(host, ips)| ((*host).to_owned(), parse(ips)))
            .collect()
    }

    #[test]
    fn priorities_become_ranks_and_weights_stay_but_zero() {
        let services = [
            service(300, 0, "c"),
            service(10, 7, "a"),
            service(10, 0, "b"),
        ];
        let known = addresses(&[
            ("a", &["10.0.0.1"]),
            ("b", &["10.0.0.2"]),
            ("c", &["10.0.0.3"]),
        ]);
        let set = of_services(&services.into(), &known, &Visibility::Public);
        let got = |id: &str| {
            let instance = set.get(id).unwrap();
            (instance.rank(), instance.weight().get())
        };
        assert_eq!(
            [got("a:80"), got("b:80"), got("c:80")],
            [(0, 7), (0, 1), (1, 1)]
        );
    }

    #[test]
    fn order_and_duplicates_make_no_difference() {
        let (first, second) = (service(1, 5, "a"), service(2, 5, "a"));
        let known = addresses(&[("a", &["::1", "10.0.0.2", "10.0.0.1"])]);
        let set = of_services(
            &[second.clone(), first.clone()].into(),
            &known,
            &Visibility::Public,
        );
        assert_eq!(set.len(), 1);
        assert!(set.duplicates().is_empty());
        let instance = set.get("a:80").unwrap();
        assert_eq!(instance.rank(), 0, "the better priority counts");
        let all: Vec<_> = instance.addresses().map(ToString::to_string).collect();
        assert_eq!(all, ["10.0.0.1:80", "10.0.0.2:80", "[::1]:80"]);
        let again = of_services(&[first, second].into(), &known, &Visibility::Public);
        assert_eq!(set, again);
    }

    #[test]
    fn what_cannot_be_dialled_is_absent() {
        let known = addresses(&[("a", &["0.0.0.0"]), ("b", &["10.0.0.2"])]);
        let services = [
            service(0, 1, "a"),
            service(0, 1, "b"),
            service(0, 1, "nowhere"),
        ];
        let set = of_services(&services.into(), &known, &Visibility::Public);
        assert!(set.get("b:80").is_some() && set.len() == 1);
        let mut none = service(0, 1, "b");
        none.port = 0;
        assert!(of_services(&[none].into(), &known, &Visibility::Public).is_empty());
    }

    #[test]
    fn of_a_host_with_both_families_the_addresses_of_one_count() {
        let known = &addresses(&[("a", &["::1", "10.0.0.1", "10.0.0.2"])])["a"];
        let set = of_addresses(known, 80, &Visibility::Public);
        assert!(set.get("10.0.0.1:80").is_some() && set.get("10.0.0.2:80").is_some());
        assert_eq!(set.len(), 2);
        let known = &addresses(&[("a", &["::1"])])["a"];
        assert!(
            of_addresses(known, 80, &Visibility::Public)
                .get("[::1]:80")
                .is_some()
        );
    }

    #[test]
    fn addresses_that_were_left_out_are_noticed() {
        let services = [service(0, 1, "a"), service(0, 1, "b")].into();
        for (known, complete) in [
            (
                addresses(&[("a", &["10.0.0.1"]), ("b", &["10.0.0.2"])]),
                true,
            ),
            (addresses(&[("a", &["10.0.0.1"])]), false),
            (
                addresses(&[("a", &["10.0.0.1", "::1"]), ("b", &["10.0.0.2"])]),
                false,
            ),
            (addresses(&[]), false),
        ] {
            assert_eq!(are_complete(&services, &known), complete, "{known:?}");
        }
    }
}
