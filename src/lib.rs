//! Client-side load balancing for private, role-based services: one tower layer, no proxy.

mod instance;
mod name;
mod target;
mod text;

pub use instance::{
    Availability, Instance, InstanceError, InstanceId, InstanceSet, Visibility, Weight,
    WeightError, Zone,
};
pub use name::{Boundary, EndpointName, NameError, Role};
pub use target::{Target, TargetError};
