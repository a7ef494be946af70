//! What touches the process: its clock, its timers, its randomness, its errno values and the text it prints.
//!
//! Nothing above this module reads time or randomness by itself.

pub(crate) mod causes;
pub(crate) mod clock;
pub(crate) mod duration;
#[cfg(feature = "net")]
pub(crate) mod io;
pub(crate) mod local_fault;
#[cfg(feature = "http")]
pub(crate) mod lock;
pub(crate) mod panic;
pub(crate) mod random;
pub(crate) mod text;
pub(crate) mod timer;
