//! The lists that picks draw from: for each rank one of the caller's own zone and one of the others, each with the members of
//! its best [tier](crate::fleet::rules::tiers). Updated whenever a seat changes.

use std::sync::Arc;

use super::seat::{Counts, Place, Seat};
use crate::fleet::members::list::{List, Position};
use crate::fleet::rules::cap::cap;
use crate::fleet::rules::rank::{Capacity, Share, shares};
use crate::fleet::rules::tiers::Tier;
use crate::model::instance::{InstanceId, Zone};

/// The most zones that have a cap of their own.
const MAX_ZONES: usize = 1024;

pub(crate) struct Listing<T> {
    /// By rank.
    ranks: Vec<Rank<T>>,
    /// The caller's zone, if it has a preference.
    own_zone: Option<Zone>,
    /// The zones of instances, by number. Empty without an own zone.
    zones: Vec<ZoneCounts>,
    /// How many members are eligible, and how many of them are out.
    counts: Outs,
    /// The weight of the eligible members, and of those of them that are new.
    eligible_weight: u64,
    new_weight: u64,
    is_panic_mode: bool,
}

/// The instances of one rank.
pub(crate) struct Rank<T> {
    pub(crate) rank: u8,
    /// The members of the own zone.
    pub(crate) near: Tiered<T>,
    /// The members of other zones.
    pub(crate) far: Tiered<T>,
    pub(crate) capacity: Capacity,
    pub(crate) share: Share,
}

/// The members of the best tier.
pub(crate) struct Tiered<T> {
    pub(crate) list: List<T>,
    best: Tier,
    counts: Outs,
}

struct ZoneCounts {
    zone: Zone,
    counts: Outs,
}

/// How many members are eligible, and how many of them are out.
#[derive(Clone, Copy, Debug, Default)]
struct Outs {
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

/// Which ejection cap is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cap {
    Fleet,
    Zone,
}

impl<T> Listing<T> {
    pub(crate) fn new(own_zone: Option<Zone>) -> Self {
        Self {
            ranks: Vec::new(),
            own_zone,
            zones: Vec::new(),
            counts: Outs::default(),
            eligible_weight: 0,
            new_weight: 0,
            is_panic_mode: false,
        }
    }

    /// Changes the caller's zone, and rebuilds the lists.
    pub(crate) fn move_to_zone(&mut self, zone: Option<Zone>, seats: &mut [Seat<T>]) -> PanicMode {
        for seat in &mut *seats {
            self.forget(seat);
        }
        self.own_zone = zone;
        self.zones.clear();
        self.rebuild(seats)
    }

    pub(crate) fn own_zone(&self) -> Option<&Zone> {
        self.own_zone.as_ref()
    }

    /// The ranks that have instances, best first.
    pub(crate) fn ranks(&self) -> &[Rank<T>] {
        &self.ranks
    }

