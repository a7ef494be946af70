use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::discovery::announcement::Announcement;
use crate::discovery::registration::Registration;
use crate::model::address::{Address, AddressError, is_of_later_kind};
use crate::model::instance::{Availability, InstanceId, Visibility, Weight, Zone};
use crate::model::name::{Boundary, EndpointName, Role};

/// An [`Announcement`] as backends store it, such as the JSON that `serde_json` makes of it.
///
/// Programs of different versions read each other's records: unknown fields are ignored, an unknown availability reads as
/// available, and an unknown visibility as internal. An endpoint may have a list of addresses: the first one of a known kind
/// counts. An endpoint without one is left out, unless that would leave none: such a record is refused. So is a record whose version, in the field `rolecall`, is above 1. What is read has passed the checks of a registration.
///
/// # Examples
///
/// ```
/// use rolecall::Registration;
/// use rolecall::discovery::Announcement;
/// use rolecall::discovery::backend::Record;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let worker = Registration::new("worker").endpoint("http", ([10, 0, 0, 7], 80)).validate()?;
/// let stored = serde_json::to_string(&Record::from(&worker))?;
/// assert!(stored.starts_with(r#"{"rolecall":1,"#));
///
/// let read: Record = serde_json::from_str(&stored)?;
/// assert_eq!(Announcement::from(read), worker);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(Announcement);

impl From<Announcement> for Record {
    fn from(announcement: Announcement) -> Self {
        Self(announcement)
    }
}

impl From<&Announcement> for Record {
    fn from(announcement: &Announcement) -> Self {
        Self(announcement.clone())
    }
}

impl From<Record> for Announcement {
    fn from(record: Record) -> Self {
        record.0
    }
}

/// Raised when older programs can no longer read what newer ones write.
const VERSION: u32 = 1;

/// The version comes first: it marks the text as ours.
#[derive(Serialize, Deserialize)]
struct Stored {
    rolecall: u32,
    #[serde(default)]
    boundary: Boundary,
    role: Role,
    id: InstanceId,
    #[serde(default)]
    endpoints: BTreeMap<EndpointName, Reached>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer_ip: Option<IpAddr>,
    #[serde(default, deserialize_with = "known_or_default")]
    visibility: Visibility,
    #[serde(default)]
    weight: Weight,
    #[serde(default, skip_serializing_if = "is_first_rank")]
    rank: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<Zone>,
    #[serde(default, deserialize_with = "known_or_default")]
    availability: Availability,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

/// Where an endpoint is reached; texts, since a later release may have other kinds of addresses.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Reached {
    At(String),
    /// The best first.
    AtOneOf(Vec<String>),
    /// As a later release may say it.
    #[serde(skip_serializing)]
    Unknown(IgnoredAny),
}

