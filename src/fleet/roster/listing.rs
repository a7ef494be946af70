//! The lists that picks draw from, one for each rank: the members of the rank's best [tier](crate::fleet::rules::tiers).
//! Updated whenever a seat changes.

use std::sync::Arc;

use super::seat::{Counts, Place, Seat};
use crate::fleet::members::list::{List, Position};
use crate::fleet::rules::rank::{Capacity, Share, shares};
use crate::fleet::rules::tiers::Tier;
use crate::model::instance::InstanceId;

pub(crate) struct Listing<T> {
    /// By rank.
    ranks: Vec<Rank<T>>,
    /// How many members are eligible, and how many of them are out.
    eligible: usize,
    out: usize,
    is_panic_mode: bool,
}

/// The instances of one rank.
pub(crate) struct Rank<T> {
    pub(crate) rank: u8,
    pub(crate) list: List<T>,
    best: Tier,
    pub(crate) capacity: Capacity,
    pub(crate) share: Share,
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
            ranks: Vec::new(),
            eligible: 0,
            out: 0,
            is_panic_mode: false,
        }
    }

    /// The ranks that have instances, best first.
    pub(crate) fn ranks(&self) -> &[Rank<T>] {
        &self.ranks
    }

    /// Whether no member is listed.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranks.iter().all(|rank| rank.list.is_empty())
    }

    /// How many members are listed.
    pub(crate) fn listed(&self) -> usize {
        self.ranks.iter().map(|rank| rank.list.len()).sum()
    }

    /// How many members the ranks have that requests go to.
    pub(crate) fn in_use(&self) -> usize {
        let used = self.ranks.iter().filter(|rank| rank.share.part > 0.0);
        used.map(|rank| rank.list.len()).sum()
    }

    /// Whether requests go to the rank of a listed seat.
    pub(crate) fn uses(&self, seat: &Seat<T>) -> bool {
        let rank = seat.place.and_then(|place| self.rank(place.rank));
        rank.is_some_and(|rank| rank.share.part > 0.0)
    }

    /// Whether requests go to the rank of a seat, or would if it had a pickable member.
    pub(crate) fn needs(&self, seat: &Seat<T>) -> bool {
        let rank = self.rank(seat.instance.rank());
        rank.is_some_and(|rank| rank.share.is_needed)
    }

    pub(crate) fn is_panic_mode(&self) -> bool {
        self.is_panic_mode
    }

    /// How many members are eligible.
    pub(crate) fn eligible(&self) -> usize {
        self.eligible
    }

    /// How many eligible members are out.
    pub(crate) fn out(&self) -> usize {
        self.out
    }

    /// Divides the requests among the ranks. `is_started`: whether any member has been usable until now. If not, a rank whose
    /// first dials are running keeps its requests. Returns whether any rank takes requests.
    pub(crate) fn share_out(&mut self, is_started: bool) -> bool {
        let is_panic_mode = self.is_panic_mode;
        let all = if is_panic_mode { self.weight() } else { 0 };
        let nominal = shares(self.ranks.iter().map(|rank| rank.capacity));
        let begins = nominal.iter().position(|share| share.part > 0.0);
        let is_empty = |first: usize| self.ranks[first].list.is_empty();
        let waits = !is_started && !is_panic_mode && begins.is_some_and(is_empty);
        let filled = self.ranks.iter().map(|rank| match rank.list.is_empty() {
            true => Capacity::default(),
            false => rank.capacity,
        });
        let filled = shares(filled);
        for (rank, share) in self.ranks.iter_mut().zip(filled) {
            rank.share = share;
            if waits {
                rank.share.part = 0.0;
            } else if is_panic_mode {
                rank.share = Share {
                    part: rank.list.weigh() as f64 / all.max(1) as f64,
                    is_needed: true,
                };
            }
        }
        !waits && !self.is_empty()
    }

    fn weight(&self) -> u64 {
        self.ranks.iter().map(|rank| rank.list.weigh()).sum()
    }

    /// Updates the place of one seat in the lists.
    pub(crate) fn update(&mut self, seats: &mut [Seat<T>], index: usize) -> PanicMode {
        self.recount(&mut seats[index]);
        if self.is_panic_mode != self.is_every_member_out() {
            return self.rebuild(seats);
        }
        let seat = &seats[index];
        let (number, tier) = (seat.instance.rank(), seat.tier());
        if seat.place.is_some_and(|place| place.rank != number) {
            self.remove(seats, index);
        }
        let is_panic_mode = self.is_panic_mode;
        let Some(rank) = self.rank_mut(number) else {
            return PanicMode::Unchanged;
        };
        let was_empty = rank.list.is_empty();
        let seat = &mut seats[index];
        match (seat.eligible().map(Arc::clone), tier) {
            (Some(_), Some(tier)) if tier < rank.best => return self.rebuild(seats),
            (Some(member), Some(tier)) if tier.is_picked(rank.best, is_panic_mode) => {
                let weight = seat.instance.weight();
                match seat.place {
                    Some(place) => rank.list.replace(place.position, member, weight),
                    None => {
                        let position = rank.list.push(member, weight);
                        let rank = number;
                        seat.place = Some(Place { rank, position });
                    }
                }
            }
            _ => self.remove(seats, index),
        }
        let is_empty = |rank: &Rank<T>| rank.list.is_empty();
        if self.rank(number).is_some_and(is_empty) && (tier.is_some() || !was_empty) {
            return self.rebuild(seats);
        }
        PanicMode::Unchanged
    }

    /// Removes a seat from its list.
    pub(crate) fn remove(&mut self, seats: &mut [Seat<T>], index: usize) {
        let Some(place) = seats[index].place.take() else {
            return;
        };
        let Some(rank) = self.rank_mut(place.rank) else {
            return;
        };
        let moved = rank.list.swap_remove(place.position);
        let moved = moved.map(|member| member.instance.id().clone());
        if let Some(index) = moved.and_then(|id| find(seats, &id)) {
            seats[index].place = Some(place);
        }
    }

    /// Whether members left without those that picks would now draw from: a rank has lost all of its best tier, or panic
    /// mode begins or ends.
    pub(crate) fn is_outdated(&self) -> bool {
        let is_empty = |rank: &Rank<T>| rank.list.is_empty();
        self.is_panic_mode != self.is_every_member_out() || self.ranks.iter().any(is_empty)
    }

    /// Rebuilds the lists from the members of the best tiers.
    pub(crate) fn rebuild(&mut self, seats: &mut [Seat<T>]) -> PanicMode {
        for seat in &mut *seats {
            self.recount(seat);
        }
        self.ranks.retain(|rank| rank.capacity.announced > 0);
        let is_panic_mode = self.is_every_member_out();
        let before = std::mem::replace(&mut self.is_panic_mode, is_panic_mode);
        let mut best: Vec<_> = self.ranks.iter().map(|_| None).collect();
        for seat in &*seats {
            if let (Some(tier), Ok(at)) = (seat.tier(), self.search(seat.instance.rank())) {
                best[at] = Some(best[at].map_or(tier, |best: Tier| best.min(tier)));
            }
        }
        for (rank, best) in self.ranks.iter_mut().zip(best) {
            rank.best = best.unwrap_or(Tier::Available);
        }
        let mut listed: Vec<_> = self.ranks.iter().map(|_| Vec::new()).collect();
        for seat in seats {
            seat.place = None;
            let Ok(at) = self.search(seat.instance.rank()) else {
                continue;
            };
            let (rank, listed) = (&self.ranks[at], &mut listed[at]);
            let is_picked = |tier: Tier| tier.is_picked(rank.best, is_panic_mode);
            let is_listed = seat.tier().is_some_and(is_picked);
            if let Some(member) = seat.eligible().filter(|_| is_listed).map(Arc::clone) {
                let position = Position::new(listed.len());
                seat.place = Some(Place {
                    rank: rank.rank,
                    position,
                });
                listed.push((member, seat.instance.weight()));
            }
        }
        for (rank, listed) in self.ranks.iter_mut().zip(listed) {
            rank.list.fill(listed);
        }
        match (before, is_panic_mode) {
            (false, true) => PanicMode::Began,
            (true, false) => PanicMode::Ended,
            _ => PanicMode::Unchanged,
        }
    }

    /// Takes a departing seat, which was removed from its list before, out of the counts.
    pub(crate) fn forget(&mut self, seat: &mut Seat<T>) {
        self.count(seat, Counts::default());
    }

    /// Updates the counts after a change of a seat. Returns whether ranks may have to share requests differently.
    pub(crate) fn recount(&mut self, seat: &mut Seat<T>) -> bool {
        self.count(seat, seat.counts())
    }

    fn count(&mut self, seat: &mut Seat<T>, after: Counts) -> bool {
        let before = std::mem::replace(&mut seat.counted, after);
        if before == after {
            return false;
        }
        self.eligible = self.eligible + usize::from(after.eligible) - usize::from(before.eligible);
        self.out = self.out + usize::from(after.out) - usize::from(before.out);
        if before.announced > 0
            && let Some(rank) = self.rank_mut(before.rank)
        {
            rank.capacity.announced -= u64::from(before.announced);
            rank.capacity.pickable -= u64::from(before.pickable());
        }
        if after.announced > 0 {
            let at = self.search(after.rank).unwrap_or_else(|at| {
                self.ranks.insert(at, Rank::new(after.rank));
                at
            });
            let capacity = &mut self.ranks[at].capacity;
            capacity.announced += u64::from(after.announced);
            capacity.pickable += u64::from(after.pickable());
        }
        self.ranks.len() > 1
    }

    fn is_every_member_out(&self) -> bool {
        self.eligible > 0 && self.out == self.eligible
    }

    fn search(&self, rank: u8) -> Result<usize, usize> {
        self.ranks.binary_search_by_key(&rank, |rank| rank.rank)
    }

    fn rank(&self, rank: u8) -> Option<&Rank<T>> {
        self.search(rank).ok().map(|at| &self.ranks[at])
    }

    fn rank_mut(&mut self, rank: u8) -> Option<&mut Rank<T>> {
        self.search(rank).ok().map(|at| &mut self.ranks[at])
    }
}

impl<T> Rank<T> {
    fn new(rank: u8) -> Self {
        Self {
            rank,
            list: List::new(),
            best: Tier::Available,
            capacity: Capacity::default(),
            share: Share::default(),
        }
    }
}

/// Finds the seat of an instance. The seats are sorted by id.
pub(crate) fn find<T>(seats: &[Seat<T>], id: &InstanceId) -> Option<usize> {
    seats
        .binary_search_by(|seat| seat.instance.id().cmp(id))
        .ok()
}
