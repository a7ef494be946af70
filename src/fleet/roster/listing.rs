//! Who is listed for picks: the available members, or, for want of any, the busy ones, or all of them in panic mode.

use std::sync::Arc;

use super::super::reached::Branch;
use super::super::seat::{Seat, Standing};
use super::super::snapshot::Position;
use super::Roster;
use crate::Event;

impl<S> Roster<S> {
    /// Brings a seat's place in the list up to date.
    pub(super) fn relist(&mut self, index: usize) {
        self.ejections.share = None;
        let was_empty = self.list.is_empty();
        let seat = &mut self.seats[index];
        let weight = seat.instance.weight();
        let standing = seat.standing();
        match (seat.eligible().map(Arc::clone), standing) {
            (Some(_), Some(standing)) if standing < self.listed => self.rebuild_list(),
            (Some(member), Some(standing)) if self.lists(standing) => {
                let seat = &mut self.seats[index];
                match seat.position {
                    Some(position) => self.list.replace(position, member, weight),
                    None => seat.position = Some(self.list.push(member, weight)),
                }
            }
            _ => self.unlist(index),
        }
        if self.list.is_empty() && (standing.is_some() || !was_empty) {
            self.rebuild_list();
        }
        self.dirty = true;
    }

    /// Whether members of that standing are in the list: in panic mode all are.
    fn lists(&self, standing: Standing) -> bool {
        standing == self.listed || self.listed == Standing::Out
    }

    pub(super) fn unlist(&mut self, index: usize) {
        self.ejections.share = None;
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

    /// Makes the list of those of the best standing that there is.
    pub(super) fn rebuild_list(&mut self) {
        let standings = self.seats.iter().filter_map(Seat::standing);
        let best = standings.min().unwrap_or(Standing::Available);
        let before = std::mem::replace(&mut self.listed, best);
        let mut listed = Vec::new();
        for index in 0..self.seats.len() {
            let lists = |standing| self.lists(standing);
            let is_listed = self.seats[index].standing().is_some_and(lists);
            let seat = &mut self.seats[index];
            let member = seat.eligible().filter(|_| is_listed).map(Arc::clone);
            seat.position = member.as_ref().map(|_| Position::new(listed.len()));
            listed.extend(member.map(|member| (member, seat.instance.weight())));
        }
        let members = listed.len();
        self.list.fill(listed);
        self.dirty = true;
        match (before == Standing::Out, best == Standing::Out) {
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
