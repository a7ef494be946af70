//! The state that a pick reads, published as a whole.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::list::List;
use super::member::Member;
use crate::fleet::config::balance::BalanceConfig;
use crate::fleet::rng::{Rng, unit};
use crate::model::instance::InstanceId;

pub(crate) struct Snapshot<T> {
    /// The members of the best rank.
    pub(crate) first: Route<T>,
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

/// The members of one rank.
pub(crate) struct Route<T> {
    /// Those of the caller's zone, or all if it has no preference.
    pub(crate) near: Group<T>,
    pub(crate) far: Option<Far<T>>,
}

/// The members of other zones.
pub(crate) struct Far<T> {
    pub(crate) group: Group<T>,
    /// How many times as much the own zone may cost.
    pub(crate) price: f32,
    /// The instances of the own zone, sorted.
    pub(crate) near_ids: Arc<[InstanceId]>,
}

/// Members that one pick compares.
pub(crate) struct Group<T> {
    pub(crate) list: List<T>,
    pub(crate) rules: Rules,
    pub(crate) slow_start: SlowStart,
}

/// How long members ramp, in nanoseconds; `None`: no member does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlowStart {
    /// Those that returned after an ejection.
    pub(crate) returning: Option<u64>,
    /// New ones.
    pub(crate) new: Option<u64>,
}

/// A rank after the first.
pub(crate) struct Rank<T> {
    /// The part of all requests that the ranks before it take.
    pub(crate) from: f64,
    /// The part of all requests that it takes.
    pub(crate) part: f64,
    pub(crate) route: Route<T>,
}

/// The part of the configuration that a pick needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) measures_latency: bool,
    pub(crate) max_choices: u32,
    pub(crate) max_in_flight: Option<u32>,
}

impl<T> Snapshot<T> {
    /// The members of a rank, drawn by the ranks' shares.
    pub(crate) fn route(&self, rng: &mut (impl Rng + ?Sized)) -> &Route<T> {
        if self.others.is_empty() {
            &self.first
        } else {
            self.drawn(rng)
        }
    }

    fn drawn(&self, rng: &mut (impl Rng + ?Sized)) -> &Route<T> {
        let first = self.others[0].from;
        if first >= 1.0 {
            return &self.first;
        }
        let draw = unit(rng);
        let is_drawn = |rank: &&Rank<T>| rank.part > 0.0 && rank.from <= draw;
        let drawn = self.others.iter().rev().find(is_drawn);
        drawn.map_or(&self.first, |rank| &rank.route)
    }

    /// The members of each rank.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route<T>> {
        let others = self.others.iter().map(|rank| &rank.route);
        std::iter::once(&self.first).chain(others)
    }

    /// The members of each rank that requests go to.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = &Group<T>> {
        self.routes_in_use().flat_map(Route::groups)
    }

    fn routes_in_use(&self) -> impl Iterator<Item = &Route<T>> {
        let is_used = self.others.first().is_none_or(|rank| rank.from > 0.0);
        let first = is_used.then_some(&self.first);
        let others = self.others.iter().filter(|rank| rank.part > 0.0);
        first.into_iter().chain(others.map(|rank| &rank.route))
    }
}

impl<T> Route<T> {
    fn groups(&self) -> impl Iterator<Item = &Group<T>> {
        let far = self.far.iter().map(|far| &far.group);
        std::iter::once(&self.near).chain(far)
    }
}

impl SlowStart {
    pub(crate) fn is_on(self) -> bool {
        self.returning.is_some() || self.new.is_some()
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