impl Reached {
    /// The address, if there is one of a known kind.
    fn known(&self) -> Result<Option<Address>, AddressError> {
        let texts = match self {
            Self::At(text) => std::slice::from_ref(text),
            Self::AtOneOf(texts) => texts,
            Self::Unknown(_) => &[],
        };
        let known = texts.iter().find(|text| !is_of_later_kind(text));
        known.map(|text| text.parse()).transpose()
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_first_rank(rank: &u8) -> bool {
    *rank == 0
}

/// What a later version may have more values of.
fn known_or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<T> {
        Known(T),
        Unknown(IgnoredAny),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Known(known) => known,
        Either::Unknown(_) => T::default(),
    })
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let announcement = &self.0;
        let endpoints = announcement.endpoints();
        let stored = Stored {
            rolecall: VERSION,
            boundary: announcement.boundary().clone(),
            role: announcement.role().clone(),
            id: announcement.id().clone(),
            endpoints: endpoints
                .map(|(name, instance)| (name.clone(), Reached::At(instance.address().to_string())))
                .collect(),
            peer_ip: announcement.peer_ip(),
            visibility: announcement.visibility().clone(),
            weight: announcement.weight(),
            rank: announcement.rank(),
            zone: announcement.zone().cloned(),
            availability: announcement.availability(),
            metadata: announcement.metadata().clone(),
        };
        stored.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        if stored.rolecall > VERSION {
            return Err(D::Error::custom(format_args!(
                "record of version {}; this program reads version {VERSION}",
                stored.rolecall
            )));
        }
        let mut registration = Registration::new(stored.role.as_str())
            .boundary(stored.boundary.as_str())
            .id(stored.id)
            .visibility(stored.visibility)
            .weight(stored.weight)
            .rank(stored.rank)
            .availability(stored.availability);
        registration.peer_ip = stored.peer_ip;
        registration.zone = stored.zone.map(|zone| zone.as_str().to_owned());
        registration.metadata = stored.metadata;
        let mut is_reached = stored.endpoints.is_empty();
        for (name, reached) in stored.endpoints {
            if let Some(address) = reached.known().map_err(D::Error::custom)? {
                registration = registration.endpoint(name.as_str(), address);
                is_reached = true;
            }
        }
        if !is_reached {
            let problem = "no endpoint has an address of a kind that this release knows";
            return Err(D::Error::custom(problem));
        }
        let announcement = registration.validate().map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            D::Error::custom(cause.unwrap_or_else(|| error.to_string()))
        })?;
        Ok(Self(announcement))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Announcement {
        Registration::new("worker")
            .id("w-1")
            .boundary("media")
            .endpoint("http", ([10, 0, 0, 7], 80))
            .endpoint("grpc", "[::1]:90".parse::<Address>().unwrap())
            .endpoint("unix", Address::unix("/run/w.sock").unwrap())
            .peer_ip([10, 0, 0, 9].into())
            .visibility(Visibility::Granted(vec![Boundary::new("batch").unwrap()]))
            .weight(3)
            .rank(1)
            .zone("a")
            .availability(Availability::Busy)
            .metadata("version", "7")
            .validate()
            .unwrap()
    }

    fn read(text: &str) -> Result<Announcement, String> {
        let record: Result<Record, _> = serde_json::from_str(text);
        record.map(Announcement::from).map_err(|e| e.to_string())
    }

    #[test]
    fn a_record_reads_as_it_was_written_and_not_at_all_if_it_is_torn() {
        let none = Registration::new("cron").validate().unwrap();
        for announcement in [full(), none] {
            let text = serde_json::to_string(&Record::from(&announcement)).unwrap();
            assert_eq!(read(&text).unwrap(), announcement);
            for cut in 0..text.len() {
                assert!(read(&text[..cut]).is_err(), "torn at {cut}");
            }
        }
    }

    #[test]
    fn a_record_of_a_later_release_is_read_without_what_is_unknown() {
        let text = serde_json::to_string(&Record::from(full())).unwrap();
        let later = text
            .replacen("\"weight\":3", "\"weight\":3,\"colour\":{\"a\":[1]}", 1)
            .replacen("\"busy\"", "\"warming\"", 1)
            .replacen(
                "{\"granted\":[\"batch\"]}",
                "{\"within\":{\"region\":\"eu\"}}",
                1,
            );
        let read = read(&later).unwrap();
        assert_eq!(read.weight(), Weight::new(3));
        assert_eq!(read.availability(), Availability::Available);
        assert_eq!(
            *read.visibility(),
            Visibility::Internal,
            "seen by fewer, never by more"
        );
    }

    #[test]
    fn addresses_of_a_later_release_are_left_out_while_one_is_known() {
        let record = |endpoints: &str| {
            read(&format!(
                r#"{{"rolecall":1,"role":"worker","id":"a","endpoints":{{{endpoints}}}}}"#
            ))
        };
        let of = |read: &Announcement| {
            let endpoints = read.endpoints();
            let text = endpoints.map(|(name, at)| format!("{name} {}", at.address()));
            text.collect::<Vec<_>>().join(", ")
        };
        for later in [
            r#""vsock:3:1024""#,
            r#"{"vsock":[3,1024]}"#,
            r#"["h3:10.0.0.7:443"]"#,
        ] {
            let other = record(&format!(r#""http":{later},"grpc":"10.0.0.7:90""#));
            assert_eq!(of(&other.unwrap()), "grpc 10.0.0.7:90");
            let error = record(&format!(r#""http":{later}"#)).unwrap_err();
            assert!(
                error.contains("of a kind that this release knows"),
                "{error}"
            );
        }
        let list = r#""http":["h3:10.0.0.7:443","10.0.0.7:80","10.0.0.8:80"]"#;
        assert_eq!(of(&record(list).unwrap()), "http 10.0.0.7:80");
        assert!(record(r#""http":["garbage","10.0.0.7:80"]"#).is_err());
        assert_eq!(of(&record("").unwrap()), "");
    }

    #[test]
    fn what_no_registration_may_say_is_refused() {
        for (text, says) in [
            (r#"{"rolecall":2,"role":"worker","id":"a"}"#, "of version 2"),
            (r#"{"role":"worker","id":"a"}"#, "missing field `rolecall`"),
            (
                r#"{"rolecall":1,"role":"worker","id":"a b"}"#,
                "invalid instance id",
            ),
            (
                r#"{"rolecall":1,"role":"worker","id":"a","endpoints":{"http":"0.0.0.0:1"}}"#,
                "where a server listens",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
