//! Client-side load balancing for private, role-based services: one tower layer, no proxy.

pub mod discovery;
mod error;
mod event;
pub mod fleet;
#[cfg(feature = "http")]
pub mod http;
mod instance;
mod name;
mod service;
mod status;
mod target;
mod text;

pub use discovery::{Discovery, Lease, List, Registrar, Registration, Registry};
pub use error::{Error, ErrorKind};
pub use event::{DialError, Event};
pub use fleet::{Backoff, BalanceConfig, ConfigBuilder, ConfigError, Load};
pub use instance::{
    Availability, Instance, InstanceError, InstanceId, InstanceSet, Visibility, Weight,
    WeightError, Zone,
};
pub use name::{Boundary, EndpointName, NameError, Role};
pub use service::{
    Attempt, Balance, BalanceLayer, Classify, ClassifyFn, ClassifyResult, Driver, Outcome,
    ResponseFuture, connect,
};
pub use status::{Census, MemberState, MemberStatus, Status};
pub use target::{Target, TargetError};

/// A boxed error, as tower has it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
