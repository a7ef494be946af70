//! The `EndpointSlice`s of a service, merged into instances.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_core::Stream;
use futures_util::future::{Either, select};
use futures_util::{StreamExt, stream};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::ResourceExt;
use tokio::time;

use super::watcher::{RequestError, ResourceEvent};
use crate::discovery::announcement::Announcement;
use crate::discovery::backend::{CatalogUpdate, Scope};
use crate::discovery::registration::Registration;
use crate::model::instance::{Availability, Visibility, Zone};
use crate::model::name::{Boundary, EndpointName, Role};
use crate::runtime::clock::now;

/// How long an endpoint stays that no slice lists any more, unless it was terminating.
///
/// Controllers move endpoints between slices, and replace slices, by one request for each slice: in between, an endpoint is
/// in none, in a watch as in a list. They need milliseconds. A pod that is really gone is worth this time, because it
/// refuses connections and the balancer passes it over.
const HOLD: Duration = Duration::from_secs(2);

/// The endpoint of a port without a name.
const UNNAMED: &str = "default";

pub(super) fn service_updates(
    events: impl Stream<Item = Result<ResourceEvent<EndpointSlice>, RequestError>> + Send + 'static,
    boundary: Boundary,
    role: Role,
    visibility: Visibility,
) -> impl Stream<Item = Result<CatalogUpdate, RequestError>> + Send + 'static {
    let service = Service {
        boundary,
        role,
        visibility,
        entries: BTreeMap::new(),
        names: BTreeSet::new(),
        new_names: Vec::new(),
    };
    let state = (Box::pin(events), service);
    let updates = stream::unfold(state, |(mut events, mut service)| async move {
        let event = match service.next_expiry() {
            None => events.next().await,
            Some(at) => {
                let expiry = std::pin::pin!(time::sleep_until(at.into()));
                match select(events.next(), expiry).await {
                    Either::Left((event, _)) => event,
                    Either::Right(_) => {
                        service.expire(now());
                        return Some((service.updates(), (events, service)));
                    }
                }
            }
        };
        let updates = match event? {
            Ok(event) => {
                service.apply(event, now());
                service.updates()
            }
            Err(error) => vec![Err(error)],
        };
        Some((updates, (events, service)))
    });
    updates.flat_map(stream::iter)
}

/// What the slices of a service say.
struct Service {
    boundary: Boundary,
    role: Role,
    visibility: Visibility,
    entries: BTreeMap<InstanceName, BTreeMap<Place, Entry>>,
    /// The endpoint names that slices had, and `None` once there is a slice.
    names: BTreeSet<Option<EndpointName>>,
    new_names: Vec<Option<EndpointName>>,
}

/// The name of a pod, or an address.
type InstanceName = Arc<str>;

/// Where an entry stands: pods of one name may follow each other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    slice: Arc<str>,
    uid: Arc<str>,
}

/// One endpoint as one slice lists it.
#[derive(Clone)]
struct Entry {
    /// None: it wants no requests.
    availability: Option<Availability>,
    ip: IpAddr,
    ports: Arc<[(EndpointName, u16)]>,
    zone: Option<Zone>,
    node: Option<Arc<str>>,
    is_pod: bool,
    /// When it goes, because its slice no longer lists it.
    expiry: Option<Instant>,
}

impl Service {
    fn apply(&mut self, event: ResourceEvent<EndpointSlice>, now: Instant) {
        match event {
            ResourceEvent::Listed(all) => {
                let names: BTreeSet<_> = all.iter().map(ResourceExt::name_any).collect();
                self.drop_where(now, |place, _| !names.contains(&*place.slice));
                all.iter().for_each(|slice| self.set(slice, now));
            }
            ResourceEvent::Applied(slice) => self.set(&slice, now),
            ResourceEvent::Deleted(slice) => {
                let name = slice.name_any();
                self.drop_where(now, |place, _| *place.slice == *name);
            }
        }
    }

    fn set(&mut self, slice: &EndpointSlice, now: Instant) {
        let name: Arc<str> = slice.name_any().into();
        let ports: Arc<[_]> = slice.ports.iter().flatten().filter_map(tcp_port).collect();
        let endpoints = slice.endpoints.iter().flatten();
        let listed: HashMap<_, _> = endpoints
            .filter_map(|endpoint| entry(endpoint, &name, &ports))
            .map(|(instance, place, entry)| ((place, instance), entry))
            .collect();
        self.drop_where(now, |place, instance| {
            *place.slice == *name && !listed.contains_key(&(place.clone(), instance.clone()))
        });
        for ((place, instance), entry) in listed {
            let entries = self.entries.entry(instance).or_default();
            // It has moved here: what its former slice said is no longer needed.
            entries.retain(|other, held| {
                held.expiry.is_none()
                    || other.uid != place.uid
                    || held.ip.is_ipv4() != entry.ip.is_ipv4()
            });
            entries.insert(place, entry);
        }
        let names = ports.iter().map(|(name, _)| Some(name.clone()));
        for name in [None].into_iter().chain(names) {
            if self.names.insert(name.clone()) {
                self.new_names.push(name);
            }
        }
    }

