//! The `EndpointSlice`s of a service, merged into instances.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_core::Stream;
use futures_util::future::{Either, select};
use futures_util::{StreamExt, stream};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::ResourceExt;
use tokio::time;

use super::watcher::{RequestError, ResourceEvent, Watched};
use crate::discovery::announcement::Announcement;
use crate::discovery::backend::{CatalogUpdate, Scope};
use crate::discovery::registration::Registration;
use crate::model::address::Address;
use crate::model::instance::{Availability, Visibility, Zone};
use crate::model::name::{Boundary, EndpointName, Role};
use crate::runtime::clock::now;

/// How long an endpoint stays that no slice lists any more, unless it was terminating.
///
/// Controllers move endpoints between slices, and replace slices, by one request for each slice: in between, an endpoint is
/// in none, in a watch as in a list. They need milliseconds. A pod that is really gone is worth this time, because it
/// refuses connections and the balancer passes it over.
const HOLD: Duration = Duration::from_secs(2);

/// What is added to it, so that endpoints that vanish one after the other leave together.
const BATCH: Duration = Duration::from_millis(50);

const MOST_AT_ONCE: usize = 256;

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
    };
    let slices = Slices::of(service);
    // Events that are there already make one set, as after a burst.
    let events = Box::pin(events.ready_chunks(MOST_AT_ONCE));
    let updates = stream::unfold((events, slices), |(mut events, mut slices)| async move {
        let chunk = match slices.next_expiry() {
            None => events.next().await?,
            Some(at) => {
                let expiry = std::pin::pin!(time::sleep_until(at.into()));
                match select(events.next(), expiry).await {
                    Either::Left((chunk, _)) => chunk?,
                    Either::Right(_) => Vec::new(),
                }
            }
        };
        let mut failed = None;
        for event in chunk {
            match event {
                Ok(event) => slices.apply(event, now()),
                Err(error) => failed = Some(Err(error)),
            }
        }
        slices.expire(now());
        let mut updates: Vec<_> = slices.updates().into_iter().map(Ok).collect();
        updates.extend(failed);
        Some((updates, (events, slices)))
    });
    updates.flat_map(stream::iter)
}

impl Watched for EndpointSlice {
    const RESOURCE: &str = "endpointslices.discovery.k8s.io";
}

/// What the slices of a service say.
struct Slices {
    service: Service,
    instances: BTreeMap<InstanceName, Merged>,
    /// The instances whose entries have changed since the last update.
    touched: BTreeSet<InstanceName>,
    is_relisted: bool,
    /// The endpoint names that slices had, and `None` once there is a slice.
    names: BTreeSet<Option<EndpointName>>,
    new_names: Vec<Option<EndpointName>>,
}

/// One instance: what each slice says of it, and what is announced.
#[derive(Default)]
struct Merged {
    /// A vector, because most pods are in one slice, and a node of a tree has room for eleven.
    entries: Vec<(Place, Entry)>,
    announced: Option<Announcement>,
}

/// What all instances have in common.
struct Service {
    boundary: Boundary,
    role: Role,
    visibility: Visibility,
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
#[derive(Clone, PartialEq)]
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

impl Slices {
    fn of(service: Service) -> Self {
        Self {
            service,
            instances: BTreeMap::new(),
            touched: BTreeSet::new(),
            is_relisted: false,
            names: BTreeSet::new(),
            new_names: Vec::new(),
        }
    }

    fn apply(&mut self, event: ResourceEvent<EndpointSlice>, now: Instant) {
        match event {
            ResourceEvent::Listed(all) => {
                self.is_relisted = true;
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
            let entries = &mut self.instances.entry(instance.clone()).or_default().entries;
            if entries
                .iter()
                .any(|(at, known)| (at, known) == (&place, &entry))
            {
                continue;
            }
            self.touched.insert(instance);
            // It has changed or moved here: what was said before is no longer needed.
            entries.retain(|(other, held)| {
                let is_held = held.expiry.is_some() && other.uid == place.uid;
                *other != place && !(is_held && held.ip.is_ipv4() == entry.ip.is_ipv4())
            });
            entries.push((place, entry));
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
        for (name, instance) in &mut self.instances {
            instance.entries.retain_mut(|(place, entry)| {
                if entry.expiry.is_some() || !is_dropped(place, name) {
                    return true;
                }
                self.touched.insert(name.clone());
                entry.expiry = now.checked_add(HOLD);
                entry.availability == Some(Availability::Available) && entry.expiry.is_some()
            });
        }
    }

    fn next_expiry(&self) -> Option<Instant> {
        let entries = self.instances.values().flat_map(|i| &i.entries);
        let first = entries.filter_map(|(_, entry)| entry.expiry).min()?;
        first.checked_add(BATCH)
    }

    fn expire(&mut self, now: Instant) {
        for (name, instance) in &mut self.instances {
            let before = instance.entries.len();
            let is_left = |entry: &Entry| entry.expiry.is_none_or(|at| now < at);
            instance.entries.retain(|(_, entry)| is_left(entry));
            if instance.entries.len() < before {
                self.touched.insert(name.clone());
            }
        }
    }

    /// What the catalog has to hear. Instances that leave do so in one update, so that a doubtful answer looks like one.
    fn updates(&mut self) -> Vec<CatalogUpdate> {
        let Service { boundary, role, .. } = &self.service;
        let known = |name| CatalogUpdate::Known(boundary.clone(), role.clone(), name);
        let names = mem::take(&mut self.new_names).into_iter().map(known);
        let mut is_whole = mem::take(&mut self.is_relisted);
        let mut changed = Vec::new();
        for name in mem::take(&mut self.touched) {
            let Some(instance) = self.instances.get_mut(&name) else {
                continue;
            };
            let announced = self.service.announcement(&name, &instance.entries);
            is_whole |= announced.is_none() && instance.announced.is_some();
            if announced != instance.announced {
                changed.extend(announced.clone().map(CatalogUpdate::Put));
                instance.announced = announced;
            }
            if instance.entries.is_empty() {
                self.instances.remove(&name);
            }
        }
        if is_whole {
            let all = self.instances.values();
            let all = all.filter_map(|instance| instance.announced.clone());
            changed = vec![CatalogUpdate::Replace(Scope::All, all.collect())];
        }
        names.chain(changed).collect()
    }
}

impl Service {
    fn announcement(
        &self,
        name: &InstanceName,
        entries: &[(Place, Entry)],
    ) -> Option<Announcement> {
        let usable = entries.iter().filter(|(_, e)| e.availability.is_some());
        let mut usable: Vec<_> = usable.collect();
        // The readiest entry first, of equals IPv4, and always the same.
        let rank = |(place, entry): &(Place, Entry)| {
            let is_available = entry.availability == Some(Availability::Available);
            let (is_held, is_ipv6) = (entry.expiry.is_some(), entry.ip.is_ipv6());
            (Reverse(is_available), is_held, is_ipv6, place.clone())
        };
        usable.sort_by_cached_key(|entry| rank(entry));
        let (place, leader) = usable.first()?;
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
        let mut announcement = registration.validate().ok()?;
        let mut addresses: BTreeMap<&EndpointName, Vec<Address>> = BTreeMap::new();
        for (_, entry) in usable.iter().filter(|(other, _)| other.uid == place.uid) {
            for (port, number) in &*entry.ports {
                let address = Address::from((entry.ip, *number));
                let known = addresses.entry(port).or_default();
                if !known.contains(&address) {
                    known.push(address);
                }
            }
        }
        for (port, all) in addresses {
            announcement.add_endpoint_at(port, all).ok()?;
        }
        Some(announcement)
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
