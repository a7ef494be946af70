//! The text of both forms: a role environment in TOML or JSON, and the JSON record of one registration.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use crate::discovery::{Announcement, Registration};
use crate::error::discovery::RegisterError;
use crate::model::instance::{
    Availability, InstanceError, InstanceId, Visibility, Weight, Zone, check_addr, check_ip,
    check_metadata,
};
use crate::model::name::{Boundary, EndpointName, Role};

/// More than any role environment that somebody could read.
const MOST_INSTANCES: usize = 100_000;

/// What a role environment says.
#[derive(Debug, Default)]
pub(super) struct Roles {
    pub(super) announced: Vec<Announcement>,
    pub(super) known: Vec<(Boundary, Role, Option<EndpointName>)>,
    /// Ids that are there twice: the last stays.
    pub(super) duplicate: Option<Fault>,
}

/// What one file of a folder says.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) announced: Announcement,
    pub(super) lease: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    role: Vec<RoleEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleEntry {
    name: Role,
    #[serde(default)]
    boundary: Boundary,
    #[serde(default)]
    endpoints: Vec<EndpointName>,
    #[serde(default)]
    instance: Vec<Described>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    boundary: Boundary,
    role: Role,
    #[serde(with = "humantime_serde")]
    lease: Duration,
    instance: Described,
}

/// One instance. Every field checks itself, so that an error has the line and the name of the field.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    id: InstanceId,
    #[serde(default)]
    endpoints: BTreeMap<EndpointName, Dialled>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer_ip: Option<PeerIp>,
    #[serde(default)]
    visibility: Visibility,
    #[serde(default)]
    weight: Weight,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<Zone>,
    #[serde(default)]
    availability: Availability,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "SocketAddr", into = "SocketAddr")]
struct Dialled(SocketAddr);

impl TryFrom<SocketAddr> for Dialled {
    type Error = InstanceError;

    fn try_from(addr: SocketAddr) -> Result<Self, InstanceError> {
        check_addr(addr).map(|()| Self(addr))
    }
}

impl From<Dialled> for SocketAddr {
    fn from(dialled: Dialled) -> Self {
        dialled.0
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "IpAddr", into = "IpAddr")]
struct PeerIp(IpAddr);

impl TryFrom<IpAddr> for PeerIp {
    type Error = InstanceError;

    fn try_from(ip: IpAddr) -> Result<Self, InstanceError> {
        check_ip("peer ip", ip).map(|()| Self(ip))
    }
}

impl From<PeerIp> for IpAddr {
    fn from(peer: PeerIp) -> Self {
        peer.0
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(
    try_from = "BTreeMap<String, String>",
    into = "BTreeMap<String, String>"
)]
struct Metadata(BTreeMap<String, String>);

impl TryFrom<BTreeMap<String, String>> for Metadata {
    type Error = InstanceError;

    fn try_from(metadata: BTreeMap<String, String>) -> Result<Self, InstanceError> {
        check_metadata(&metadata).map(|()| Self(metadata))
    }
}

impl From<Metadata> for BTreeMap<String, String> {
    fn from(metadata: Metadata) -> Self {
        metadata.0
    }
}

impl Described {
    fn of(announced: &Announcement) -> Self {
        Self {
            id: announced.id().clone(),
            endpoints: announced
                .endpoints()
                .map(|(name, instance)| (name.clone(), Dialled(instance.addr())))
                .collect(),
            peer_ip: announced.peer_ip().map(PeerIp),
            visibility: announced.visibility().clone(),
            weight: announced.weight(),
            zone: announced.zone().cloned(),
            availability: announced.availability(),
            metadata: Metadata(announced.metadata().clone()),
        }
    }

