//! The configuration of a balancer: validated when built, trusted afterwards.

pub(crate) mod balance;
pub(crate) mod bounds;
pub(crate) mod outlier;
pub(crate) mod subset;
