//! The text of a roles file, in TOML or JSON.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;

use crate::discovery::fault::Fault;
use crate::discovery::{Announcement, Registration};
use crate::error::discovery::RegisterError;
use crate::model::address::Address;
use crate::model::instance::{
    Availability, InstanceError, InstanceId, Visibility, Weight, Zone, check_address, check_ip,
    check_metadata,
};
use crate::model::name::{Boundary, EndpointName, Role};

/// More than any roles file that somebody could read.
const MOST_INSTANCES: usize = 100_000;

/// What a roles file says.
#[derive(Debug, Default)]
pub(super) struct Roles {
    pub(super) announced: Vec<Announcement>,
    pub(super) known: Vec<(Boundary, Role, Option<EndpointName>)>,
    /// Ids that occur twice: the last entry wins.
    pub(super) duplicate: Option<Fault>,
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

/// One instance. Every field checks itself, so that an error has the line and the name of the field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    id: InstanceId,
    #[serde(default)]
    endpoints: BTreeMap<EndpointName, Dialled>,
    #[serde(default)]
    peer_ip: Option<PeerIp>,
    #[serde(default)]
    visibility: Visibility,
    #[serde(default)]
    weight: Weight,
    #[serde(default)]
    rank: u8,
    #[serde(default)]
    zone: Option<Zone>,
    #[serde(default)]
    availability: Availability,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Clone, Deserialize)]
#[serde(try_from = "Address")]
struct Dialled(Address);

impl TryFrom<Address> for Dialled {
    type Error = InstanceError;

    fn try_from(address: Address) -> Result<Self, InstanceError> {
        check_address(&address).map(|()| Self(address))
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "IpAddr")]
struct PeerIp(IpAddr);

impl TryFrom<IpAddr> for PeerIp {
    type Error = InstanceError;

    fn try_from(ip: IpAddr) -> Result<Self, InstanceError> {
        check_ip("peer ip", ip).map(|()| Self(ip))
    }
}

#[derive(Clone, Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
struct Metadata(BTreeMap<String, String>);

impl TryFrom<BTreeMap<String, String>> for Metadata {
    type Error = InstanceError;

    fn try_from(metadata: BTreeMap<String, String>) -> Result<Self, InstanceError> {
        check_metadata(&metadata).map(|()| Self(metadata))
    }
}

impl Described {
    fn announced(self, role: &Role, boundary: &Boundary) -> Result<Announcement, RegisterError> {
        let mut registration = Registration::new(role.as_str())
            .boundary(boundary.as_str())
            .id(self.id)
            .visibility(self.visibility)
            .weight(self.weight)
            .rank(self.rank)
            .availability(self.availability);
        if let Some(PeerIp(ip)) = self.peer_ip {
            registration = registration.peer_ip(ip);
        }
        if let Some(zone) = self.zone {
            registration = registration.zone(zone.as_str());
        }
        for (name, Dialled(address)) in self.endpoints {
            registration = registration.endpoint(name.as_str(), address);
        }
        for (key, value) in self.metadata.0 {
            registration = registration.metadata(key, value);
        }
        registration.validate()
    }
}

/// Reads a roles file: JSON if the path says so, else TOML.
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
                    let problem = format_args!(
                        "id \"{}\" occurs twice; the last entry wins",
                        announced.id()
                    );
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
        Fault::new(path, "not UTF-8 text").at_line(Some(line(error.valid_up_to())))
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
        endpoints = { http = "10.0.0.7:80", grpc = "[::1]:90", unix = "unix:/run/w.sock" }
        weight = 3
        zone = "a"
        visibility = { granted = ["media"] }
        metadata = { version = "7" }

        [[role]]
        name = "cron"
        boundary = "media"
        instance = [{ id = "1", peer_ip = "10.0.0.9", rank = 2 }]
    "#;

    #[test]
    fn a_role_environment_is_read_whole() {
        let read = roles(Path::new("roles.toml"), GOOD.as_bytes()).unwrap();
        let [worker, cron] = &read.announced[..] else {
            unreachable!("two instances");
        };
        assert_eq!(worker.endpoints().count(), 3);
        assert_eq!(cron.rank(), 2);
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
    fn if_an_id_occurs_twice_the_last_entry_wins_and_it_is_reported() {
        let twice = GOOD.replace(
            "instance = [{ id = \"1\", peer_ip = \"10.0.0.9\", rank = 2 }]",
            "instance = [{ id = \"1\" }, { id = \"1\", peer_ip = \"10.0.0.8\" }]",
        );
        let read = roles(Path::new("roles.toml"), twice.as_bytes()).unwrap();
        assert_eq!(read.announced.len(), 2);
        assert_eq!(
            read.announced[1].peer_ip(),
            Some(IpAddr::from([10, 0, 0, 8]))
        );
        assert_eq!(
            read.duplicate.unwrap().to_string(),
            "roles.toml: role[1].instance[1].id: id \"1\" occurs twice; the last entry wins"
        );
    }
}
