//! When a fault was there, and what is counted of it.

use std::time::{Duration, Instant};

use crate::schedule::Fault;

/// What a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    Fault(Fault),
    /// This process stood still.
    Stall,
    Nothing,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    pub(crate) times: u64,
    /// Requests under way during the fault; of one of a server, those that the server had.
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) explained: u64,
}

/// A fault that happens or happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) number: u64,
    pub(crate) cause: Cause,
    pub(crate) server: Option<u8>,
    pub(crate) began: Instant,
    pub(crate) ended: Option<Instant>,
}

impl Window {
    /// Whether it was there at some time between the two, or `grace` before.
    pub(crate) fn covers(&self, from: Instant, to: Instant, grace: Duration) -> bool {
        self.began <= to && self.ended.is_none_or(|ended| ended + grace >= from)
    }
}
