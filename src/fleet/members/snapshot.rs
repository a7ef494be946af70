//! The state that a pick reads, published as a whole.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::list::List;
use super::member::Member;
use crate::fleet::config::balance::BalanceConfig;
use crate::fleet::rng::{Rng, unit};

pub(crate) struct Snapshot<T> {
    /// The members of the best rank.
    pub(crate) first: Group<T>,
    /// The members of the other ranks, in order.
    pub(crate) others: Vec<Rank<T>>,
    /// Since when there has been no member to pick.
    pub(crate) unusable_since: Option<Instant>,
    /// Members that wait for a trial, in order.
    pub(crate) waiting: Vec<Arc<Member<T>>>,
    /// Whether trials need no token, because a request would do no better elsewhere.
    pub(crate) trials_are_free: bool,
    /// All connected members, sorted by id. Filled in by the first pinned pick.
    pub(crate) connected: OnceLock<Box<[Arc<Member<T>>]>>,
}

/// Members that one pick compares.
pub(crate) struct Group<T> {
    pub(crate) list: List<T>,
    pub(crate) rules: Rules,
    /// The length of slow start in nanoseconds, while any member is in it.
    pub(crate) slow_start: Option<u64>,
}

/// A rank after the first.
pub(crate) struct Rank<T> {
    /// The part of all requests that the ranks before it take.
    pub(crate) from: f64,
    /// The part of all requests that it takes.
    pub(crate) part: f64,
    pub(crate) group: Group<T>,
}

/// The part of the configuration that a pick needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) measures_latency: bool,
    pub(crate) max_choices: u32,
    pub(crate) max_in_flight: Option<u32>,
}

impl<T> Snapshot<T> {
    /// The members that one pick compares: those of a rank, drawn by the ranks' shares.
    pub(crate) fn group(&self, rng: &mut (impl Rng + ?Sized)) -> &Group<T> {
        if self.others.is_empty() {
            &self.first
        } else {
            self.drawn(rng)
        }
    }

    fn drawn(&self, rng: &mut (impl Rng + ?Sized)) -> &Group<T> {
        let first = self.others[0].from;
        if first >= 1.0 {
            return &self.first;
        }
        let draw = unit(rng);
        let is_drawn = |rank: &&Rank<T>| rank.part > 0.0 && rank.from <= draw;
        let drawn = self.others.iter().rev().find(is_drawn);
        drawn.map_or(&self.first, |rank| &rank.group)
    }

    /// The members of each rank.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &Group<T>> {
        let others = self.others.iter().map(|rank| &rank.group);
        std::iter::once(&self.first).chain(others)
    }

    /// The members of each rank that requests go to.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = &Group<T>> {
        let is_used = self.others.first().is_none_or(|rank| rank.from > 0.0);
        let first = is_used.then_some(&self.first);
        let others = self.others.iter().filter(|rank| rank.part > 0.0);
        first.into_iter().chain(others.map(|rank| &rank.group))
    }
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
