//! [`Announcement`]: a validated registration, as a registrar announces it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::error::discovery::RegisterError;
use crate::model::address::Address;
use crate::model::instance::{
    Availability, Instance, InstanceId, Visibility, Weight, Zone, check_address,
};
use crate::model::name::{Boundary, EndpointName, Role};

/// One announced instance with all its endpoints, made by
/// [`Registration::validate`](super::Registration::validate).
///
/// For authors of a [`Registrar`](super::Registrar). It holds the current announcement, which a [`Lease`](super::Lease) changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    role: Role,
    boundary: Boundary,
    endpoints: BTreeMap<EndpointName, Address>,
    /// Alternates of endpoints, from backends that know more addresses than a registration has.
    alternates: BTreeMap<EndpointName, Vec<Address>>,
    peer_ip: Option<IpAddr>,
    /// The properties that all endpoints share. Its address is a placeholder.
    common: Instance,
}

impl Announcement {
    /// Without endpoints. The address of `common` is a placeholder.
    pub(super) fn of(
        role: Role,
        boundary: Boundary,
        peer_ip: Option<IpAddr>,
        common: Instance,
    ) -> Self {
        Self {
            role,
            boundary,
            endpoints: BTreeMap::new(),
            alternates: BTreeMap::new(),
            peer_ip,
            common,
        }
    }

    /// Returns the role.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// Returns the boundary.
    #[must_use]
    pub fn boundary(&self) -> &Boundary {
        &self.boundary
    }

    /// Returns the id, which is unique among the instances of its role.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        self.common.id()
    }

    /// Returns boundary, role and id, which identify the announcement in a backend.
    #[must_use]
    pub fn key(&self) -> AnnouncementKey {
        AnnouncementKey {
            boundary: self.boundary.clone(),
            role: self.role.clone(),
            id: self.id().clone(),
        }
    }

    /// Returns the source ip of its calls, if known.
    #[must_use]
    pub fn peer_ip(&self) -> Option<IpAddr> {
        self.peer_ip
    }

    /// Returns the weight.
    #[must_use]
    pub fn weight(&self) -> Weight {
        self.common.weight()
    }

    /// Returns the rank. Instances of a higher rank are backups.
    #[must_use]
    pub fn rank(&self) -> u8 {
        self.common.rank()
    }

    /// Returns the zone.
    #[must_use]
    pub fn zone(&self) -> Option<&Zone> {
        self.common.zone()
    }

    /// Returns the availability.
    #[must_use]
    pub fn availability(&self) -> Availability {
        self.common.availability()
    }

    /// Returns the visibility.
    #[must_use]
    pub fn visibility(&self) -> &Visibility {
        self.common.visibility()
    }

    /// Returns the metadata.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.common.metadata()
    }

    /// Returns each endpoint with its name, as the instance that a watch of it contains.
    pub fn endpoints(&self) -> impl Iterator<Item = (&EndpointName, Instance)> {
        self.endpoints.iter().map(|(name, address)| {
            let instance = self.common.clone().with_address(address.clone());
            let alternates = self.alternates.get(name).into_iter().flatten();
            (name, instance.with_alternates(alternates.cloned()))
        })
    }

    /// Returns whether it has this endpoint.
    #[must_use]
    pub fn has_endpoint(&self, endpoint: &EndpointName) -> bool {
        self.endpoints.contains_key(endpoint)
    }

    /// Returns the instance for [`peers`](super::Discovery::peers), or `None` if the source ip of its calls is not known.
    #[must_use]
    pub fn peer(&self) -> Option<Instance> {
        let ip = self.peer_ip?;
        let id = format!("{}/{}", self.role, self.id());
        Some(self.common.clone().with_id(id).with_address((ip, 0)))
    }

    /// Sets the availability.
    pub fn set_availability(&mut self, availability: Availability) {
        self.common = self.common.clone().with_availability(availability);
    }

    /// Adds an endpoint, or changes its address.
    ///
    /// # Errors
    ///
    /// A [`RegisterError`] of the kind [`Instance`](super::RegisterErrorKind::Instance) if callers could not dial the
    /// address.
    pub fn add_endpoint(
        &mut self,
        endpoint: EndpointName,
        address: impl Into<Address>,
    ) -> Result<(), RegisterError> {
        let address = address.into();
        check_address(&address)?;
        self.peer_ip = self.peer_ip.or(address.ip());
        self.alternates.remove(&endpoint);
        self.endpoints.insert(endpoint, address);
        Ok(())
    }

    /// Adds an endpoint with alternates to its first address.
    #[cfg(feature = "kubernetes")]
    pub(super) fn add_endpoint_at(
        &mut self,
        endpoint: &EndpointName,
        addresses: Vec<Address>,
    ) -> Result<(), RegisterError> {
        addresses.iter().try_for_each(check_address)?;
        let mut addresses = addresses.into_iter();
        if let Some(first) = addresses.next() {
            self.add_endpoint(endpoint.clone(), first)?;
        }
        if addresses.len() > 0 {
            let alternates = addresses.collect();
            self.alternates.insert(endpoint.clone(), alternates);
        }
        Ok(())
    }

    /// Removes an endpoint. Does nothing if there is none.
    pub fn remove_endpoint(&mut self, endpoint: &EndpointName) {
        self.endpoints.remove(endpoint);
        self.alternates.remove(endpoint);
    }
}

/// Boundary, role and id. They identify an announcement in a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct AnnouncementKey {
    /// The boundary it belongs to.
    pub boundary: Boundary,
    /// The role it is an instance of.
    pub role: Role,
    /// What tells it from every other instance of the role.
    pub id: InstanceId,
}

