//! Why discovery has no answer, and why a registration was refused.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::model::instance::{InstanceError, InstanceId};
use crate::model::name::{Boundary, EndpointName, NameError, Role};
use crate::model::target::Target;
use crate::runtime::causes::with_causes;
use crate::runtime::text::legible;

/// Why a discovery gave no set. Cheap to clone, since status keeps the last one.
#[derive(Clone, Debug)]
pub struct DiscoveryError {
    fault: Fault,
    /// Whether it is normal before the first instance has registered: no reason to warn.
    is_expected: bool,
}

/// The kind of a [`DiscoveryError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DiscoveryErrorKind {
    /// Nothing of this role was ever registered.
    UnknownRole,
    /// The role is known and has no endpoint of this name.
    UnknownEndpoint,
    /// Instances exist, and none is visible from the caller's boundary.
    NotVisible,
    /// This discovery cannot do what was asked.
    Unsupported,
    /// The backend failed; its error is the source.
    Backend,
}

/// The most endpoint names that an error lists: more than a real role has.
const MOST_NAMES: usize = 20;

#[derive(Clone, Debug)]
enum Fault {
    UnknownRole(Target),
    UnknownEndpoint {
        target: Target,
        known: Arc<[EndpointName]>,
    },
    NotVisible {
        target: Target,
        caller: Boundary,
    },
    Unsupported(&'static str),
    Backend {
        doing: Arc<str>,
        source: Arc<dyn StdError + Send + Sync>,
    },
}

impl DiscoveryError {
    /// Nothing of the target's role was ever registered.
    #[must_use]
    pub fn unknown_role(target: &Target) -> Self {
        Fault::UnknownRole(target.clone()).into()
    }

    /// The target's role is known, and these are the endpoints it has.
    #[must_use]
    pub fn unknown_endpoint(
        target: &Target,
        known: impl IntoIterator<Item = EndpointName>,
    ) -> Self {
        Fault::UnknownEndpoint {
            target: target.clone(),
            known: known.into_iter().collect(),
        }
        .into()
    }

    /// The target has instances, and none is visible from the boundary `caller`.
    #[must_use]
    pub fn not_visible(target: &Target, caller: &Boundary) -> Self {
        Fault::NotVisible {
            target: target.clone(),
            caller: caller.clone(),
        }
        .into()
    }

    /// This discovery cannot do what was asked; `what` completes "unsupported: ".
    #[must_use]
    pub fn unsupported(what: &'static str) -> Self {
        Fault::Unsupported(what).into()
    }

    /// The backend failed while `doing` something, such as `"watching etcd"`.
    #[must_use]
    pub fn backend(
        doing: impl AsRef<str>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Fault::Backend {
            doing: doing.as_ref().into(),
            source: source.into().into(),
        }
        .into()
    }

    /// Marks an error that is normal before the first instance has registered.
    #[cfg(all(feature = "folder", unix))]
    pub(crate) fn expected(mut self) -> Self {
        self.is_expected = true;
        self
    }

    /// Whether the error is normal before the first instance has registered, and no reason to warn.
    pub(crate) fn is_expected(&self) -> bool {
        self.is_expected
    }

    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> DiscoveryErrorKind {
        match self.fault {
            Fault::UnknownRole(_) => DiscoveryErrorKind::UnknownRole,
            Fault::UnknownEndpoint { .. } => DiscoveryErrorKind::UnknownEndpoint,
            Fault::NotVisible { .. } => DiscoveryErrorKind::NotVisible,
            Fault::Unsupported(_) => DiscoveryErrorKind::Unsupported,
            Fault::Backend { .. } => DiscoveryErrorKind::Backend,
        }
    }

