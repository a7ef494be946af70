use std::collections::VecDeque;

use crate::event::Event;

/// Events kept for a reader that is late.
const KEPT: usize = 1024;

/// What happened, until somebody reads it: a bounded ring that counts what it lost.
#[derive(Default)]
pub(crate) struct Journal {
    events: VecDeque<Event>,
    missed: u64,
}

impl Journal {
    /// Adds an event. Returns the oldest one if it had to go for it.
    pub(crate) fn push(&mut self, event: Event) -> Option<Event> {
        let lost = (self.events.len() == KEPT)
            .then(|| self.events.pop_front())
            .flatten();
        self.missed += u64::from(lost.is_some());
        self.events.push_back(event);
        lost
    }

    /// Everything since the last call, after a note of what was missed.
    pub(crate) fn take(&mut self) -> Vec<Event> {
        let count = std::mem::take(&mut self.missed);
        let missed = (count > 0).then_some(Event::Missed { count });
        // With its room, which a burst has made large.
        let events = std::mem::take(&mut self.events);
        missed.into_iter().chain(events).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_reader_gets_the_newest_and_is_told_how_much_it_missed() {
        let mut journal = Journal::default();
        for _ in 0..KEPT {
            assert!(journal.push(Event::Usable).is_none());
        }
        for _ in 0..3 {
            assert!(journal.push(Event::NothingUsable).is_some());
        }
        let events = journal.take();
        assert_eq!(events.len(), KEPT + 1);
        assert!(matches!(events[0], Event::Missed { count: 3 }));
        assert!(matches!(events[KEPT], Event::NothingUsable));
        assert!(journal.take().is_empty());
    }
}
