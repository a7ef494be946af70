//! The list that picks draw from: the members of the best [tier](crate::fleet::rules::tiers). Updated whenever a seat
//! changes.

use std::sync::Arc;

use super::seat::{Counts, Seat};
use crate::fleet::members::list::{List, Position};
use crate::fleet::rules::tiers::Tier;
use crate::model::instance::InstanceId;

pub(crate) struct Listing<T> {
    list: List<T>,
    best: Tier,
    /// How many members are eligible, and how many of them are out.
    eligible: usize,
    out: usize,
}

/// How an update affected panic mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PanicMode {
    Unchanged,
    Began,
    Ended,
}

impl<T> Listing<T> {
    pub(crate) fn new() -> Self {
        Self {
            list: List::new(),
            best: Tier::Available,
            eligible: 0,
            out: 0,
        }
    }

    pub(crate) fn list(&self) -> &List<T> {
        &self.list
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn is_panic_mode(&self) -> bool {
        self.best.is_panic_mode()
    }

    /// How many members are eligible.
    pub(crate) fn eligible(&self) -> usize {
        self.eligible
    }

    /// How many eligible members are out.
    pub(crate) fn out(&self) -> usize {
        self.out
    }

    /// Updates the place of one seat in the list.
    pub(crate) fn update(&mut self, seats: &mut [Seat<T>], index: usize) -> PanicMode {
        self.recount(&mut seats[index]);
        let was_empty = self.list.is_empty();
        let seat = &mut seats[index];
        let tier = seat.tier();
        let mut panic_mode = PanicMode::Unchanged;
        match (seat.eligible().map(Arc::clone), tier) {
            (Some(_), Some(tier)) if tier < self.best => panic_mode = self.rebuild(seats),
            (Some(member), Some(tier)) if tier.is_picked(self.best) => {
                let weight = seat.instance.weight();
                match seat.position {
                    Some(position) => self.list.replace(position, member, weight),
                    None => seat.position = Some(self.list.push(member, weight)),
                }
            }
            _ => self.remove(seats, index),
        }
        if self.list.is_empty() && (tier.is_some() || !was_empty) {
            panic_mode = self.rebuild(seats);
        }
        panic_mode
    }

    /// Removes a seat from the list.
    pub(crate) fn remove(&mut self, seats: &mut [Seat<T>], index: usize) {
        let Some(position) = seats[index].position.take() else {
            return;
        };
        let moved = self.list.swap_remove(position);
        let moved = moved.map(|member| member.instance.id().clone());
        if let Some(index) = moved.and_then(|id| find(seats, &id)) {
            seats[index].position = Some(position);
        }
    }

    /// Takes a departing seat out of the counts. Its connection was taken away and it was removed from the list before.
    pub(crate) fn forget(&mut self, seat: &mut Seat<T>) {
        self.recount(seat);
    }

    /// Rebuilds the list from the members of the best tier.
    pub(crate) fn rebuild(&mut self, seats: &mut [Seat<T>]) -> PanicMode {
        let best = Tier::best(seats.iter().filter_map(Seat::tier));
        let before = std::mem::replace(&mut self.best, best);
        let mut listed = Vec::new();
        for seat in seats {
            self.recount(seat);
            let is_listed = seat.tier().is_some_and(|tier| tier.is_picked(best));
            let member = seat.eligible().filter(|_| is_listed).map(Arc::clone);
            seat.position = member.as_ref().map(|_| Position::new(listed.len()));
            listed.extend(member.map(|member| (member, seat.instance.weight())));
        }
        self.list.fill(listed);
        match (before.is_panic_mode(), best.is_panic_mode()) {
            (false, true) => PanicMode::Began,
            (true, false) => PanicMode::Ended,
            _ => PanicMode::Unchanged,
        }
    }

    fn recount(&mut self, seat: &mut Seat<T>) {
        let after = seat.counts();
        let before: Counts = std::mem::replace(&mut seat.counted, after);
        self.eligible = self.eligible + usize::from(after.eligible) - usize::from(before.eligible);
        self.out = self.out + usize::from(after.out) - usize::from(before.out);
    }
}

/// Finds the seat of an instance. The seats are sorted by id.
pub(crate) fn find<T>(seats: &[Seat<T>], id: &InstanceId) -> Option<usize> {
    seats
        .binary_search_by(|seat| seat.instance.id().cmp(id))
        .ok()
}
