//! What a worker is told by the variables of its environment.

use std::env::VarError;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::error::WorkerError;
use super::variable::Variable;
use crate::discovery::{Backend, Registration, Schemes, from_uri_with};
use crate::guard::Networks;
use crate::model::address::Address;

pub(super) struct Environment {
    pub(super) registration: Registration,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) bind: Option<Bind>,
    pub(super) advertise: Option<IpAddr>,
    pub(super) allow: Option<Networks>,
}

/// Where a worker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bind {
    /// At this ip, with one port for each endpoint.
    Ip(IpAddr),
    /// In this folder, with one Unix socket for each endpoint.
    Folder(Arc<Path>),
}

impl Bind {
    pub(super) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            Self::Folder(_) => None,
        }
    }
}

const ROLE: Variable = Variable::new("ROLECALL_ROLE", "worker");
const BOUNDARY: Variable = Variable::new("ROLECALL_BOUNDARY", "default");
const ID: Variable = Variable::new("ROLECALL_ID", "worker-1");
const DISCOVERY: Variable = Variable::new("ROLECALL_DISCOVERY", "folder:/run/roles");
const BIND: Variable = Variable::new("ROLECALL_BIND", "0.0.0.0");
const ADVERTISE: Variable = Variable::new("ROLECALL_ADVERTISE", "10.0.0.7");
const ALLOW: Variable = Variable::new("ROLECALL_ALLOW", "10.0.0.0/8");
const ZONE: Variable = Variable::new("ROLECALL_ZONE", "eu-1a");

impl Environment {
    /// Reads all variables by `variable`, which looks up one.
    pub(super) fn read(
        look: impl Fn(&'static str) -> Result<String, VarError>,
        schemes: &Schemes,
    ) -> Result<Self, WorkerError> {
        let optional = |variable: &'static Variable| match look(variable.name) {
            Ok(value) => Ok(Some(value)),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(value)) => {
                let value = value.to_string_lossy().into_owned();
                Err(WorkerError::invalid(variable, &value, "it is not Unicode"))
            }
        };
        let required = |variable: &'static Variable| {
            optional(variable)?.ok_or_else(|| WorkerError::missing(variable))
        };
        let ip = |variable: &'static Variable| match optional(variable)? {
            None => Ok(None),
            Some(text) => match text.parse::<IpAddr>() {
                Ok(ip) => Ok(Some(ip)),
                Err(error) => Err(WorkerError::invalid(variable, &text, error)),
            },
        };

        let bind = || match optional(&BIND)? {
            Some(text) if text.starts_with("unix:") => match text.parse() {
                Ok(Address::Unix(folder)) => Ok(Some(Bind::Folder(folder))),
                Ok(Address::Tcp(_)) => Ok(None),
                Err(error) => Err(WorkerError::invalid(&BIND, &text, error)),
            },
            _ => Ok(ip(&BIND)?.map(Bind::Ip)),
        };
        let allow = || match optional(&ALLOW)? {
            None => Ok(None),
            Some(text) => match text.parse::<Networks>() {
                Ok(networks) => Ok(Some(networks)),
                Err(error) => Err(WorkerError::invalid(&ALLOW, &text, error)),
            },
        };

        let mut registration = Registration::new(checked(&ROLE, required(&ROLE)?, |role| {
            Registration::new(role)
        })?);
        if let Some(boundary) = optional(&BOUNDARY)? {
            let boundary = checked(&BOUNDARY, boundary, |boundary| {
                registration.clone().boundary(boundary)
            })?;
            registration = registration.boundary(boundary);
        }
        if let Some(id) = optional(&ID)? {
            let id = checked(&ID, id, |id| registration.clone().id(id))?;
            registration = registration.id(id);
        }
        if let Some(zone) = optional(&ZONE)? {
            let zone = checked(&ZONE, zone, |zone| registration.clone().zone(zone))?;
            registration = registration.zone(zone);
        }
        let uri = required(&DISCOVERY)?;
        let backend = from_uri_with(&uri, schemes)
            .map_err(|error| WorkerError::invalid(&DISCOVERY, &uri, error))?;
        let advertise = ip(&ADVERTISE)?;
        if let Some(ip) = advertise {
            let text = ip.to_string();
            checked(&ADVERTISE, text, |_| registration.clone().peer_ip(ip))?;
        }
        Ok(Self {
            registration,
            backend,
            bind: bind()?,
            advertise,
            allow: allow()?,
        })
    }
}