    /// The error with its causes, such as the file and the line. Causes come from a backend and may quote anything.
    pub(crate) fn with_causes(&self) -> String {
        with_causes(self)
    }
}

impl From<Fault> for DiscoveryError {
    fn from(fault: Fault) -> Self {
        let is_expected = matches!(fault, Fault::UnknownRole(_));
        Self { fault, is_expected }
    }
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Fault::UnknownRole(target) => {
                write!(
                    f,
                    "unknown role \"{}\": nothing ever announced it",
                    target.role()
                )?;
                match target.boundary() {
                    Some(boundary) => write!(f, " in boundary \"{boundary}\""),
                    None => Ok(()),
                }
            }
            Fault::UnknownEndpoint { target, known } => {
                let (role, endpoint) = (target.role(), target.endpoint());
                write!(f, "role \"{role}\" has no endpoint \"{endpoint}\"; it has ")?;
                match &**known {
                    [] => f.write_str("none"),
                    [first, rest @ ..] => {
                        write!(f, "\"{first}\"")?;
                        let (told, more) = rest.split_at(rest.len().min(MOST_NAMES - 1));
                        told.iter().try_for_each(|name| write!(f, ", \"{name}\""))?;
                        match more.len() {
                            0 => Ok(()),
                            more => write!(f, " and {more} more"),
                        }
                    }
                }
            }
            Fault::NotVisible { target, caller } => {
                write!(
                    f,
                    "no instance of {target} is visible from boundary \"{caller}\""
                )?;
                if let Some(owner) = target.boundary() {
                    write!(f, ": they belong to boundary \"{owner}\", and")?;
                } else {
                    f.write_str(": they")?;
                }
                write!(
                    f,
                    " are visible elsewhere only if they are registered as public or as granted to \
                     \"{caller}\""
                )
            }
            Fault::Unsupported(what) => write!(f, "unsupported: {what}"),
            Fault::Backend { doing, .. } => write!(f, "discovery failed while {doing}"),
        }
    }
}

impl StdError for DiscoveryError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.fault {
            Fault::Backend { source, .. } => Some(&**source),
            _ => None,
        }
    }
}

/// Why an instance could not be announced, or its announcement could not be changed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RegisterError {
    fault: RegisterFault,
}

/// The kind of a [`RegisterError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegisterErrorKind {
    /// A role, boundary or endpoint name is invalid; the [`NameError`] is the source.
    Name,
    /// An id, address, zone or metadata is invalid; the [`InstanceError`] is the source.
    Instance,
    /// Another live registration has this id.
    IdTaken,
    /// The backend failed; its error is the source.
    Backend,
}

#[derive(Clone, Debug)]
enum RegisterFault {
    Name(NameError),
    Instance(InstanceError),
    IdTaken {
        id: InstanceId,
        role: Role,
        boundary: Boundary,
    },
    Backend {
        doing: Arc<str>,
        source: Arc<dyn StdError + Send + Sync>,
    },
}

impl RegisterError {
    /// Another live instance of this role has the id.
    #[must_use]
    pub fn id_taken(boundary: &Boundary, role: &Role, id: &InstanceId) -> Self {
        RegisterFault::IdTaken {
            id: id.clone(),
            role: role.clone(),
            boundary: boundary.clone(),
        }
        .into()
    }

    /// The backend failed while `doing` something, such as `"creating a lease"`.
    #[must_use]
    pub fn backend(
        doing: impl AsRef<str>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        RegisterFault::Backend {
            doing: doing.as_ref().into(),
            source: source.into().into(),
        }
        .into()
    }

    /// What sort of thing went wrong.
    #[must_use]
    pub fn kind(&self) -> RegisterErrorKind {
        match self.fault {
            RegisterFault::Name(_) => RegisterErrorKind::Name,
            RegisterFault::Instance(_) => RegisterErrorKind::Instance,
            RegisterFault::IdTaken { .. } => RegisterErrorKind::IdTaken,
            RegisterFault::Backend { .. } => RegisterErrorKind::Backend,
        }
    }
}

