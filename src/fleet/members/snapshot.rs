//! The state that a pick reads, published as a whole.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::list::List;
use super::member::Member;
use crate::fleet::config::balance::BalanceConfig;

pub(crate) struct Snapshot<T> {
    pub(crate) list: List<T>,
    pub(crate) rules: Rules,
    /// Since when the list has been empty.
    pub(crate) unusable_since: Option<Instant>,
    /// Members that wait for a trial, in order.
    pub(crate) waiting: Vec<Arc<Member<T>>>,
    /// Whether trials need no token, because a request would do no better elsewhere.
    pub(crate) trials_are_free: bool,
    /// The length of slow start in nanoseconds, while any member is in it.
    pub(crate) slow_start: Option<u64>,
    /// All connected members, sorted by id. Filled in by the first pinned pick.
    pub(crate) connected: OnceLock<Box<[Arc<Member<T>>]>>,
}

/// The part of the configuration that a pick needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) measures_latency: bool,
    pub(crate) max_choices: u32,
    pub(crate) max_in_flight: Option<u32>,
}

impl Rules {
    pub(crate) fn new(config: &BalanceConfig) -> Self {
        Self {
            measures_latency: config.load().is_latency(),
            max_choices: config.max_choices(),
            max_in_flight: config.max_in_flight().map(|cap| cap.get()),
        }
    }
}