    fn announced(self, role: &Role, boundary: &Boundary) -> Result<Announcement, RegisterError> {
        let mut registration = Registration::new(role.as_str())
            .boundary(boundary.as_str())
            .id(self.id)
            .visibility(self.visibility)
            .weight(self.weight)
            .availability(self.availability);
        if let Some(PeerIp(ip)) = self.peer_ip {
            registration = registration.peer_ip(ip);
        }
        if let Some(zone) = self.zone {
            registration = registration.zone(zone.as_str());
        }
        for (name, Dialled(addr)) in self.endpoints {
            registration = registration.endpoint(name.as_str(), addr);
        }
        for (key, value) in self.metadata.0 {
            registration = registration.metadata(key, value);
        }
        registration.validate()
    }
}

/// Reads a role environment: JSON if the path says so, else TOML.
pub(super) fn roles(path: &Path, bytes: &[u8]) -> Result<Roles, Fault> {
    let document: Document = if path.extension().is_some_and(|ending| ending == "json") {
        json(path, bytes)?
    } else {
        toml(path, bytes)?
    };
    let mut roles = Roles::default();
    let mut at = HashMap::new();
    let mut duplicates = Vec::new();
    for (r, entry) in document.role.into_iter().enumerate() {
        let place = |endpoint| (entry.boundary.clone(), entry.name.clone(), endpoint);
        roles.known.push(place(None));
        roles
            .known
            .extend(entry.endpoints.into_iter().map(|name| place(Some(name))));
        for (i, described) in entry.instance.into_iter().enumerate() {
            let field = || format!("role[{r}].instance[{i}]");
            let announced = described
                .announced(&entry.name, &entry.boundary)
                .map_err(|error| Fault::new(path, error).in_field(field()))?;
            let key = (
                entry.boundary.clone(),
                entry.name.clone(),
                announced.id().clone(),
            );
            match at.entry(key) {
                std::collections::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(roles.announced.len());
                    roles.announced.push(announced);
                }
                std::collections::hash_map::Entry::Occupied(earlier) => {
                    let problem =
                        format_args!("id \"{}\" is there twice; the last stays", announced.id());
                    duplicates.push(Fault::new(path, problem).in_field(field() + ".id"));
                    roles.announced[*earlier.get()] = announced;
                }
            }
        }
    }
    if roles.announced.len() > MOST_INSTANCES {
        return Err(Fault::new(
            path,
            format_args!(
                "{} instances, of which at most {MOST_INSTANCES} are read",
                roles.announced.len()
            ),
        ));
    }
    roles.duplicate = Fault::first_of(duplicates);
    Ok(roles)
}

/// Reads the record of one registration.
pub(super) fn record(path: &Path, bytes: &[u8]) -> Result<Record, Fault> {
    let posted: Posted = json(path, bytes)?;
    let announced = posted
        .instance
        .announced(&posted.role, &posted.boundary)
        .map_err(|error| Fault::new(path, error))?;
    Ok(Record {
        announced,
        lease: posted.lease,
    })
}

/// Writes the record of one registration.
pub(super) fn text_of(announced: &Announcement, lease: Duration) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(&Posted {
        boundary: announced.boundary().clone(),
        role: announced.role().clone(),
        lease,
        instance: Described::of(announced),
    })?;
    text.push(b'\n');
    Ok(text)
}

fn json<'de, T: Deserialize<'de>>(path: &Path, bytes: &'de [u8]) -> Result<T, Fault> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let fault = |error: &serde_json::Error| {
        // Its text ends with the position, which the fault tells in its own way.
        let text = error.to_string();
        let problem = text.split(" at line ").next().unwrap_or_default();
        Fault::new(path, problem).at_line(Some(error.line()).filter(|line| *line > 0))
    };
    let read = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| fault(error.inner()).in_field(error.path()))?;
    reader.end().map_err(|error| fault(&error))?;
    Ok(read)
}

