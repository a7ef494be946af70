//! The checks of the members: which are due, which run, and what the last one said. What they change: [`checking`](super::checking).

use std::collections::BTreeSet;
use std::time::Duration;

use super::dials::Ticket;
use crate::model::instance::InstanceId;
use crate::status::CheckStatus;

/// The checks of one member.
#[derive(Debug, Default)]
pub(crate) struct CheckState(pub(super) Option<Box<Checked>>);

#[derive(Debug)]
pub(super) struct Checked {
    /// The connection that `state` is about.
    generation: u64,
    pub(super) state: State,
    /// When the last check ended that told something, and why it failed.
    pub(super) last: Option<(u64, Option<String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Unchecked,
    Due,
    Running { since: u64 },
    Passed { until: u64 },
    Paused { until: u64 },
}

/// Why a check failed, as a text: the error is the caller's.
pub(crate) struct CheckFailure {
    pub(crate) text: String,
    /// Whether this process lacked a resource.
    pub(crate) is_local_fault: bool,
}

/// The checks that are due, and when those that ended count no more.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(super) is_on: bool,
    /// Due since the last deadline.
    pub(super) due: Vec<Ticket>,
    /// Given out at a deadline.
    pub(super) given_out: Vec<Ticket>,
    pub(super) ends: BTreeSet<(u64, InstanceId)>,
}

impl CheckState {
    pub(super) fn state(&self, generation: u64) -> State {
        let checked = self.0.as_ref();
        let current = checked.filter(|checked| checked.generation == generation);
        current.map_or(State::Unchecked, |checked| checked.state)
    }

    pub(super) fn set(&mut self, generation: u64, state: State) {
        let checked = self.0.get_or_insert_with(|| {
            Box::new(Checked {
                generation,
                state,
                last: None,
            })
        });
        (checked.generation, checked.state) = (generation, state);
    }

    /// Requires another check before the next trial.
    pub(crate) fn forget(&mut self) {
        if let Some(checked) = &mut self.0
            && matches!(checked.state, State::Passed { .. })
        {
            checked.state = State::Unchecked;
        }
    }

    pub(crate) fn status(&self, now: u64) -> Option<CheckStatus> {
        let (at, error) = self.0.as_ref()?.last.as_ref()?;
        Some(CheckStatus {
            since: Duration::from_nanos(now.saturating_sub(*at)),
            error: error.clone(),
        })
    }
}

impl Checks {
    pub(crate) fn switch_on(&mut self) {
        self.is_on = true;
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let end = self.ends.first().map(|&(at, _)| at);
        let due = (!self.due.is_empty()).then_some(0);
        due.or(end)
    }

    /// Removes the first end, if its time has come.
    pub(super) fn take_ended(&mut self, now: u64) -> Option<(u64, InstanceId)> {
        self.ends.first().filter(|(at, _)| *at <= now)?;
        self.ends.pop_first()
    }
}
