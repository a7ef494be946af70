//! The pods of a namespace, as peers of a boundary.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures_core::Stream;
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::watcher::{RequestError, ResourceEvent, Watched};
use crate::discovery::announcement::Announcement;
use crate::discovery::backend::{CatalogUpdate, Scope};
use crate::discovery::registration::Registration;
use crate::model::name::Boundary;

/// The role of all pods: their labels are free to mean anything.
const ROLE: &str = "pod";

pub(super) fn peer_updates(
    events: impl Stream<Item = Result<ResourceEvent<Pod>, RequestError>> + Send + 'static,
    boundary: Boundary,
) -> impl Stream<Item = Result<CatalogUpdate, RequestError>> + Send + 'static {
    let mut pods = Pods {
        boundary,
        addresses: BTreeMap::new(),
    };
    events.flat_map(move |event| {
        let updates: Vec<_> = match event {
            Ok(event) => pods.updates(event).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(updates)
    })
}

impl Watched for Pod {
    const RESOURCE: &str = "pods";
}

struct Pods {
    boundary: Boundary,
    addresses: BTreeMap<String, Vec<IpAddr>>,
}

impl Pods {
    fn updates(&mut self, event: ResourceEvent<Pod>) -> Vec<CatalogUpdate> {
        match event {
            ResourceEvent::Listed(all) => {
                self.addresses = all.iter().map(|p| (p.name_any(), addresses(p))).collect();
                let announced = self.addresses.iter();
                let announced = announced.flat_map(|(name, ips)| self.announcements(name, ips));
                vec![CatalogUpdate::Replace(Scope::All, announced.collect())]
            }
            ResourceEvent::Applied(pod) => self.set(pod.name_any(), addresses(&pod)),
            ResourceEvent::Deleted(pod) => self.set(pod.name_any(), Vec::new()),
        }
    }

    fn set(&mut self, name: String, ips: Vec<IpAddr>) -> Vec<CatalogUpdate> {
        let before = self.addresses.get(&name).cloned().unwrap_or_default();
        if before == ips {
            return Vec::new();
        }
        let gone = self.announcements(&name, &before);
        let gone = gone.map(|announcement| CatalogUpdate::Remove(announcement.key()));
        let there = self.announcements(&name, &ips).map(CatalogUpdate::Put);
        let updates = gone.chain(there).collect();
        if ips.is_empty() {
            self.addresses.remove(&name);
        } else {
            self.addresses.insert(name, ips);
        }
        updates
    }

    /// One for each address.
    fn announcements(&self, name: &str, ips: &[IpAddr]) -> impl Iterator<Item = Announcement> {
        ips.iter().enumerate().filter_map(move |(number, ip)| {
            let id = match number {
                0 => name.to_owned(),
                _ => format!("{name}/{ip}"),
            };
            let registration = Registration::new(ROLE).id(id).peer_ip(*ip);
            let registration = registration.boundary(self.boundary.as_str());
            registration.validate().ok()
        })
    }
}

/// Where the calls of a pod come from. In its host's network, that is where anybody's there come from.
fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let is_host = pod.spec.as_ref().and_then(|spec| spec.host_network);
    let Some(status) = pod.status.as_ref().filter(|_| is_host != Some(true)) else {
        return Vec::new();
    };
    let ips = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    ips.filter_map(|ip| ip.parse().ok()).collect()
}
