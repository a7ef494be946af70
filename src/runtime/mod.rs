//! What touches the process: its clock, its timers, its randomness, its errno values and the text it prints.
//!
//! Nothing above this module reads time or randomness by itself.

pub(crate) mod causes;
pub(crate) mod clock;
pub(crate) mod duration;
pub(crate) mod local_fault;
pub(crate) mod panic;
pub(crate) mod random;
pub(crate) mod text;
pub(crate) mod timer;
