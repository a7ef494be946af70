//! The seat of one instance: its connection, its dial, its standing and its place in the list.
//!
//! Dial and connection are separate on purpose: after a change of address, a seat dials while the old connection is still up
//! (make before break).

use std::sync::Arc;

use super::checks::CheckState;
use super::dials::DialState;
use super::standing::{Standing, Subject};
use crate::event::dial::DialError;
use crate::fleet::members::list::Position;
use crate::fleet::members::member::Member;
use crate::fleet::members::stats::Stats;
use crate::fleet::rules::tiers::Tier;
use crate::fleet::rules::trial::Bucket;
use crate::model::instance::{Availability, Instance};

pub(crate) struct Seat<T> {
    pub(crate) instance: Instance,
    pub(crate) connection: Connection<T>,
    pub(crate) dial: DialState,
    pub(crate) standing: Standing,
    pub(crate) check: CheckState,
    /// Load and record of the instance, over all its connections.
    pub(crate) stats: Arc<Stats>,
    /// When the connection came up or went down.
    pub(crate) since: u64,
    /// Why the last dial failed.
    pub(crate) error: Option<Arc<DialError>>,
    /// Until when a pinned request may wait for its connection.
    pub(crate) wanted_until: u64,
    /// Its place in the lists, if it is listed. Only the [`Listing`](super::listing::Listing) changes it.
    pub(crate) place: Option<Place>,
    /// What it contributes to the listing's counts.
    pub(crate) counted: Counts,
}

/// What a seat contributes to the ejection cap and to the capacity of its rank. `out` implies `eligible`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) eligible: bool,
    pub(crate) out: bool,
    pub(crate) rank: u8,
    /// Its weight; zero while it drains.
    pub(crate) announced: u16,
    is_pickable: bool,
    is_new: bool,
    /// The number of its zone, if zones matter.
    pub(crate) zone: Option<u16>,
    pub(crate) is_far: bool,
}

/// A list, and the position in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) rank: u8,
    /// Whether the list is that of other zones.
    pub(crate) is_far: bool,
    pub(crate) position: Position,
}

impl Counts {
    /// The weight that can be picked.
    pub(crate) fn pickable(&self) -> u16 {
        if self.is_pickable { self.announced } else { 0 }
    }

    /// Its weight, if it is eligible.
    pub(crate) fn eligible_weight(&self) -> u64 {
        u64::from(if self.eligible { self.announced } else { 0 })
    }

    /// Its weight, if it is eligible and new.
    pub(crate) fn new_weight(&self) -> u64 {
        u64::from(if self.is_new { self.announced } else { 0 })
    }
}

pub(crate) enum Connection<T> {
    /// There never was one, or the fleet dropped it.
    None,
    Up(Arc<Member<T>>),
    /// The connection failed.
    Lost,
}

impl<T> Seat<T> {
    pub(crate) fn new(instance: Instance, now: u64) -> Self {
        Self {
            instance,
            connection: Connection::None,
            dial: DialState::default(),
            standing: Standing::default(),
            check: CheckState::default(),
            stats: Arc::default(),
            since: now,
            error: None,
            wanted_until: 0,
            place: None,
            counted: Counts::default(),
        }
    }

    /// Borrows the parts that [`Standings`](super::standing::Standings) needs to change its standing.
    pub(crate) fn subject<'a>(&'a mut self, tokens: &'a Bucket) -> Subject<'a> {
        let dialled = match &self.connection {
            Connection::Up(member) => &member.instance,
            Connection::None | Connection::Lost => &self.instance,
        };
        Subject {
            id: self.instance.id(),
            instance: dialled,
            standing: &mut self.standing,
            stats: &self.stats,
            tokens,
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let eligible = self.eligible().is_some();
        let is_out = self.standing.is_out();
        let announced = if self.is_draining() {
            0
        } else {
            self.instance.weight().get()
        };
        Counts {
            eligible,
            out: eligible && is_out,
            rank: self.instance.rank(),
            announced,
            is_pickable: !is_out && (eligible || self.is_in_first_dial()),
            is_new: eligible && self.standing.is_new(),
            zone: None,
            is_far: false,
        }
    }

    /// Whether its first dial is running: nothing is known against it.
    fn is_in_first_dial(&self) -> bool {
        let is_first = matches!(self.connection, Connection::None) && self.error.is_none();
        is_first && self.dial.is_dialling()
    }

    /// Its tier, if it is eligible.
    pub(crate) fn tier(&self) -> Option<Tier> {
        self.eligible()?;
        Some(Tier::of(self.standing.is_out(), self.is_busy()))
    }

    pub(crate) fn member(&self) -> Option<&Arc<Member<T>>> {
        match &self.connection {
            Connection::Up(member) => Some(member),
            Connection::None | Connection::Lost => None,
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.instance.availability() == Availability::Draining
    }

    /// The member, if its instance may be picked: connected, not draining, and with a weight above zero.
    pub(crate) fn eligible(&self) -> Option<&Arc<Member<T>>> {
        let wanted = self.instance.weight().get() > 0 && !self.is_draining();
        self.member().filter(|_| wanted)
    }

    fn is_busy(&self) -> bool {
        self.instance.availability() == Availability::Busy
    }
}
