//! Applies sets of instances to the seats.

use std::time::Duration;

use super::dials::Dial;
use super::seat::{Connection, Seat};
use super::{Received, Roster};
use crate::event::Event;
use crate::fleet::branch::Branch;
use crate::fleet::config::balance::BalanceConfig;
use crate::fleet::config::subset::Subset;
use crate::fleet::rules::doubt::{Doubt, judge};
use crate::model::instance::{Instance, InstanceId, InstanceSet, check_text};
use crate::runtime::text::excerpt;

/// How many invalid instances of one set are reported, and how many duplicate ids: a poisoned answer may hold any number.
const MAX_REPORTED: usize = 8;
/// How many removed instances an event names.
const NAMED: usize = 3;

/// What happens to instances that a set lacks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    Leave,
    Stay,
}

impl<T> Roster<T> {
    /// Applies a set, or doubts it. Returns the dials to make. `whole`: the set with the instances outside the subset.
    pub(crate) fn apply(&mut self, set: &InstanceSet, whole: &InstanceSet, now: u64) -> Vec<Dial> {
        let age = set.provisional_age().unwrap_or_default();
        let first = self.received.replace(Received { at: now, age }).is_none();
        self.dials.take_cancelled();
        for id in set.duplicates().iter().take(MAX_REPORTED) {
            self.note(Event::DuplicateId { id: printable(id) });
        }
        if first {
            self.check_subset(whole);
            self.check_zone(whole);
        }
        let known = if self.is_provisional {
            0
        } else if *self.config.subset() == Subset::All {
            self.seats.len()
        } else {
            self.announced
        };
        let lacks = |seat: &&Seat<T>| whole.get(seat.instance.id().as_str()).is_none();
        let gone = || self.seats.iter().filter(lacks).count();
        match judge(
            set,
            whole,
            known,
            gone,
            self.doubt.as_ref(),
            &self.config,
            now,
        ) {
            None => {
                if let Some(doubt) = self.doubt.take() {
                    Branch::DoubtLifted.reach();
                    self.note(Event::DoubtEnded {
                        believed: false,
                        known,
                        answered: whole.len(),
                        after: Duration::from_nanos(now.saturating_sub(doubt.since())),
                    });
                }
                self.is_provisional = set.provisional_age().is_some();
                self.announced = whole.len();
                self.replace_seats(set, Absent::Leave, first, now)
            }
            Some(doubt) => {
                if self.doubt.replace(doubt).is_none() {
                    Branch::SetDoubted.reach();
                    self.note(Event::SetDoubted {
                        known,
                        answered: whole.len(),
                        grace: self.config.shrink_grace(),
                    });
                }
                self.replace_seats(set, Absent::Stay, first, now)
            }
        }
    }

    /// Applies a set whose doubt is over. Returns the dials to make.
    pub(super) fn follow(&mut self, doubt: Doubt, now: u64) -> Vec<Dial> {
        self.note(Event::DoubtEnded {
            believed: true,
            known: self.seats.len(),
            answered: doubt.set().len(),
            after: Duration::from_nanos(now.saturating_sub(doubt.since())),
        });
        self.announced = doubt.announced();
        let set = doubt.into_set();
        self.is_provisional = set.provisional_age().is_some();
        self.replace_seats(&set, Absent::Leave, false, now)
    }

    /// Reports a zone that no instance is in, and a price without a zone.
    fn check_zone(&mut self, whole: &InstanceSet) {
        let (setting, why) = match self.config.zone() {
            Some(own) => {
                let is_own = |instance: &Instance| instance.zone().is_some_and(|z| z.is_same(own));
                if whole.is_empty() || whole.iter().any(is_own) {
                    return;
                }
                ("zone", format!("no instance is in {own}"))
            }
            None if self.config.zone_price() != BalanceConfig::default().zone_price() => {
                ("zone_price", "no zone is set".to_owned())
            }
            None => return,
        };
        self.note(Event::WithoutEffect { setting, why });
    }

    /// Reports a subset that leaves no instance out.
    fn check_subset(&mut self, whole: &InstanceSet) {
        if let Subset::Fixed { size, .. } = self.config.subset()
            && whole.len() <= *size as usize
        {
            let why = format!(
                "all {} instances are dialled, {size} are allowed",
                whole.len()
            );
            let setting = "subset";
            self.note(Event::WithoutEffect { setting, why });
        }
    }

