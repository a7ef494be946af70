//! Connections: dials and their outcomes, losses, and the start and stop of the driver.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Roster;
use super::dials::{Dial, Ticket};
use super::seat::{Connection, Seat};
use crate::event::Event;
use crate::event::dial::DialError;
use crate::fleet::members::member::{Member, Record};
use crate::fleet::rules::backoff::{Cause, latest_while_unusable, wait};
use crate::fleet::time::nanos;
use crate::model::instance::InstanceId;

/// How long the dials of an instance fail before it is reported as unreachable, in nanoseconds. A process that is being
/// replaced is back within this time.
const UNREACHABLE_AFTER: u64 = 1_000_000_000;

impl<T> Roster<T> {
    /// Starts with a new driver. Returns dials of all instances that need a connection.
    pub(crate) fn start(&mut self, now: Instant) -> Vec<Dial> {
        if self.unusable_since.is_some() {
            self.unusable_since = Some(now);
            self.dirty = true;
        }
        self.census = None;
        let is_dialled = |seat: &Seat<T>| {
            seat.member().is_none() && !seat.dial.is_dialled() && !seat.is_draining()
        };
        let mut dials = Vec::new();
        for index in 0..self.seats.len() {
            if is_dialled(&self.seats[index]) {
                dials.push(self.dial(index));
            }
        }
        dials
    }

    /// Stops with the driver: every connection counts as lost, and every dial is cancelled.
    pub(crate) fn stop(&mut self, now: u64) {
        let mut connections = 0;
        for index in 0..self.seats.len() {
            self.cancel_dial(index);
            connections += usize::from(self.disconnect(index, now).is_some());
            // The fleet dropped it, so the next dial counts as its first.
            self.seats[index].connection = Connection::None;
        }
        self.dials.take_cancelled();
        self.note(Event::DriverStopped { connections });
        self.relist_all();
    }

    /// Connects an instance whose dial succeeded. Returns the payload if the dial is no longer awaited.
    pub(crate) fn connected(&mut self, ticket: &Ticket, payload: T, now: u64) -> Result<(), T> {
        let Some(index) = self.awaited(ticket) else {
            return Err(payload);
        };
        let seat = &mut self.seats[index];
        if let Connection::Up(old) = &seat.connection
            && !old.instance.has_addresses_of(&seat.instance)
        {
            seat.stats.move_to_address(&self.shared.tokens, now);
        }
        let record = Record {
            stats: Arc::clone(&seat.stats),
            generation: ticket.generation(),
            instance: seat.instance.clone(),
        };
        let member = Arc::new(Member::new(record, payload));
        self.dials.end(&mut seat.dial);
        let is_first = seat.member().is_none();
        let after = if is_first {
            now.saturating_sub(seat.since)
        } else {
            0
        };
        seat.since = now;
        let address = seat.instance.address().clone();
        let (failed_dials, was_unreachable) = seat.dial.forget_failures();
        let error = seat.error.take();
        let replaced = std::mem::replace(&mut seat.connection, Connection::Up(member));
        let is_new = matches!(replaced, Connection::None);
        self.discard(replaced);
        self.garbage.errors.extend(error);
        if is_new && self.config.slow_start_new().is_some() {
            let member = self.seats[index].subject(&self.shared.tokens);
            self.standings.begin_new(member, now);
        }
        self.try_if_moved(index, now);
        self.relist(index);
        self.note(Event::Connected {
            id: ticket.id().clone(),
            address,
            after: Duration::from_nanos(after),
            failed_dials,
            was_unreachable,
        });
        self.try_if_over_cap(index, now);
        Ok(())
    }

    pub(crate) fn dial_failed(&mut self, ticket: &Ticket, error: &Arc<DialError>, now: u64) {
        let Some(index) = self.awaited(ticket) else {
            return;
        };
        let seat = &mut self.seats[index];
        self.dials.end(&mut seat.dial);
        let replaced = seat.error.replace(Arc::clone(error));
        self.garbage.errors.extend(replaced);
        let wait = if error.is_local_fault() {
            self.dial_later(index, Cause::LocalFault, now)
        } else {
            seat.dial.count_attempt();
            self.dial_again(index, now)
        };
        let seat = &mut self.seats[index];
        let (id, address) = (ticket.id(), seat.instance.address().clone());
        let failed_dials = seat.dial.count_failure();
        let since = now.saturating_sub(seat.since);
        let is_down = seat.member().is_none() && since >= UNREACHABLE_AFTER;
        let is_news = is_down && seat.dial.begin_unreachable();
        self.recount(index);
        self.note(Event::DialFailed {
            id: id.clone(),
            address: address.clone(),
            error: Arc::clone(error),
            failed_dials,
            retry_in: Duration::from_nanos(wait),
        });
        if is_news {
            self.note(Event::Unreachable {
                id: id.clone(),
                address,
                error: Arc::clone(error),
                failed_dials,
                since: Duration::from_nanos(since),
            });
        }
    }

