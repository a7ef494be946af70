//! [`Instance`], one announced copy of a role, and [`InstanceSet`], all of them at one moment.

mod attributes;
mod error;
mod set;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub use attributes::{Availability, InstanceId, Visibility, Weight, Zone};
pub(crate) use error::check_text;
pub use error::{InstanceError, WeightError};
pub use set::InstanceSet;

use crate::model::address::{Address, ip_fault};
#[cfg(feature = "serde")]
use crate::model::address::{AddressError, is_of_later_kind};

/// One running copy of a role, as announced for one target.
///
/// Its [`id`](Self::id) identifies it. A changed address or a change of its alternates means a new connection to the same
/// instance; a change of any other field keeps connection, load and history.
///
/// Plain data, cheap to clone and infallible to build. [`validate`](Self::validate) finds invalid values; `register`,
/// [`List`](crate::List) and the balancer call it for every instance that they receive.
///
/// # Examples
///
/// ```
/// use rolecall::{Instance, Weight};
///
/// let instance = Instance::new("worker-1", ([127, 0, 0, 1], 8080)).with_weight(3);
/// assert_eq!(instance.weight(), Weight::new(3));
/// assert!(instance.validate().is_ok());
/// ```
#[derive(Clone)]
pub struct Instance(Arc<Announced>);

#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename = "Instance"))]
struct Announced<A = Address> {
    id: InstanceId,
    address: A,
    #[cfg_attr(feature = "serde", serde(default = "Vec::new"))]
    alternates: Vec<A>,
    #[cfg_attr(feature = "serde", serde(default))]
    weight: Weight,
    #[cfg_attr(feature = "serde", serde(default))]
    rank: u8,
    #[cfg_attr(feature = "serde", serde(default))]
    zone: Option<Zone>,
    #[cfg_attr(feature = "serde", serde(default))]
    availability: Availability,
    #[cfg_attr(feature = "serde", serde(default))]
    visibility: Visibility,
    #[cfg_attr(feature = "serde", serde(default))]
    metadata: BTreeMap<String, String>,
}

/// Limits of metadata, generous for a registry entry: etcd refuses values that are much larger.
const MOST_METADATA_ENTRIES: usize = 64;
const MOST_METADATA_BYTES: usize = 16 * 1024;

/// A connector that tries one every 250 ms has tried all within 4 s.
const MOST_ALTERNATES: usize = 16;

impl Instance {
    /// The instance of this id at this address: no alternates, weight 1, rank 0, no zone, available, internal, without
    /// metadata.
    #[must_use]
    pub fn new(id: impl Into<InstanceId>, address: impl Into<Address>) -> Self {
        Self(Arc::new(Announced {
            id: id.into(),
            address: address.into(),
            alternates: Vec::new(),
            weight: Weight::default(),
            rank: 0,
            zone: None,
            availability: Availability::default(),
            visibility: Visibility::default(),
            metadata: BTreeMap::new(),
        }))
    }

    pub(crate) fn with_id(mut self, id: impl Into<InstanceId>) -> Self {
        self.edit().id = id.into();
        self
    }

    /// Sets the address.
    #[must_use]
    pub fn with_address(mut self, address: impl Into<Address>) -> Self {
        self.edit().address = address.into();
        self
    }

    /// Sets the other addresses of the same server, such as that of the other IP family. Default none.
    ///
    /// A connector tries them in this order after the address. Keep the order from one announcement to the next: another
    /// order means a new connection.
    #[must_use]
    pub fn with_alternates<A: Into<Address>>(
        mut self,
        alternates: impl IntoIterator<Item = A>,
    ) -> Self {
        self.edit().alternates = alternates.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the share of requests it asks for, relative to the others. Default 1.
    #[must_use]
    pub fn with_weight(mut self, weight: impl Into<Weight>) -> Self {
        self.edit().weight = weight.into();
        self
    }

    /// Sets its rank, 0 to 255: instances of a higher rank are backups. Default 0.
    ///
    /// A rank gets requests only while the ranks before it are short: see
    /// [`guide::routing`](crate::guide::routing#ranks-backups).
    #[must_use]
    pub fn with_rank(mut self, rank: u8) -> Self {
        self.edit().rank = rank;
        self
    }

    /// Sets the failure domain it runs in. Default none.
    #[must_use]
    pub fn with_zone(mut self, zone: Zone) -> Self {
        self.edit().zone = Some(zone);
        self
    }

    /// Sets whether it wants requests. Default [`Availability::Available`].
    #[must_use]
    pub fn with_availability(mut self, availability: Availability) -> Self {
        self.edit().availability = availability;
        self
    }

    /// Sets who may see it. Default [`Visibility::Internal`].
    #[must_use]
    pub fn with_visibility(mut self, visibility: Visibility) -> Self {
        self.edit().visibility = visibility;
        self
    }

    /// Adds a metadata entry, replacing an earlier one with the same key.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.edit().metadata.insert(key.into(), value.into());
        self
    }