    /// Entries that their slice dropped go, at once or after the hold.
    fn drop_where(&mut self, now: Instant, is_dropped: impl Fn(&Place, &InstanceName) -> bool) {
        self.entries.retain(|instance, entries| {
            entries.retain(|place, entry| {
                if entry.expiry.is_some() || !is_dropped(place, instance) {
                    return true;
                }
                entry.expiry = now.checked_add(HOLD);
                entry.availability == Some(Availability::Available) && entry.expiry.is_some()
            });
            !entries.is_empty()
        });
    }

    fn next_expiry(&self) -> Option<Instant> {
        let entries = self.entries.values().flat_map(BTreeMap::values);
        entries.filter_map(|entry| entry.expiry).min()
    }

    fn expire(&mut self, now: Instant) {
        self.entries.retain(|_, entries| {
            entries.retain(|_, entry| entry.expiry.is_none_or(|at| now < at));
            !entries.is_empty()
        });
    }

    /// All of it in one update: watchers see no part, so that a doubtful answer looks like one.
    fn updates(&mut self) -> Vec<Result<CatalogUpdate, RequestError>> {
        let known = |name| CatalogUpdate::Known(self.boundary.clone(), self.role.clone(), name);
        let names = std::mem::take(&mut self.new_names).into_iter().map(known);
        let announced = self.entries.iter();
        let announced = announced.filter_map(|(name, entries)| self.announcement(name, entries));
        let all = CatalogUpdate::Replace(Scope::All, announced.collect());
        names.chain([all]).map(Ok).collect()
    }

    fn announcement(
        &self,
        name: &InstanceName,
        entries: &BTreeMap<Place, Entry>,
    ) -> Option<Announcement> {
        let usable = entries.iter().filter(|(_, e)| e.availability.is_some());
        let mut usable: Vec<_> = usable.collect();
        // The readiest entry first, and of equals IPv4.
        usable.sort_by_key(|(_, entry)| {
            let is_available = entry.availability == Some(Availability::Available);
            (
                Reverse(is_available),
                entry.expiry.is_some(),
                entry.ip.is_ipv6(),
            )
        });
        let (place, leader) = *usable.first()?;
        let mut registration = Registration::new(self.role.as_str())
            .id(&**name)
            .boundary(self.boundary.as_str())
            .visibility(self.visibility.clone())
            .availability(leader.availability?);
        if let Some(zone) = &leader.zone {
            registration = registration.zone(zone.as_str());
        }
        if let Some(node) = &leader.node {
            registration = registration.metadata("node", &**node);
        }
        if leader.is_pod {
            registration = registration.metadata("pod", &**name);
        }
        let mut addresses: BTreeMap<&EndpointName, Vec<SocketAddr>> = BTreeMap::new();
        for (_, entry) in usable.iter().filter(|(other, _)| other.uid == place.uid) {
            for (port, number) in &*entry.ports {
                let address = SocketAddr::new(entry.ip, *number);
                let known = addresses.entry(port).or_default();
                if !known.contains(&address) {
                    known.push(address);
                }
            }
        }
        for (port, all) in addresses {
            if let Some(first) = all.first() {
                registration = registration.endpoint(port.as_str(), *first);
            }
        }
        registration.validate().ok()
    }
}

fn entry(
    endpoint: &Endpoint,
    slice: &Arc<str>,
    ports: &Arc<[(EndpointName, u16)]>,
) -> Option<(InstanceName, Place, Entry)> {
    // A slice of host names has none.
    let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let pod = endpoint.target_ref.as_ref();
    let pod = pod.filter(|target| target.kind.as_deref() == Some("Pod"));
    let name = pod.and_then(|pod| pod.name.as_deref());
    let uid = pod.and_then(|pod| pod.uid.as_deref()).unwrap_or_default();
    let place = Place {
        slice: slice.clone(),
        uid: uid.into(),
    };
    let zone = endpoint.zone.as_deref();
    let entry = Entry {
        availability: availability(endpoint.conditions.as_ref()),
        ip,
        ports: ports.clone(),
        zone: zone.and_then(|zone| Zone::new(zone).ok()),
        node: endpoint.node_name.as_deref().map(Into::into),
        is_pod: name.is_some(),
        expiry: None,
    };
    let name = name.map_or_else(|| ip.to_string().into(), Into::into);
    Some((name, place, entry))
}

/// As kube-proxy reads them: what is not said is true of ready and serving, and false of terminating.
fn availability(conditions: Option<&EndpointConditions>) -> Option<Availability> {
    let said = |condition: fn(&EndpointConditions) -> Option<bool>| conditions.and_then(condition);
    let is_ready = said(|c| c.ready).unwrap_or(true);
    let is_terminating = said(|c| c.terminating).unwrap_or(false);
    match (is_ready, is_terminating) {
        (true, false) => Some(Availability::Available),
        (true, true) => Some(Availability::Draining),
        (false, true) if said(|c| c.serving).unwrap_or(true) => Some(Availability::Draining),
        (false, _) => None,
    }
}

fn tcp_port(port: &EndpointPort) -> Option<(EndpointName, u16)> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let name = port.name.as_deref().filter(|name| !name.is_empty());
    let name = EndpointName::new(name.unwrap_or(UNNAMED)).ok()?;
    let number = u16::try_from(port.port?).ok()?;
    (protocol == "TCP" && number != 0).then_some((name, number))
}