impl From<RegisterFault> for RegisterError {
    fn from(fault: RegisterFault) -> Self {
        Self { fault }
    }
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = "registration refused";
        match &self.fault {
            RegisterFault::Name(error) => write!(f, "{refused}: invalid {}", error.field()),
            RegisterFault::Instance(error) => write!(f, "{refused}: invalid {}", error.field()),
            RegisterFault::IdTaken { id, role, boundary } => write!(
                f,
                "{refused}: id \"{}\" is taken by a live instance of role \"{role}\" in boundary \
                 \"{boundary}\"; choose another, or leave it out to get a unique one",
                legible(id)
            ),
            RegisterFault::Backend { doing, .. } => write!(f, "registration failed while {doing}"),
        }
    }
}

impl StdError for RegisterError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.fault {
            RegisterFault::Name(error) => Some(error),
            RegisterFault::Instance(error) => Some(error),
            RegisterFault::Backend { source, .. } => Some(&**source),
            RegisterFault::IdTaken { .. } => None,
        }
    }
}

impl From<NameError> for RegisterError {
    fn from(error: NameError) -> Self {
        RegisterFault::Name(error).into()
    }
}

impl From<InstanceError> for RegisterError {
    fn from(error: InstanceError) -> Self {
        RegisterFault::Instance(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    #[test]
    fn causes_of_a_backend_cannot_forge_lines() {
        let error = DiscoveryError::backend("reading files", "roles.toml:3: x\nWARN y\u{1b}[2J");
        assert_eq!(
            error.with_causes(),
            "discovery failed while reading files: roles.toml:3: x\\nWARN y\\u{1b}[2J"
        );
        let error = DiscoveryError::backend("reading files", "x".repeat(1 << 20));
        assert!(error.with_causes().len() < 1024);
    }

    #[test]
    fn errors_say_what_is_known_and_what_would_help() {
        let known = ["grpc", "http"].map(|name| EndpointName::new(name).unwrap());
        let caller = Boundary::new("batch").unwrap();
        for (error, kind, text) in [
            (
                DiscoveryError::unknown_role(&target("media/worker:http")),
                DiscoveryErrorKind::UnknownRole,
                "unknown role \"worker\": nothing ever announced it in boundary \"media\"",
            ),
            (
                DiscoveryError::unknown_endpoint(&target("worker:htp"), known),
                DiscoveryErrorKind::UnknownEndpoint,
                "role \"worker\" has no endpoint \"htp\"; it has \"grpc\", \"http\"",
            ),
            (
                DiscoveryError::not_visible(&target("media/worker:http"), &caller),
                DiscoveryErrorKind::NotVisible,
                "no instance of media/worker:http is visible from boundary \"batch\": they belong to \
                 boundary \"media\", and are visible elsewhere only if they are registered as public \
                 or as granted to \"batch\"",
            ),
            (
                DiscoveryError::unsupported("listing peers"),
                DiscoveryErrorKind::Unsupported,
                "unsupported: listing peers",
            ),
        ] {
            assert_eq!(error.to_string(), text);
            assert_eq!(error.kind(), kind);
        }
    }

    #[test]
    fn a_role_of_very_many_endpoints_gives_a_short_error() {
        let known = |count: usize| {
            let names = (0..count).map(|n| EndpointName::new(format!("e{n}")).unwrap());
            DiscoveryError::unknown_endpoint(&target("worker:http"), names).to_string()
        };
        assert!(known(20).ends_with(", \"e19\""), "{}", known(20));
        assert!(known(100_000).ends_with(", \"e19\" and 99980 more"));
    }

    #[test]
    fn a_backend_error_keeps_its_cause_as_source_through_clones() {
        let error = DiscoveryError::backend("watching etcd", "connection refused").clone();
        assert_eq!(error.to_string(), "discovery failed while watching etcd");
        assert_eq!(error.source().unwrap().to_string(), "connection refused");
        let error = RegisterError::backend("creating a lease", "timed out").clone();
        assert_eq!(error.source().unwrap().to_string(), "timed out");
    }
}