    /// Removes a lost connection. Its instance is dialled again, at once unless connections to it do not last.
    pub(crate) fn lost(&mut self, id: &InstanceId, generation: u64, now: u64) {
        let Some(index) = self.find(id) else {
            return;
        };
        let is_it = |member: &Arc<Member<T>>| member.generation == generation;
        if !self.seats[index].member().is_some_and(is_it) {
            return;
        }
        let Some(address) =
            (self.seats[index].member()).map(|member| member.instance.address().clone())
        else {
            return;
        };
        let Some(lasted) = self.disconnect(index, now) else {
            return;
        };
        self.relist(index);
        self.note(Event::ConnectionLost {
            id: id.clone(),
            address,
            after: Duration::from_nanos(lasted),
        });
        self.shorten_backoffs(now);
        let dial = &mut self.seats[index].dial;
        if dial.is_dialled() {
            return;
        }
        if lasted >= nanos(self.config.connect_backoff().max()) {
            dial.forget_attempts();
        }
        self.dial_again(index, now);
        self.seats[index].dial.count_attempt();
    }

    /// Removes a seat's connection. Returns how long it was up, in nanoseconds. The caller updates the list.
    fn disconnect(&mut self, index: usize, now: u64) -> Option<u64> {
        let seat = &mut self.seats[index];
        // The next connection goes to another address.
        let connected = &seat.member()?.instance;
        if !connected.has_addresses_of(&seat.instance) {
            seat.stats.move_to_address(&self.shared.tokens, now);
        }
        let lasted = now.saturating_sub(seat.since);
        let replaced = std::mem::replace(&mut seat.connection, Connection::Lost);
        seat.since = now;
        self.discard(replaced);
        Some(lasted)
    }

    pub(super) fn dial(&mut self, index: usize) -> Dial {
        let seat = &mut self.seats[index];
        let has_failed = seat.error.is_some();
        let dial = self.dials.begin(&mut seat.dial, &seat.instance, has_failed);
        self.recount(index);
        dial
    }

    pub(super) fn cancel_dial(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        self.dials.cancel(&mut seat.dial, seat.instance.id());
        self.recount(index);
    }

    /// Schedules the next dial, after the backoff of the attempts so far. Returns the wait in nanoseconds.
    fn dial_again(&mut self, index: usize, now: u64) -> u64 {
        let attempts = self.seats[index].dial.attempts();
        self.dial_later(index, Cause::Attempts(attempts), now)
    }

    fn dial_later(&mut self, index: usize, cause: Cause, now: u64) -> u64 {
        let backoff = self.config.connect_backoff();
        let is_wanted = now < self.seats[index].wanted_until;
        let is_calm = !self.listing.is_empty() && !is_wanted;
        let wait = wait(cause, backoff, is_calm, &mut self.rng);
        let seat = &mut self.seats[index];
        let until = now.saturating_add(wait);
        self.dials.wait(&mut seat.dial, seat.instance.id(), until);
        wait
    }

    /// A pinned request waits for this instance: for `unavailable_after` from now, its dials follow each other as if nothing
    /// were usable.
    pub(crate) fn want(&mut self, id: &InstanceId, now: u64) {
        let Some(index) = self.find(id) else {
            return;
        };
        let unavailable_after = nanos(self.config.unavailable_after());
        let seat = &mut self.seats[index];
        seat.wanted_until = now.saturating_add(unavailable_after);
        let until = seat.dial.waits_until();
        if until.is_some_and(|until| until > latest_while_unusable(now)) {
            self.dial_later(index, Cause::Urgent, now);
        }
    }

    /// Shortens long waits when the last usable member has just gone.
    pub(super) fn shorten_backoffs(&mut self, now: u64) {
        if !self.listing.is_empty() || self.unusable_since.is_some() {
            return;
        }
        for id in self.dials.waiting_too_long(now) {
            if let Some(index) = self.find(&id) {
                self.dial_later(index, Cause::Urgent, now);
            }
        }
    }

    /// The seat whose dial under way has this ticket.
    fn awaited(&self, ticket: &Ticket) -> Option<usize> {
        self.find(ticket.id())
            .filter(|&index| self.seats[index].dial.awaits(ticket))
    }
}