    /// Whether no member is listed.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranks.iter().all(Rank::is_empty)
    }

    /// How many members are listed.
    pub(crate) fn listed(&self) -> usize {
        self.ranks.iter().map(Rank::len).sum()
    }

    /// How many members the ranks have that requests go to.
    pub(crate) fn in_use(&self) -> usize {
        let used = self.ranks.iter().filter(|rank| rank.share.part > 0.0);
        used.map(Rank::len).sum()
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
        self.counts.eligible
    }

    /// Which cap keeps the rules from ejecting the member of a seat, if one does.
    pub(crate) fn reached_cap(&self, seat: &Seat<T>, percentage: u32) -> Option<Cap> {
        if self.counts.out >= cap(self.counts.eligible, percentage) {
            return Some(Cap::Fleet);
        }
        let zone = self.zone_of(seat).filter(|counts| counts.eligible > 1)?;
        (zone.out >= cap(zone.eligible, percentage)).then_some(Cap::Zone)
    }

    /// Whether more members are out, in all or in the zone of a seat, than the caps allow.
    pub(crate) fn is_over_cap(&self, seat: &Seat<T>, percentage: u32) -> bool {
        let is_over = |counts: Outs| counts.out > cap(counts.eligible, percentage);
        let zone = self.zone_of(seat).filter(|counts| counts.eligible > 1);
        is_over(self.counts) || zone.is_some_and(is_over)
    }

    fn zone_of(&self, seat: &Seat<T>) -> Option<Outs> {
        let zone = self.zones.get(usize::from(seat.counted.zone?))?;
        Some(zone.counts)
    }

    /// Whether two seats are in the same zone.
    pub(crate) fn share_zone(one: &Seat<T>, other: &Seat<T>) -> bool {
        one.counted.zone == other.counted.zone
    }

    /// Whether an instance of a zone other than the caller's is known.
    pub(crate) fn has_far(&self) -> bool {
        self.ranks.iter().any(|rank| rank.far.counts.eligible > 0)
    }

    /// The weight of the eligible members that are new, and of all eligible members.
    pub(crate) fn weights(&self) -> (u64, u64) {
        (self.new_weight, self.eligible_weight)
    }

    /// Divides the requests among the ranks. `is_started`: whether any member has been usable until now. If not, a rank whose
    /// first dials are running keeps its requests. Returns whether any rank takes requests.
    pub(crate) fn share_out(&mut self, is_started: bool) -> bool {
        let is_panic_mode = self.is_panic_mode;
        let all = if is_panic_mode { self.weight() } else { 0 };
        let nominal = shares(self.ranks.iter().map(|rank| rank.capacity));
        let begins = nominal.iter().position(|share| share.part > 0.0);
        let is_empty = |first: usize| self.ranks[first].is_empty();
        let waits = !is_started && !is_panic_mode && begins.is_some_and(is_empty);
        let filled = self.ranks.iter().map(|rank| match rank.is_empty() {
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
                    part: rank.weight() as f64 / all.max(1) as f64,
                    is_needed: true,
                };
            }
        }
        !waits && !self.is_empty()
    }

    fn weight(&self) -> u64 {
        self.ranks.iter().map(Rank::weight).sum()
    }

    /// Updates the place of one seat in the lists.
    pub(crate) fn update(&mut self, seats: &mut [Seat<T>], index: usize) -> PanicMode {
        self.recount(&mut seats[index]);
        if self.is_panic_mode != self.is_every_member_out() {
            return self.rebuild(seats);
        }
        let seat = &seats[index];
        let (rank, is_far, tier) = (seat.instance.rank(), seat.counted.is_far, seat.tier());
        if (seat.place).is_some_and(|place| (place.rank, place.is_far) != (rank, is_far)) {
            self.remove(seats, index);
        }
        let is_panic_mode = self.is_panic_mode;
        let Some(tiered) = self.tiered_mut(rank, is_far) else {
            return PanicMode::Unchanged;
        };
        let seat = &mut seats[index];
        match (seat.eligible().map(Arc::clone), tier) {
            (Some(_), Some(tier)) if tier < tiered.best => return self.rebuild(seats),
            (Some(member), Some(tier)) if tier.is_picked(tiered.best, is_panic_mode) => {
                let weight = seat.instance.weight();
                match seat.place {
                    Some(place) => tiered.list.replace(place.position, member, weight),
                    None => {
                        let position = tiered.list.push(member, weight);
                        seat.place = Some(Place {
                            rank,
                            is_far,
                            position,
                        });
                    }
                }
            }
            _ => self.remove(seats, index),
        }
        let is_outdated = |tiered: &mut Tiered<T>| tiered.is_outdated(is_panic_mode);
        if self.tiered_mut(rank, is_far).is_some_and(is_outdated) {
            return self.rebuild(seats);
        }
        PanicMode::Unchanged
    }

    /// Removes a seat from its list.
    pub(crate) fn remove(&mut self, seats: &mut [Seat<T>], index: usize) {
        let Some(place) = seats[index].place.take() else {
            return;
        };
        let Some(tiered) = self.tiered_mut(place.rank, place.is_far) else {
            return;
        };
        let moved = tiered.list.swap_remove(place.position);
        let moved = moved.map(|member| member.instance.id().clone());
        if let Some(index) = moved.and_then(|id| find(seats, &id)) {
            seats[index].place = Some(place);
        }
    }

    /// Whether members left without those that picks would now draw from: a list has lost all of its best tier, or panic
    /// mode begins or ends.
    pub(crate) fn is_outdated(&self) -> bool {
        let is_panic_mode = self.is_every_member_out();
        let is_outdated = |tiered: &Tiered<T>| tiered.is_outdated(is_panic_mode);
        let mut ranks = self.ranks.iter();
        self.is_panic_mode != is_panic_mode
            || ranks.any(|rank| is_outdated(&rank.near) || is_outdated(&rank.far))
    }

    /// Rebuilds the lists from the members of the best tiers.
    pub(crate) fn rebuild(&mut self, seats: &mut [Seat<T>]) -> PanicMode {
        for seat in &mut *seats {
            self.recount(seat);
        }
        self.ranks.retain(|rank| rank.capacity.announced > 0);
        let is_panic_mode = self.is_every_member_out();
        let before = std::mem::replace(&mut self.is_panic_mode, is_panic_mode);
        let mut best: Vec<[Option<Tier>; 2]> = vec![[None; 2]; self.ranks.len()];
        for seat in &*seats {
            if let (Some(tier), Ok(at)) = (seat.tier(), self.search(seat.instance.rank())) {
                let best = &mut best[at][usize::from(seat.counted.is_far)];
                *best = Some(best.map_or(tier, |best| best.min(tier)));
            }
        }
        for (rank, [near, far]) in self.ranks.iter_mut().zip(best) {
            rank.near.best = near.unwrap_or(Tier::Available);
            rank.far.best = far.unwrap_or(Tier::Available);
        }
        let mut listed: Vec<_> = (self.ranks.iter())
            .map(|_| [Vec::new(), Vec::new()])
            .collect();
        for seat in seats {
            seat.place = None;
            let Ok(at) = self.search(seat.instance.rank()) else {
                continue;
            };
            let (is_far, rank) = (seat.counted.is_far, &self.ranks[at]);
            let best = if is_far {
                rank.far.best
            } else {
                rank.near.best
            };
            let is_picked = |tier: Tier| tier.is_picked(best, is_panic_mode);
            let is_listed = seat.tier().is_some_and(is_picked);
            let listed = &mut listed[at][usize::from(is_far)];
            if let Some(member) = seat.eligible().filter(|_| is_listed).map(Arc::clone) {
                seat.place = Some(Place {
                    rank: rank.rank,
                    is_far,
                    position: Position::new(listed.len()),
                });
                listed.push((member, seat.instance.weight()));
            }
        }
        for (rank, [near, far]) in self.ranks.iter_mut().zip(listed) {
            rank.near.list.fill(near);
            rank.far.list.fill(far);
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
        let mut after = seat.counts();
        if let (Some(own), Some(zone)) = (&self.own_zone, seat.instance.zone()) {
            after.is_far = !zone.is_same(own);
            after.zone = self.number_of(zone);
        }
        self.count(seat, after)
    }

    /// The number of a zone. `None` for more zones than can be numbered: such a one has no cap of its own.
    fn number_of(&mut self, zone: &Zone) -> Option<u16> {
        let is_it = |counts: &ZoneCounts| counts.zone.is_same(zone);
        let number = self.zones.iter().position(is_it).unwrap_or_else(|| {
            if self.zones.len() < MAX_ZONES {
                self.zones.push(ZoneCounts {
                    zone: zone.clone(),
                    counts: Outs::default(),
                });
            }
            self.zones.len() - 1
        });
        let is_it = self.zones[number].zone.is_same(zone);
        u16::try_from(number).ok().filter(|_| is_it)
    }

    fn count(&mut self, seat: &mut Seat<T>, after: Counts) -> bool {
        let before = std::mem::replace(&mut seat.counted, after);
        if before == after {
            return false;
        }
        self.counts.change(before, after);
        self.eligible_weight += after.eligible_weight();
        self.eligible_weight -= before.eligible_weight();
        self.new_weight += after.new_weight();
        self.new_weight -= before.new_weight();
        let none = Counts::default();
        for (counts, before, after) in [(before, before, none), (after, none, after)] {
            if let Some(zone) = counts.zone {
                self.zones[usize::from(zone)].counts.change(before, after);
            }
            if counts.announced == 0 {
                continue;
            }
            let at = self.search(counts.rank).unwrap_or_else(|at| {
                self.ranks.insert(at, Rank::new(counts.rank));
                at
            });
            let rank = &mut self.ranks[at];
            rank.capacity.announced += u64::from(after.announced);
            rank.capacity.announced -= u64::from(before.announced);
            rank.capacity.pickable += u64::from(after.pickable());
            rank.capacity.pickable -= u64::from(before.pickable());
            let tiered = rank.tiered_mut(counts.is_far);
            tiered.counts.change(before, after);
        }
        self.ranks.len() > 1
    }

    fn is_every_member_out(&self) -> bool {
        self.counts.eligible > 0 && self.counts.out == self.counts.eligible
    }

    fn search(&self, rank: u8) -> Result<usize, usize> {
        self.ranks.binary_search_by_key(&rank, |rank| rank.rank)
    }

    fn rank(&self, rank: u8) -> Option<&Rank<T>> {
        self.search(rank).ok().map(|at| &self.ranks[at])
    }

    fn tiered_mut(&mut self, rank: u8, is_far: bool) -> Option<&mut Tiered<T>> {
        let at = self.search(rank).ok()?;
        Some(self.ranks[at].tiered_mut(is_far))
    }
}