    /// Adds, updates and removes seats to match a set. Returns the dials to make.
    fn replace_seats(
        &mut self,
        set: &InstanceSet,
        absent: Absent,
        first: bool,
        now: u64,
    ) -> Vec<Dial> {
        let mut dials = Vec::new();
        let mut changed = 0;
        // Both sorted by seat index: of the seat to remove, or of the seat to insert before.
        let mut gone = Vec::new();
        let mut added = Vec::new();
        let mut refusals = MAX_REPORTED;
        let mut index = 0;
        for instance in set {
            while let Some(seat) = self.seats.get(index)
                && seat.instance.id() < instance.id()
            {
                gone.push(index);
                index += 1;
            }
            let known = self.seats.get(index).map(|seat| &seat.instance);
            let known = known.filter(|known| known.id() == instance.id());
            let same = known.is_some();
            if known != Some(instance) && self.is_valid(instance, &mut refusals) {
                if same {
                    changed += 1;
                    dials.extend(self.update(index, instance, now));
                } else {
                    added.push((index, instance));
                }
            }
            index += usize::from(same);
        }
        gone.extend(index..self.seats.len());
        if absent == Absent::Stay {
            gone.clear();
        }
        let removed = gone.iter().take(NAMED);
        let removed_ids = removed.map(|&index| self.seats[index].instance.id().clone());
        let removed_ids = removed_ids.collect();
        for &index in &gone {
            self.clear_seat(index);
        }
        let added_at = self.reseat(&gone, &added, now);
        if !gone.is_empty() && self.listing.is_outdated() {
            self.relist_all();
        }
        for index in added_at {
            if !self.seats[index].is_draining() {
                dials.push(self.dial(index));
            }
        }
        if changed + gone.len() + added.len() > 0 {
            self.near_ids = None;
        }
        if first || changed + gone.len() + added.len() > 0 {
            self.note(Event::SetChanged {
                added: added.len(),
                removed: gone.len(),
                removed_ids,
                changed,
                known: self.seats.len(),
            });
        }
        self.shorten_backoffs(now);
        dials
    }

    /// Removes and adds seats. Returns the indices of the new ones.
    fn reseat(&mut self, gone: &[usize], added: &[(usize, &Instance)], now: u64) -> Vec<usize> {
        if gone.is_empty() && added.is_empty() {
            return Vec::new();
        }
        let old = std::mem::take(&mut self.seats);
        let mut seats = Vec::with_capacity(old.len() + added.len() - gone.len());
        let mut places = Vec::with_capacity(added.len());
        let (mut gone, mut added) = (gone.iter().peekable(), added.iter().peekable());
        let mut seat_new = |seats: &mut Vec<Seat<T>>, before: usize| {
            while let Some((_, instance)) = added.next_if(|&&(index, _)| index <= before) {
                places.push(seats.len());
                seats.push(Seat::new((*instance).clone(), now));
            }
        };
        for (index, seat) in old.into_iter().enumerate() {
            seat_new(&mut seats, index);
            if gone.next_if(|&&gone| gone == index).is_none() {
                seats.push(seat);
            }
        }
        seat_new(&mut seats, usize::MAX);
        self.seats = seats;
        places
    }

    /// Updates the instance of a seat. Returns a dial if it needs a new connection.
    fn update(&mut self, index: usize, instance: &Instance, now: u64) -> Option<Dial> {
        let seat = &mut self.seats[index];
        let was_eligible = seat.eligible().is_some();
        let before = std::mem::replace(&mut seat.instance, instance.clone());
        let moved = !before.has_addresses_of(instance);
        let is_current = seat
            .member()
            .is_some_and(|member| member.instance.has_addresses_of(instance));
        let dialled = seat.dial.is_dialled();
        let draining = seat.is_draining();
        if draining && let Some(member) = seat.member() {
            if !member.instance.has_addresses_of(instance) {
                seat.stats.move_to_address(&self.shared.tokens, now);
            }
            seat.stats.trial().forget(&self.shared.tokens);
            let given_up = std::mem::replace(&mut seat.connection, Connection::None);
            seat.since = now;
            self.discard(given_up);
        }
        if before.availability() != instance.availability() {
            self.note(Event::AvailabilityChanged {
                id: instance.id().clone(),
                address: instance.address().clone(),
                availability: instance.availability(),
            });
        }
        self.relist(index);
        if !was_eligible {
            self.try_if_over_cap(index, now);
        }
        if moved {
            let seat = &mut self.seats[index];
            seat.dial.forget_attempts();
            seat.dial.forget_failures();
            // An existing connection keeps its statistics until the new address is connected.
            if seat.member().is_none() {
                seat.stats.move_to_address(&self.shared.tokens, now);
            }
            self.garbage.errors.extend(seat.error.take());
        }
        if draining || is_current {
            self.cancel_dial(index);
            return None;
        }
        (moved || !dialled).then(|| self.dial(index))
    }

    /// Releases everything that a seat holds, before it is removed.
    fn clear_seat(&mut self, index: usize) {
        self.cancel_dial(index);
        self.listing.remove(&mut self.seats, index);
        let seat = &mut self.seats[index];
        let id = seat.instance.id();
        self.standings.forget(id, &mut seat.standing);
        self.offered.remove(id);
        seat.stats.trial().forget(&self.shared.tokens);
        // If this was the last member that was out, picks need no clock any more.
        self.dirty = true;
        let given_up = std::mem::replace(&mut seat.connection, Connection::None);
        let error = seat.error.take();
        self.discard(given_up);
        self.garbage.errors.extend(error);
        self.listing.forget(&mut self.seats[index]);
    }

    /// Whether an instance is valid. The first few invalid ones of a set are reported.
    fn is_valid(&mut self, instance: &Instance, refusals: &mut usize) -> bool {
        let Err(error) = instance.validate() else {
            return true;
        };
        if *refusals > 0 {
            *refusals -= 1;
            let id = printable(instance.id());
            self.note(Event::InstanceRefused { id, error });
        }
        false
    }
}

/// Escapes and shortens an invalid id, because events are kept for a while and end up in logs.
fn printable(id: &InstanceId) -> InstanceId {
    match check_text("id", id.as_str()) {
        Ok(()) => id.clone(),
        Err(_) => InstanceId::from(&*excerpt(id.as_str())),
    }
}
