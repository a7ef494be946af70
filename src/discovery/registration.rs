//! [`Registration`]: the instance that a program registers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

use rand::TryRng;
use rand::rngs::SysRng;

use super::announcement::Announcement;
use crate::error::discovery::RegisterError;
use crate::model::address::Address;
use crate::model::instance::{
    Availability, Instance, InstanceId, Visibility, Weight, Zone, check_ip, check_metadata,
    check_text,
};
use crate::model::name::{Boundary, EndpointName, Role};

/// An instance to be registered.
///
/// Building it cannot fail. [`register`](super::Registrar::register) rejects invalid values, and so does
/// [`validate`](Self::validate).
///
/// # Defaults
///
/// A new id `host-pid-random`, the boundary `default`, no endpoint, weight 1, rank 0, no zone, available, internal, and no
/// metadata.
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
    /// Makes a registration for this role.
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

    /// Sets the id. It must be unique among the live instances of the role in the boundary.
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

    /// Adds an endpoint, or replaces the one with this name.
    ///
    /// Callers dial this address, so `0.0.0.0` and port 0 are invalid. The path of a Unix socket must be absolute.
    #[must_use]
    pub fn endpoint(mut self, name: impl Into<String>, address: impl Into<Address>) -> Self {
        let name = name.into();
        self.endpoints.retain(|(other, _)| *other != name);
        self.endpoints.push((name, address.into()));
        self
    }

    /// Sets the source ip of its calls, which guards admit.
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
    /// See [`Instance::with_rank`](crate::Instance::with_rank).
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
        let role = Role::new(&self.role)?;
        let boundary = match &self.boundary {
            Some(boundary) => Boundary::new(boundary)?,
            None => Boundary::default(),
        };
        let id = self.id.unwrap_or_else(unique_id);
        check_text("id", id.as_str())?;
        if let Some(ip) = self.peer_ip {
            check_ip("peer ip", ip)?;
        }
        check_metadata(&self.metadata)?;

        let mut common = Instance::new(id, (Ipv4Addr::UNSPECIFIED, 0))
            .with_weight(self.weight)
            .with_rank(self.rank)
            .with_availability(self.availability)
            .with_visibility(self.visibility);
        if let Some(zone) = self.zone {
            common = common.with_zone(Zone::new(zone)?);
        }
        for (key, value) in self.metadata {
            common = common.with_metadata(key, value);
        }

        let mut announcement = Announcement::of(role, boundary, self.peer_ip, common);
        for (name, address) in self.endpoints {
            announcement.add_endpoint(EndpointName::new(name)?, address)?;
        }
        Ok(announcement)
    }
}

/// `host-pid-random`: readable in a log, and different for every registration of every process on every host.
fn unique_id() -> InstanceId {
    static REGISTERED: AtomicU32 = AtomicU32::new(0);
    let random = SysRng
        .try_next_u32()
        .unwrap_or_else(|_| REGISTERED.fetch_add(1, Ordering::Relaxed));
    format!("{}-{}-{random:08x}", host(), process::id()).into()
}

fn host() -> String {
    // Linux tells it without a dependency; elsewhere shells do, if they export it.
    let name = fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| env::var("HOSTNAME"))
        .unwrap_or_default();
    // POSIX's bound on a host name, which leaves room for the rest of the id.
    let host: String = name
        .chars()
        .filter(char::is_ascii_graphic)
        .take(64)
        .collect();
    if host.is_empty() {
        "host".to_owned()
    } else {
        host
    }
}