fn toml<'de, T: Deserialize<'de>>(path: &Path, bytes: &'de [u8]) -> Result<T, Fault> {
    let line = |at: usize| {
        let before = bytes.get(..at).unwrap_or(bytes);
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    };
    let text = str::from_utf8(bytes).map_err(|error| {
        Fault::new(path, "it is no UTF-8 text").at_line(Some(line(error.valid_up_to())))
    })?;
    let fault = |error: &toml::de::Error| {
        let at = error.span().map(|span| line(span.start));
        Fault::new(path, error.message()).at_line(at)
    };
    let reader = toml::Deserializer::parse(text).map_err(|error| fault(&error))?;
    serde_path_to_error::deserialize(reader)
        .map_err(|error| fault(error.inner()).in_field(error.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(name: &str, text: &str) -> String {
        roles(Path::new(name), text.as_bytes())
            .unwrap_err()
            .to_string()
    }

    const GOOD: &str = r#"
        [[role]]
        name = "worker"
        endpoints = ["admin"]

        [[role.instance]]
        id = "w-1"
        endpoints = { http = "10.0.0.7:80", grpc = "[::1]:90" }
        weight = 3
        zone = "a"
        visibility = { granted = ["media"] }
        metadata = { version = "7" }

        [[role]]
        name = "cron"
        boundary = "media"
        instance = [{ id = "1", peer_ip = "10.0.0.9" }]
    "#;

    #[test]
    fn a_role_environment_is_read_whole() {
        let read = roles(Path::new("roles.toml"), GOOD.as_bytes()).unwrap();
        let [worker, cron] = &read.announced[..] else {
            unreachable!("two instances");
        };
        assert_eq!(worker.endpoints().count(), 2);
        assert_eq!(worker.weight().get(), 3);
        assert_eq!(*cron.boundary(), "media");
        assert_eq!(cron.peer().unwrap().id(), &InstanceId::from("cron/1"));
        let known = read
            .known
            .iter()
            .map(|(_, role, name)| (role.as_str(), name.as_ref().map(EndpointName::as_str)));
        assert_eq!(
            known.collect::<Vec<_>>(),
            [("worker", None), ("worker", Some("admin")), ("cron", None)]
        );
        assert_eq!(read.duplicate, None);
    }

    #[test]
    fn errors_name_file_line_and_field() {
        for (from, to, says) in [
            (
                "weight = 3",
                "weight = 70000",
                "roles.toml:9: role[0].instance[0].weight: invalid weight \"70000\"",
            ),
            (
                "weight = 3",
                "wieght = 3",
                "roles.toml:9: role[0].instance[0].wieght: unknown field `wieght`",
            ),
            (
                "10.0.0.7:80",
                "0.0.0.0:80",
                "roles.toml:8: role[0].instance[0].endpoints.http: invalid instance address",
            ),
            (
                "zone = \"a\"",
                "zone = \"a b\"",
                "roles.toml:10: role[0].instance[0].zone: invalid instance zone",
            ),
            (
                "\"media\"\n",
                "\"Media\"\n",
                "roles.toml:16: role[1].boundary: invalid boundary \"Media\"",
            ),
            (
                "name = \"cron\"",
                "",
                "roles.toml:14: role[1]: missing field `name`",
            ),
            ("weight = 3", "weight = ", "roles.toml:9: "),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = fault("roles.toml", &GOOD.replacen(from, to, 1));
            assert!(error.starts_with(says), "{to}: {error}");
        }
        let json = "{\"role\": [\n{\"name\": \"worker\",\n\"instance\": [{\"id\": \"a\\nb\"}]}]}";
        let error = fault("roles.json", json);
        let says = "roles.json:3: role[0].instance[0].id: invalid instance id \"a\\nb\"";
        assert!(error.starts_with(says), "{error}");
        assert!(fault("roles.json", "{\"role\": [\n").starts_with("roles.json:2: "));
        assert!(fault("roles.json", "{} {}").starts_with("roles.json:1: trailing characters"));
    }

    #[test]
    fn hostile_text_gives_a_short_error() {
        let key = "x\\u001b".repeat(50_000);
        let error = fault("roles.toml", &format!("\"{key}\" = 1"));
        assert!(
            error.len() < 4096 && !error.contains(char::is_control),
            "{error}"
        );
        let error = fault("roles.json", &format!("{{\"{key}\": 1}}"));
        assert!(
            error.len() < 4096 && !error.contains(char::is_control),
            "{error}"
        );
        let deep = "[".repeat(100_000);
        fault("roles.json", &format!("{{\"role\": {deep}"));
        fault("roles.toml", &format!("role = {deep}"));
    }

    #[test]
    fn of_an_id_that_is_there_twice_the_last_stays_and_is_reported() {
        let twice = GOOD.replace(
            "instance = [{ id = \"1\", peer_ip = \"10.0.0.9\" }]",
            "instance = [{ id = \"1\" }, { id = \"1\", peer_ip = \"10.0.0.8\" }]",
        );
        let read = roles(Path::new("roles.toml"), twice.as_bytes()).unwrap();
        assert_eq!(read.announced.len(), 2);
        assert_eq!(
            read.announced[1].peer().unwrap().addr().ip(),
            IpAddr::from([10, 0, 0, 8])
        );
        assert_eq!(
            read.duplicate.unwrap().to_string(),
            "roles.toml: role[1].instance[1].id: id \"1\" is there twice; the last stays"
        );
    }

    #[test]
    fn a_record_reads_as_it_was_written() {
        let read = roles(Path::new("roles.toml"), GOOD.as_bytes()).unwrap();
        for announced in read.announced {
            let lease = Duration::from_millis(1500);
            let text = text_of(&announced, lease).unwrap();
            let again = record(Path::new("r.json"), &text).unwrap();
            assert_eq!(again.lease, lease);
            assert_eq!(again.announced.metadata(), announced.metadata());
            assert_eq!(again.announced.peer(), announced.peer());
            let mut open: Vec<_> = announced.endpoints().collect();
            open.sort_by(|a, b| a.0.cmp(b.0));
            assert_eq!(again.announced.endpoints().collect::<Vec<_>>(), open);
            for cut in 0..text.len() - 1 {
                assert!(
                    record(Path::new("r.json"), &text[..cut]).is_err(),
                    "torn at {cut}"
                );
            }
        }
    }
}