    /// What distinguishes it from every other instance of its role.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        &self.0.id
    }

    /// Where it can be reached.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.0.address
    }

    /// The other addresses of the same server, in the order in which a connector tries them after
    /// [`address`](Self::address).
    #[must_use]
    pub fn alternates(&self) -> &[Address] {
        &self.0.alternates
    }

    /// The address, and then the alternates.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        std::iter::once(self.address()).chain(self.alternates())
    }

    /// Whether a connection to the other one is a connection to this one: the same address and the same alternates.
    pub(crate) fn has_addresses_of(&self, other: &Self) -> bool {
        self.0.address == other.0.address && self.0.alternates == other.0.alternates
    }

    /// The share of requests it asks for, relative to the others.
    #[must_use]
    pub fn weight(&self) -> Weight {
        self.0.weight
    }

    /// Its rank: instances of a higher rank are backups. See [`with_rank`](Self::with_rank).
    #[must_use]
    pub fn rank(&self) -> u8 {
        self.0.rank
    }

    /// The failure domain it runs in.
    #[must_use]
    pub fn zone(&self) -> Option<&Zone> {
        self.0.zone.as_ref()
    }

    /// Whether it wants requests, according to its own announcement.
    #[must_use]
    pub fn availability(&self) -> Availability {
        self.0.availability
    }

    /// Who may see it.
    #[must_use]
    pub fn visibility(&self) -> &Visibility {
        &self.0.visibility
    }

    /// Whatever else it announces; the balancer ignores it.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// Checks that callers can use this announcement.
    ///
    /// # Errors
    ///
    /// An [`InstanceError`] names the field and its value if
    ///
    /// - the id is empty, longer than 253 bytes, or contains whitespace, control or invisible characters;
    /// - the address or an alternate is unspecified (`0.0.0.0`), multicast or broadcast, or its port is 0;
    /// - the path of a Unix socket is not absolute, is longer than 107 bytes, or contains NUL, control or invisible
    ///   characters;
    /// - there are more than 16 alternates;
    /// - the metadata has more than 64 entries, or more than 16 KiB in total.
    pub fn validate(&self) -> Result<(), InstanceError> {
        check_text("id", self.id().as_str())?;
        check_address(self.address())?;
        check_alternates(self.alternates())?;
        check_metadata(self.metadata())
    }

    /// Whether both share one allocation. If so they are equal; the contents are not compared.
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn edit(&mut self) -> &mut Announced {
        Arc::make_mut(&mut self.0)
    }
}

impl PartialEq for Instance {
    fn eq(&self, other: &Self) -> bool {
        self.ptr_eq(other) || self.0 == other.0
    }
}

impl Eq for Instance {}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Announced {
            id,
            address,
            alternates,
            weight,
            rank,
            zone,
            availability,
            visibility,
            metadata,
        } = &*self.0;
        f.debug_struct("Instance")
            .field("id", &id.as_str())
            .field("address", &format_args!("{address}"))
            .field("alternates", alternates)
            .field("weight", &weight.get())
            .field("rank", rank)
            .field("zone", &zone.as_ref().map(Zone::as_str))
            .field("availability", availability)
            .field("visibility", visibility)
            .field("metadata", metadata)
            .finish()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Instance {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// As it is stored, with addresses that may be of a later release.
#[cfg(feature = "serde")]
impl Announced<String> {
    /// Leaves out alternates of an unknown kind. In place of an address of one, the first known alternate is taken.
    fn known(self) -> Result<Announced, AddressError> {
        let texts = std::iter::once(self.address).chain(self.alternates);
        let (later, known): (Vec<_>, Vec<_>) = texts.partition(|text| is_of_later_kind(text));
        let known = known.iter().map(|text| text.parse());
        let mut known = known.collect::<Result<Vec<Address>, _>>()?;
        if known.is_empty() {
            let first = later.first().map_or("", String::as_str);
            return Err(AddressError::of_later_kind(first));
        }
        let address = known.remove(0);
        Ok(Announced {
            address,
            alternates: known,
            id: self.id,
            weight: self.weight,
            rank: self.rank,
            zone: self.zone,
            availability: self.availability,
            visibility: self.visibility,
            metadata: self.metadata,
        })
    }
}

/// Rejects what does not pass [`Instance::validate`]. Addresses of a kind that only later releases know are left out, unless
/// there is no other.
#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Instance {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let announced = Announced::<String>::deserialize(deserializer)?.known();
        let instance = Self(Arc::new(announced.map_err(serde::de::Error::custom)?));
        instance.validate().map_err(serde::de::Error::custom)?;
        Ok(instance)
    }
}

