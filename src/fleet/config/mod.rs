//! What a balancer can be told to do: valid by construction, trusted afterwards.

pub(crate) mod balance;
pub(crate) mod bounds;
pub(crate) mod outlier;
