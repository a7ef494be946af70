//! What a program asks a registrar to announce.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Announcement, RegisterError};
use crate::model::address::Address;
use crate::model::instance::{Availability, InstanceId, Visibility, Weight};

/// One instance of a role, as a program wants it announced.
///
/// Infallible to build; what is wrong is refused by [`register`](super::Registrar::register), or earlier by
/// [`validate`](Self::validate).
///
/// # Defaults
///
/// An id `host-pid-random` that is new for every registration, the boundary `default`, no endpoint, weight 1, rank 0, no zone,
/// available, internal, no metadata.
///
/// # Examples
///
/// ```
/// use rolecall::{Registration, Visibility};
///
/// let registration = Registration::new("worker")
///     .endpoint("http", ([10, 0, 0, 7], 8080))
///     .endpoint("grpc", ([10, 0, 0, 7], 9090))
///     .visibility(Visibility::Public)
///     .weight(2);
/// assert!(registration.validate().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Registration {
    pub(super) role: String,
    pub(super) id: Option<InstanceId>,
    pub(super) boundary: Option<String>,
    pub(super) endpoints: Vec<(String, Address)>,
    pub(super) peer_ip: Option<IpAddr>,
    pub(super) visibility: Visibility,
    pub(super) weight: Weight,
    pub(super) rank: u8,
    pub(super) zone: Option<String>,
    pub(super) availability: Availability,
    pub(super) metadata: BTreeMap<String, String>,
}

impl Registration {
    /// An instance of this role.
    #[must_use]
    pub fn new(role: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            id: None,
            boundary: None,
            endpoints: Vec::new(),
            peer_ip: None,
            visibility: Visibility::default(),
            weight: Weight::default(),
            rank: 0,
            zone: None,
            availability: Availability::default(),
            metadata: BTreeMap::new(),
        }
    }

    /// Sets the id, which no other live instance of the role in the boundary may have.
    #[must_use]
    pub fn id(mut self, id: impl Into<InstanceId>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the boundary it belongs to.
    #[must_use]
    pub fn boundary(mut self, boundary: impl Into<String>) -> Self {
        self.boundary = Some(boundary.into());
        self
    }

    /// Adds a named port, in place of an earlier one of this name.
    ///
    /// The address is the one that callers dial: not `0.0.0.0`, not port 0, and of a Unix socket the absolute path.
    #[must_use]
    pub fn endpoint(mut self, name: impl Into<String>, address: impl Into<Address>) -> Self {
        let name = name.into();
        self.endpoints.retain(|(other, _)| *other != name);
        self.endpoints.push((name, address.into()));
        self
    }

    /// Sets where its own calls come from, which is what guards admit.
    ///
    /// By default the ip of its first TCP endpoint. Without either it is absent from
    /// [`peers`](super::Discovery::peers).
    #[must_use]
    pub fn peer_ip(mut self, ip: IpAddr) -> Self {
        self.peer_ip = Some(ip);
        self
    }

    /// Sets which boundaries may see it.
    #[must_use]
    pub fn visibility(mut self, visibility: Visibility) -> Self {
        self.visibility = visibility;
        self
    }

    /// Sets the share of requests it asks for, relative to the others: 0 to 65535.
    #[must_use]
    pub fn weight(mut self, weight: impl Into<Weight>) -> Self {
        self.weight = weight.into();
        self
    }

    /// Sets its rank, 0 to 255: instances of a higher rank are backups.
    ///
    /// The rank is announced and stored, but no rule reads it yet: all ranks are picked alike.
    #[must_use]
    pub fn rank(mut self, rank: u8) -> Self {
        self.rank = rank;
        self
    }

    /// Sets the failure domain it runs in.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Sets whether it wants requests from the start; [`Lease::set_availability`](super::Lease::set_availability)
    /// changes it later.
    #[must_use]
    pub fn availability(mut self, availability: Availability) -> Self {
        self.availability = availability;
        self
    }

    /// Adds one entry of metadata, in place of an earlier one of this key.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Everything checked, and the defaults filled in: what a registrar announces.
    ///
    /// # Errors
    ///
    /// A [`RegisterError`] of the kind [`Name`](super::RegisterErrorKind::Name) for the role, boundary or an endpoint name,
    /// [`Instance`](super::RegisterErrorKind::Instance) for the id, an address, the peer ip, the zone or the metadata. The
    /// source says which value breaks which rule.
    pub fn validate(self) -> Result<Announcement, RegisterError> {
        Announcement::new(self)
    }
}