/// An instance that was stored without having been validated: a peer has port 0.
#[cfg(feature = "cache")]
#[derive(serde::Deserialize)]
pub(crate) struct Stored(Announced<String>);

#[cfg(feature = "cache")]
impl TryFrom<Stored> for Instance {
    type Error = AddressError;

    fn try_from(stored: Stored) -> Result<Self, AddressError> {
        Ok(Self(Arc::new(stored.0.known()?)))
    }
}

pub(crate) fn check_address(address: &Address) -> Result<(), InstanceError> {
    match address.fault() {
        Some(reason) => Err(InstanceError::new("address", &address.to_string(), reason)),
        None => Ok(()),
    }
}

fn check_alternates(alternates: &[Address]) -> Result<(), InstanceError> {
    if alternates.len() > MOST_ALTERNATES {
        let count = format!("{} alternates", alternates.len());
        let reason = "at most 16 alternates are announced";
        return Err(InstanceError::new("address", &count, reason));
    }
    alternates.iter().try_for_each(check_address)
}

pub(crate) fn check_ip(field: &'static str, ip: IpAddr) -> Result<(), InstanceError> {
    match ip_fault(ip) {
        Some(reason) => Err(InstanceError::new(field, &ip.to_string(), reason)),
        None => Ok(()),
    }
}

