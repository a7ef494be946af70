//! Which instances are dialled, or wait to be dialled, and when.
//!
//! The dial of an instance is idle, under way, or waiting. [`Dials::begin`] and [`Dials::wait`] cancel what was there before;
//! [`Dials::end`] and [`Dials::cancel`] leave it idle.

use std::collections::BTreeSet;

use crate::fleet::rules::backoff::latest_while_unusable;
use crate::model::instance::{Instance, InstanceId};

/// A connection to make. Its outcome is reported to [`Fleet::connected`](crate::fleet::Fleet::connected) or
/// [`Fleet::dial_failed`](crate::fleet::Fleet::dial_failed) with the ticket.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dial {
    /// Names this dial.
    pub ticket: Ticket,
    /// The instance to dial.
    pub instance: Instance,
    /// Whether an earlier dial of this instance failed, or a connection to it was lost. The driver starts such dials after all
    /// others.
    pub is_redial: bool,
}

/// Identifies one dial of one instance, and the connection that it makes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    id: InstanceId,
    generation: u64,
}

impl Ticket {
    pub(crate) fn new(id: InstanceId, generation: u64) -> Self {
        Self { id, generation }
    }

    pub(crate) fn id(&self) -> &InstanceId {
        &self.id
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }
}

/// The dial of one instance. Only [`Dials`] begins and ends it.
#[derive(Debug, Default)]
pub(crate) struct DialState {
    link: Link,
    /// Dials in a row without a lasting connection, the present one included.
    attempts: u16,
    /// Failed dials since it last had a connection.
    failed: u16,
    /// Whether it is reported as unreachable.
    is_unreachable: bool,
    /// The generation of the dial under way, or until when to wait.
    number: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Link {
    #[default]
    Idle,
    Dialling,
    Waiting,
}

impl DialState {
    /// Whether a dial is under way or scheduled.
    pub(crate) fn is_dialled(&self) -> bool {
        self.link != Link::Idle
    }

    /// Whether a dial is under way.
    pub(crate) fn is_dialling(&self) -> bool {
        self.link == Link::Dialling
    }

    /// When the next dial begins, if it is scheduled.
    pub(crate) fn waits_until(&self) -> Option<u64> {
        (self.link == Link::Waiting).then_some(self.number)
    }

    /// Whether the dial under way has this ticket.
    pub(crate) fn awaits(&self, ticket: &Ticket) -> bool {
        self.is_dialling() && self.number == ticket.generation
    }

    pub(crate) fn attempts(&self) -> u16 {
        self.attempts
    }

    /// Counts a failed dial. Returns how many failed since it last had a connection.
    pub(crate) fn count_failure(&mut self) -> u32 {
        self.failed = self.failed.saturating_add(1);
        self.failed.into()
    }

    /// Marks it as unreachable. Returns whether it was not.
    pub(crate) fn begin_unreachable(&mut self) -> bool {
        !std::mem::replace(&mut self.is_unreachable, true)
    }

    /// Forgets its failed dials, because it is connected or has another address. Returns how many there were, and whether it
    /// was reported as unreachable.
    pub(crate) fn forget_failures(&mut self) -> (u32, bool) {
        let failed = std::mem::take(&mut self.failed).into();
        (failed, std::mem::take(&mut self.is_unreachable))
    }

    pub(crate) fn count_attempt(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }

    pub(crate) fn forget_attempts(&mut self) {
        self.attempts = 0;
    }
}

/// Instances that wait to be dialled, and cancelled dials.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    /// Instances that wait to be dialled, by the end of their wait.
    waiting: BTreeSet<(u64, InstanceId)>,
    /// Dials cancelled since [`take_cancelled`](Self::take_cancelled) was last called.
    cancelled: Vec<Ticket>,
    generation: u64,
}

impl Dials {
    /// Begins a dial and cancels any earlier one.
    pub(crate) fn begin(
        &mut self,
        state: &mut DialState,
        instance: &Instance,
        has_failed: bool,
    ) -> Dial {
        self.cancel(state, instance.id());
        self.generation += 1;
        let generation = self.generation;
        (state.link, state.number) = (Link::Dialling, generation);
        let id = instance.id().clone();
        Dial {
            ticket: Ticket { id, generation },
            instance: instance.clone(),
            is_redial: state.attempts > 0 || has_failed,
        }
    }

    /// Ends a dial or a wait for one. A dial under way is [cancelled](Self::take_cancelled).
    pub(crate) fn cancel(&mut self, state: &mut DialState, id: &InstanceId) {
        match std::mem::take(&mut state.link) {
            Link::Idle => {}
            Link::Waiting => {
                self.waiting.remove(&(state.number, id.clone()));
            }
            Link::Dialling => self.cancelled.push(Ticket {
                id: id.clone(),
                generation: state.number,
            }),
        }
    }

    /// Ends a dial, whatever its outcome.
    pub(crate) fn end(&mut self, state: &mut DialState) {
        state.link = Link::Idle;
    }

    /// Schedules a dial for `until`, and cancels any earlier one.
    pub(crate) fn wait(&mut self, state: &mut DialState, id: &InstanceId, until: u64) {
        self.cancel(state, id);
        (state.link, state.number) = (Link::Waiting, until);
        self.waiting.insert((until, id.clone()));
    }

    /// Removes and returns an instance whose wait is over.
    pub(crate) fn due(&mut self, now: u64) -> Option<InstanceId> {
        let (at, _) = self.waiting.first()?;
        if *at > now {
            return None;
        }
        self.waiting.pop_first().map(|(_, id)| id)
    }

    /// Instances whose remaining wait exceeds the limit that applies while nothing is usable.
    pub(crate) fn waiting_too_long(&self, now: u64) -> Vec<InstanceId> {
        let late = (latest_while_unusable(now), InstanceId::from(""));
        let late = self.waiting.range(late..);
        late.map(|(_, id)| id.clone()).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.waiting.first().map(|&(at, _)| at)
    }

    /// The dials cancelled since the last call of this method.
    pub(crate) fn take_cancelled(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.cancelled)
    }
}
