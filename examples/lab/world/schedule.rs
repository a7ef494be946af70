//! Events in order of time; those of one moment in the order in which they were scheduled.

use std::cmp::Ordering;
use std::rc::Rc;

use rolecall::fleet::Ticket;

use crate::contestants::{Listed, Outcome};
use crate::moment::Moment;

pub(super) struct Scheduled {
    pub(super) at: Moment,
    pub(super) number: u64,
    pub(super) event: Event,
}

/// What happens next.
pub(super) enum Event {
    Reach(u64),
    Completion(usize),
    Answer(u64, Outcome),
    News(usize, Rc<[Listed]>),
    Dialled(usize, Ticket, usize),
    Wake(usize),
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}
