use std::error::Error as StdError;
use std::net::SocketAddr;
use std::{fmt, io};

use super::variable::Variable;
use crate::error::BoxError;
use crate::error::discovery::RegisterError;
use crate::guard::GuardError;
use crate::model::address::Address;
use crate::runtime::text::excerpt;

/// Why a worker could not be configured or could not serve.
#[derive(Debug)]
#[non_exhaustive]
pub enum WorkerError {
    /// A variable of the environment is not set.
    #[non_exhaustive]
    Missing {
        /// Its name.
        variable: &'static str,
        /// An example of a valid value.
        example: &'static str,
    },
    /// A variable of the environment has an invalid value.
    #[non_exhaustive]
    Invalid {
        /// Its name.
        variable: &'static str,
        /// The value, escaped and cut to 80 characters.
        value: Box<str>,
        /// An example of a valid value.
        example: &'static str,
        /// What is wrong with it.
        source: BoxError,
    },
    /// Binding the address failed.
    #[non_exhaustive]
    Bind {
        /// The address.
        address: Address,
        /// The error of the system.
        source: io::Error,
    },
    /// It listens at all addresses, and no address to announce is set.
    #[non_exhaustive]
    NoAddress {
        /// The address at which it listens.
        addr: SocketAddr,
    },
    /// Discovery rejected the registration or a change of it.
    Register(RegisterError),
    /// Discovery cannot list peers, and no networks are allowed instead: see `ROLECALL_ALLOW`.
    Guard(GuardError),
    /// The worker has drained.
    Drained,
}

impl WorkerError {
    pub(super) fn missing(variable: &Variable) -> Self {
        Self::Missing {
            variable: variable.name,
            example: variable.example,
        }
    }

    pub(super) fn invalid(variable: &Variable, value: &str, source: impl Into<BoxError>) -> Self {
        Self::Invalid {
            variable: variable.name,
            value: excerpt(value),
            example: variable.example,
            source: source.into(),
        }
    }
}

impl fmt::Display for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { variable, example } => {
                write!(
                    f,
                    "{variable} is not set; set it as in {variable}={example}"
                )
            }
            Self::Invalid {
                variable,
                value,
                example,
                ..
            } => write!(
                f,
                "{variable} is \"{value}\"; set it as in {variable}={example}"
            ),
            Self::Bind { address, .. } => write!(f, "cannot listen at {address}"),
            Self::NoAddress { addr } => write!(
                f,
                "it listens at {addr}, which nobody can call; say by which address it is reached, as in ROLECALL_ADVERTISE=10.0.0.7"
            ),
            Self::Register(_) => f.write_str("cannot register"),
            Self::Guard(_) => f.write_str("cannot guard its endpoints; set ROLECALL_ALLOW"),
            Self::Drained => f.write_str("the worker has drained"),
        }
    }
}

impl StdError for WorkerError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Invalid { source, .. } => Some(&**source),
            Self::Bind { source, .. } => Some(source),
            Self::Register(error) => Some(error),
            Self::Guard(error) => Some(error),
            Self::Missing { .. } | Self::NoAddress { .. } | Self::Drained => None,
        }
    }
}

impl From<RegisterError> for WorkerError {
    fn from(error: RegisterError) -> Self {
        Self::Register(error)
    }
}

impl From<GuardError> for WorkerError {
    fn from(error: GuardError) -> Self {
        Self::Guard(error)
    }
}
