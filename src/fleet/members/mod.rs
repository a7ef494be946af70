//! Members, and the state that picks read.

pub(crate) mod list;
pub(crate) mod member;
pub(crate) mod pick;
pub(crate) mod snapshot;
pub(crate) mod stats;
