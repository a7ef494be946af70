//! Who is listed for picks: the available members, or, for want of any, the busy ones.

use std::sync::Arc;

use super::super::seat::Seat;
use super::Roster;

impl<S> Roster<S> {
    /// Brings a seat's place in the list up to date.
    pub(super) fn relist(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        let weight = seat.instance.weight();
        let eligible = seat.eligible().map(Arc::clone);
        let busy = seat.is_busy();
        match (eligible, seat.position) {
            (Some(member), position) if busy == self.busy => match position {
                Some(position) => self.list.replace(position as usize, member, weight),
                None => seat.position = Some(self.list.push(member, weight) as u32),
            },
            (Some(_), _) if self.busy => self.rebuild_list(),
            _ => self.unlist(index),
        }
        if self.list.is_empty() {
            self.rebuild_list();
        }
        self.dirty = true;
    }

    pub(super) fn unlist(&mut self, index: usize) {
        let Some(position) = self.seats[index].position.take() else {
            return;
        };
        self.dirty = true;
        let moved = self.list.swap_remove(position as usize);
        let moved = moved.map(|member| member.instance.id().clone());
        if let Some(index) = moved.and_then(|id| self.find(&id)) {
            self.seats[index].position = Some(position);
        }
    }

    /// Makes the list of all available members, or, for want of any, of the busy ones.
    pub(super) fn rebuild_list(&mut self) {
        let available = |seat: &Seat<S>| seat.eligible().is_some() && !seat.is_busy();
        self.busy = !self.seats.iter().any(available);
        let busy = self.busy;
        let mut listed = Vec::new();
        for seat in &mut self.seats {
            seat.position = None;
            if seat.is_busy() == busy
                && let Some(member) = seat.eligible().map(Arc::clone)
            {
                seat.position = Some(listed.len() as u32);
                listed.push((member, seat.instance.weight()));
            }
        }
        self.list.fill(listed);
        self.dirty = true;
    }
}
