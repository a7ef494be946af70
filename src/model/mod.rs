//! What discovery and balancers talk about: names, targets, and instances.

pub(crate) mod address;
pub(crate) mod hints;
pub(crate) mod instance;
pub(crate) mod name;
pub(crate) mod target;
