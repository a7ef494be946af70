//! Client-side load balancing for private, role-based services: one tower layer, no proxy.

pub mod discovery;
mod instance;
mod name;
mod target;
mod text;

pub use discovery::{Discovery, Lease, List, Registrar, Registration, Registry};
pub use instance::{
    Availability, Instance, InstanceError, InstanceId, InstanceSet, Visibility, Weight,
    WeightError, Zone,
};
pub use name::{Boundary, EndpointName, NameError, Role};
pub use target::{Target, TargetError};
