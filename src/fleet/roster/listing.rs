//! Who is listed for picks: the available members; if there are none, the busy ones; if there are none either, all of them,
//! in panic mode.

use std::sync::Arc;

use super::super::reached::Branch;
use super::super::seat::{Seat, Tier};
use super::super::snapshot::Position;
use super::Roster;
use crate::event::Event;

impl<S> Roster<S> {
    /// Brings a seat's place in the list up to date.
    pub(super) fn relist(&mut self, index: usize) {
        self.recount(index);
        let was_empty = self.list.is_empty();
        let seat = &mut self.seats[index];
        let weight = seat.instance.weight();
        let tier = seat.tier();
        match (seat.eligible().map(Arc::clone), tier) {
            (Some(_), Some(tier)) if tier < self.listed => self.rebuild_list(),
            (Some(member), Some(tier)) if self.lists(tier) => {
                let seat = &mut self.seats[index];
                match seat.position {
                    Some(position) => self.list.replace(position, member, weight),
                    None => seat.position = Some(self.list.push(member, weight)),
                }
            }
            _ => self.unlist(index),
        }
        if self.list.is_empty() && (tier.is_some() || !was_empty) {
            self.rebuild_list();
        }
        self.dirty = true;
    }

    /// Whether members of that tier are in the list: in panic mode all are.
    fn lists(&self, tier: Tier) -> bool {
        tier == self.listed || self.listed == Tier::Out
    }

    /// Brings the numbers of members that may be picked, and that are out, up to date with one seat.
    pub(super) fn recount(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        let after = seat.counts();
        let before = std::mem::replace(&mut seat.counted, after);
        self.eligible = self.eligible + usize::from(after.eligible) - usize::from(before.eligible);
        self.out = self.out + usize::from(after.out) - usize::from(before.out);
    }

    pub(super) fn unlist(&mut self, index: usize) {
        let Some(position) = self.seats[index].position.take() else {
            return;
        };
        self.dirty = true;
        let moved = self.list.swap_remove(position);
        let moved = moved.map(|member| member.instance.id().clone());
        if let Some(index) = moved.and_then(|id| self.find(&id)) {
            self.seats[index].position = Some(position);
        }
    }

    /// Makes the list of those of the best tier that there is.
    pub(super) fn rebuild_list(&mut self) {
        let tiers = self.seats.iter().filter_map(Seat::tier);
        let best = tiers.min().unwrap_or(Tier::Available);
        let before = std::mem::replace(&mut self.listed, best);
        let mut listed = Vec::new();
        for index in 0..self.seats.len() {
            self.recount(index);
            let lists = |tier| self.lists(tier);
            let is_listed = self.seats[index].tier().is_some_and(lists);
            let seat = &mut self.seats[index];
            let member = seat.eligible().filter(|_| is_listed).map(Arc::clone);
            seat.position = member.as_ref().map(|_| Position::new(listed.len()));
            listed.extend(member.map(|member| (member, seat.instance.weight())));
        }
        let members = listed.len();
        self.list.fill(listed);
        self.dirty = true;
        match (before == Tier::Out, best == Tier::Out) {
            (false, true) => {
                Branch::PanicModeBegan.reach();
                self.ejections.counters.panic_modes += 1;
                self.note(Event::PanicModeBegan { members });
            }
            (true, false) => {
                Branch::PanicModeEnded.reach();
                self.note(Event::PanicModeEnded);
            }
            _ => {}
        }
    }
}