impl AnnouncementKey {
    /// The key of this instance.
    #[must_use]
    pub fn new(boundary: Boundary, role: Role, id: impl Into<InstanceId>) -> Self {
        Self {
            boundary,
            role,
            id: id.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::net::SocketAddr;

    use super::*;
    use crate::discovery::registration::Registration;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn refusal(registration: Registration) -> String {
        let error = registration.validate().unwrap_err();
        format!("{error}: {}", error.source().unwrap())
    }

    #[test]
    fn defaults_are_filled_in() {
        let announcement = Registration::new("worker").validate().unwrap();
        assert_eq!(*announcement.boundary(), "default");
        assert_eq!(announcement.endpoints().count(), 0);
        assert!(
            announcement.peer().is_none(),
            "nobody knows where its calls come from"
        );
        let pid = format!("-{}-", std::process::id());
        assert!(
            announcement.id().as_str().contains(&pid),
            "{}",
            announcement.id()
        );
    }

    #[test]
    fn each_registration_gets_its_own_default_id() {
        let registration = Registration::new("worker");
        let first = registration.clone().validate().unwrap();
        let second = registration.validate().unwrap();
        assert_ne!(first.id(), second.id());
    }

    #[test]
    fn every_endpoint_carries_what_was_announced() {
        let announcement = Registration::new("worker")
            .id("w-1")
            .endpoint("http", addr("10.0.0.7:80"))
            .endpoint("grpc", addr("10.0.0.7:90"))
            .endpoint("http", addr("10.0.0.7:81"))
            .weight(3)
            .rank(1)
            .zone("a")
            .metadata("version", "7")
            .validate()
            .unwrap();
        let open: Vec<_> = announcement.endpoints().collect();
        assert_eq!(open.len(), 2, "of one name the last stays");
        for (name, instance) in open {
            assert_eq!(
                *instance.address(),
                addr(if *name == "http" {
                    "10.0.0.7:81"
                } else {
                    "10.0.0.7:90"
                })
            );
            assert_eq!(*instance.id(), "w-1");
            assert_eq!(instance.weight(), Weight::new(3));
            assert_eq!(instance.rank(), 1);
            assert_eq!(*instance.zone().unwrap(), "a");
            assert_eq!(instance.metadata()["version"], "7");
        }
    }

    #[test]
    fn the_peer_is_its_first_endpoint_unless_told_otherwise() {
        let registration = Registration::new("worker")
            .id("w-1")
            .endpoint("http", addr("10.0.0.7:80"));
        let peer = registration.clone().validate().unwrap().peer().unwrap();
        assert_eq!(
            (peer.id().as_str(), peer.address()),
            ("worker/w-1", &addr("10.0.0.7:0").into())
        );
        let told = registration
            .peer_ip([10, 9, 9, 9].into())
            .validate()
            .unwrap();
        assert_eq!(*told.peer().unwrap().address(), addr("10.9.9.9:0"));
        let unix = Address::unix("/run/w.sock").unwrap();
        let local = Registration::new("worker").endpoint("unix", unix);
        let first_tcp = local.clone().endpoint("http", addr("10.0.0.8:80"));
        assert!(local.validate().unwrap().peer().is_none());
        let peer = first_tcp.validate().unwrap().peer().unwrap();
        assert_eq!(*peer.address(), addr("10.0.0.8:0"));
    }

    #[test]
    fn bad_fields_are_refused_by_name() {
        let worker = || Registration::new("worker");
        for (registration, field, hint) in [
            (Registration::new(""), "role", "empty"),
            (Registration::new("Worker"), "role", "lower case"),
            (worker().boundary("a.b"), "boundary", "without dots"),
            (worker().id("a b"), "id", "whitespace"),
            (worker().zone(""), "zone", "empty"),
            (
                worker().peer_ip([0, 0, 0, 0].into()),
                "peer ip",
                "where a server listens",
            ),
            (
                worker().endpoint("8080", addr("10.0.0.1:80")),
                "endpoint name",
                "not a port number",
            ),
            (
                worker().endpoint("http", addr("0.0.0.0:80")),
                "address",
                "where a server listens",
            ),
            (
                worker().endpoint("http", addr("10.0.0.1:0")),
                "address",
                "port 0",
            ),
            (
                worker().metadata("k", "x".repeat(20_000)),
                "metadata",
                "16384",
            ),
        ] {
            let error = refusal(registration);
            let start = format!("registration refused: invalid {field}: ");
            assert!(error.starts_with(&start), "{error}");
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn endpoints_open_move_and_close() {
        let mut announcement = Registration::new("worker").validate().unwrap();
        let http = EndpointName::new("http").unwrap();
        let port = |a: &Announcement| a.endpoints().next()?.1.address().port();
        announcement
            .add_endpoint(http.clone(), addr("10.0.0.7:80"))
            .unwrap();
        announcement
            .add_endpoint(http.clone(), addr("10.0.0.7:81"))
            .unwrap();
        assert_eq!(port(&announcement), Some(81));
        assert!(
            announcement
                .add_endpoint(http.clone(), addr("0.0.0.0:80"))
                .is_err()
        );
        assert_eq!(
            port(&announcement),
            Some(81),
            "what is refused changes nothing"
        );
        announcement.remove_endpoint(&http);
        announcement.remove_endpoint(&http);
        assert_eq!(port(&announcement), None);
        assert!(
            announcement.peer().is_some(),
            "its calls still come from there"
        );
    }
}