/// Returns the value if a registration with it is valid.
fn checked(
    variable: &'static Variable,
    value: String,
    with: impl FnOnce(&str) -> Registration,
) -> Result<String, WorkerError> {
    match with(&value).validate() {
        Ok(_) => Ok(value),
        Err(error) => Err(WorkerError::invalid(variable, &value, error)),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, String> {
        let look = |name: &'static str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found
                .map(|(_, value)| (*value).to_owned())
                .ok_or(VarError::NotPresent)
        };
        Environment::read(look, &Schemes::default()).map_err(|error| match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
    }

    #[test]
    fn role_and_discovery_are_enough() {
        let read = read(&[
            ("ROLECALL_ROLE", "worker"),
            ("ROLECALL_DISCOVERY", "registry:"),
        ])
        .unwrap();
        let announced = read.registration.validate().unwrap();
        assert_eq!(announced.role().as_str(), "worker");
        assert_eq!(announced.boundary().as_str(), "default");
        assert_eq!((read.bind, read.advertise), (None, None));
        assert_eq!(read.allow, None);
    }

    #[test]
    fn all_variables_are_followed() {
        let read = read(&[
            ("ROLECALL_ROLE", "worker"),
            ("ROLECALL_BOUNDARY", "media"),
            ("ROLECALL_ID", "w-1"),
            ("ROLECALL_DISCOVERY", "registry:"),
            ("ROLECALL_BIND", "::"),
            ("ROLECALL_ADVERTISE", "10.0.0.7"),
            ("ROLECALL_ALLOW", "10.0.0.0/8"),
            ("ROLECALL_ZONE", "eu-1a"),
        ])
        .unwrap();
        let announced = read.registration.validate().unwrap();
        assert_eq!(announced.boundary().as_str(), "media");
        assert_eq!(announced.id().as_str(), "w-1");
        assert_eq!(read.bind, Some(Bind::Ip("::".parse().unwrap())));
        assert_eq!(read.allow.unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(*announced.zone().unwrap(), "eu-1a");
        assert_eq!(read.advertise, Some([10, 0, 0, 7].into()));
    }

    #[test]
    fn a_folder_of_unix_sockets_is_a_place_to_listen() {
        let read = read(&[
            ("ROLECALL_ROLE", "worker"),
            ("ROLECALL_DISCOVERY", "registry:"),
            ("ROLECALL_BIND", "unix:/run/shop"),
        ])
        .unwrap();
        assert_eq!(read.bind, Some(Bind::Folder(Path::new("/run/shop").into())));
    }

    #[test]
    fn errors_name_the_variable_the_value_and_an_example() {
        let complete = [
            ("ROLECALL_ROLE", "worker"),
            ("ROLECALL_DISCOVERY", "registry:"),
        ];
        let but = |name: &'static str, value: &'static str| {
            let others = complete
                .iter()
                .copied()
                .filter(move |(known, _)| *known != name);
            others.chain([(name, value)]).collect::<Vec<_>>()
        };
        for (variables, says) in [
            (
                vec![],
                "ROLECALL_ROLE is not set; set it as in ROLECALL_ROLE=worker",
            ),
            (
                vec![complete[0]],
                "ROLECALL_DISCOVERY is not set; set it as in ROLECALL_DISCOVERY=folder:/run/roles",
            ),
            (but("ROLECALL_ROLE", ""), "ROLECALL_ROLE is \"\""),
            (
                but("ROLECALL_ROLE", "Worker!"),
                "ROLECALL_ROLE is \"Worker!\"",
            ),
            (
                but("ROLECALL_BOUNDARY", "a/b"),
                "ROLECALL_BOUNDARY is \"a/b\"",
            ),
            (but("ROLECALL_ID", ""), "ROLECALL_ID is \"\""),
            (but("ROLECALL_DISCOVERY", "run"), "it has no scheme"),
            (
                but("ROLECALL_BIND", "localhost"),
                "ROLECALL_BIND is \"localhost\"; set it as in ROLECALL_BIND=0.0.0.0: invalid IP address",
            ),
            (
                but("ROLECALL_BIND", "unix:run"),
                "ROLECALL_BIND is \"unix:run\"",
            ),
            (
                but("ROLECALL_ALLOW", "everybody"),
                "ROLECALL_ALLOW is \"everybody\"; set it as in ROLECALL_ALLOW=10.0.0.0/8",
            ),
            (but("ROLECALL_ZONE", "a b"), "ROLECALL_ZONE is \"a b\""),
            (
                but("ROLECALL_ADVERTISE", "10.0.0.7:80"),
                "ROLECALL_ADVERTISE is \"10.0.0.7:80\"",
            ),
            (
                but("ROLECALL_ADVERTISE", "0.0.0.0"),
                "ROLECALL_ADVERTISE is \"0.0.0.0\"",
            ),
        ] {
            let error = read(&variables).map(|_| ()).unwrap_err();
            assert!(error.contains(says), "{variables:?} gave {error}");
        }
    }
}