impl<T> Rank<T> {
    fn new(rank: u8) -> Self {
        Self {
            rank,
            near: Tiered::new(),
            far: Tiered::new(),
            capacity: Capacity::default(),
            share: Share::default(),
        }
    }

    fn len(&self) -> usize {
        self.near.list.len() + self.far.list.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn weight(&self) -> u64 {
        self.near.list.weigh() + self.far.list.weigh()
    }

    fn tiered_mut(&mut self, is_far: bool) -> &mut Tiered<T> {
        if is_far {
            &mut self.far
        } else {
            &mut self.near
        }
    }
}

impl<T> Tiered<T> {
    fn new() -> Self {
        Self {
            list: List::new(),
            best: Tier::Available,
            counts: Outs::default(),
        }
    }

    /// Whether the list is empty although there are members for it.
    fn is_outdated(&self, is_panic_mode: bool) -> bool {
        let Outs { eligible, out } = self.counts;
        self.list.is_empty() && (eligible > out || is_panic_mode && eligible > 0)
    }
}

impl Outs {
    fn change(&mut self, before: Counts, after: Counts) {
        self.eligible += usize::from(after.eligible);
        self.eligible -= usize::from(before.eligible);
        self.out += usize::from(after.out);
        self.out -= usize::from(before.out);
    }
}

/// Finds the seat of an instance. The seats are sorted by id.
pub(crate) fn find<T>(seats: &[Seat<T>], id: &InstanceId) -> Option<usize> {
    seats
        .binary_search_by(|seat| seat.instance.id().cmp(id))
        .ok()
}