pub(crate) fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), InstanceError> {
    if metadata.len() > MOST_METADATA_ENTRIES {
        let count = format!("{} entries", metadata.len());
        return Err(InstanceError::new(
            "metadata",
            &count,
            "at most 64 entries are announced",
        ));
    }
    let bytes: usize = metadata
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if bytes > MOST_METADATA_BYTES {
        let count = format!("{bytes} bytes");
        return Err(InstanceError::new(
            "metadata",
            &count,
            "at most 16384 bytes are announced",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(addr: &str) -> Instance {
        Instance::new("w-1", addr.parse::<Address>().unwrap())
    }

    fn refusal(instance: &Instance) -> String {
        instance.validate().unwrap_err().to_string()
    }

    #[test]
    fn a_plain_instance_has_the_documented_defaults() {
        let instance = at("127.0.0.1:80");
        assert!(instance.validate().is_ok());
        assert_eq!(instance.weight().get(), 1);
        assert_eq!(instance.rank(), 0);
        assert!(instance.alternates().is_empty());
        assert_eq!(instance.zone(), None);
        assert_eq!(instance.availability(), Availability::Available);
        assert_eq!(instance.visibility(), &Visibility::Internal);
        assert!(instance.metadata().is_empty());
    }

    #[test]
    fn editing_a_clone_leaves_the_original_unchanged() {
        let original = at("127.0.0.1:80");
        let edited = original.clone().with_weight(7).with_metadata("k", "v");
        assert_eq!(original.weight().get(), 1);
        assert_eq!(edited.weight().get(), 7);
        assert_ne!(original, edited);
        assert_eq!(original, at("127.0.0.1:80"), "equality is by content");
    }

    #[test]
    fn an_instance_is_the_size_of_one_pointer() {
        assert_eq!(size_of::<Instance>(), size_of::<usize>());
    }

    #[test]
    fn unreachable_addresses_are_refused_with_a_hint() {
        for addr in ["0.0.0.0:80", "[::]:80", "[::ffff:0.0.0.0]:80"] {
            let error = refusal(&at(addr));
            assert!(error.starts_with("invalid instance address"), "{error}");
            assert!(error.contains("where a server listens"), "{error}");
        }
        assert!(refusal(&at("10.0.0.1:0")).contains("\"10.0.0.1:0\": port 0"));
        for addr in ["224.0.0.1:80", "255.255.255.255:80", "[ff02::1]:80"] {
            assert!(refusal(&at(addr)).contains("reaches many hosts"), "{addr}");
        }
    }

    #[test]
    fn alternates_are_checked_like_the_address() {
        let both = at("10.0.0.1:80").with_alternates(["[::1]:80".parse::<Address>().unwrap()]);
        assert!(both.validate().is_ok());
        assert!(!both.has_addresses_of(&at("10.0.0.1:80")));
        let broken = at("10.0.0.1:80").with_alternates([([0, 0, 0, 0], 80)]);
        assert!(refusal(&broken).starts_with("invalid instance address \"0.0.0.0:80\""));
        let many = at("10.0.0.1:80").with_alternates((1..18).map(|port| ([10, 0, 0, 1], port)));
        assert!(refusal(&many).contains("\"17 alternates\""));
    }

    #[test]
    fn unprintable_and_over_long_ids_are_refused() {
        let with_id = |id: &str| Instance::new(id, ([127, 0, 0, 1], 80));
        assert!(refusal(&with_id("")).contains("it is empty"));
        assert!(refusal(&with_id("a b")).contains("whitespace"));
        assert!(refusal(&with_id("a\nb")).contains("\"a\\nb\""));
        for unseen in [
            "a\u{202e}b",
            "a\u{200b}",
            "\u{feff}a",
            "a\u{2066}b",
            "a\u{ad}b",
        ] {
            assert!(refusal(&with_id(unseen)).contains("not seen"), "{unseen:?}");
        }
        assert!(with_id("überschrift-日本").validate().is_ok());
        assert!(refusal(&with_id(&"x".repeat(254))).contains("253"));
        assert!(with_id(&"x".repeat(253)).validate().is_ok());
        assert!(
            with_id("[::1]:80").validate().is_ok(),
            "an address in text form is a valid id"
        );
    }

    #[test]
    fn metadata_is_bounded() {
        let many = (0..65).fold(at("127.0.0.1:80"), |i, n| {
            i.with_metadata(n.to_string(), "")
        });
        assert!(refusal(&many).contains("\"65 entries\""));
        let large = at("127.0.0.1:80").with_metadata("k", "x".repeat(16 * 1024));
        assert!(refusal(&large).contains("\"16385 bytes\""));
    }

    #[cfg(feature = "serde")]
    #[test]
    fn serde_fills_in_defaults_and_refuses_what_validate_refuses() {
        let text = r#"{"id":"w-1","address":"127.0.0.1:80","alternates":["[::1]:80","unix:/run/w.sock"],"weight":3,"rank":2,
            "zone":"a","visibility":{"granted":["media"]},"of_a_later_release":1}"#;
        let instance: Instance = serde_json::from_str(text).unwrap();
        assert_eq!(instance.alternates().len(), 2);
        assert_eq!(instance.rank(), 2);
        assert_eq!(instance.weight().get(), 3);
        assert_eq!(
            instance.visibility(),
            &Visibility::Granted(vec!["media".parse().unwrap()])
        );
        let later = text.replacen("[::1]:80", "vsock:3:80", 1).replacen(
            "127.0.0.1:80",
            "h3:127.0.0.1:80",
            1,
        );
        let read: Instance = serde_json::from_str(&later).unwrap();
        assert_eq!(read.address().to_string(), "unix:/run/w.sock");
        assert!(read.alternates().is_empty());
        let again = serde_json::to_string(&instance).unwrap();
        assert_eq!(serde_json::from_str::<Instance>(&again).unwrap(), instance);
        for bad in [
            r#"{"id":"w-1","address":"0.0.0.0:80"}"#,
            r#"{"id":"w-1","address":"127.0.0.1:80","weight":65536}"#,
            r#"{"id":"w-1","address":"unix:w.sock"}"#,
            r#"{"id":"w-1","address":"vsock:3:80"}"#,
            r#"{"id":"w-1","address":"127.0.0.1:80","alternates":["garbage"]}"#,
        ] {
            assert!(serde_json::from_str::<Instance>(bad).is_err(), "{bad}");
        }
    }
}
