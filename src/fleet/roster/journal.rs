use std::collections::VecDeque;

use crate::event::Event;

/// How many events are kept for a slow reader.
const KEPT: usize = 1024;

/// Events that nothing has read yet: a bounded ring that counts the events it lost.
#[derive(Default)]
pub(crate) struct Journal {
    events: VecDeque<Event>,
    missed: u64,
}

impl Journal {
    /// Adds an event. Returns the oldest one if it had to make room.
    pub(crate) fn push(&mut self, event: Event) -> Option<Event> {
        let lost = (self.events.len() == KEPT)
            .then(|| self.events.pop_front())
            .flatten();
        self.missed += u64::from(lost.is_some());
        self.events.push_back(event);
        lost
    }

    /// All events since the last call, after one that says how many were lost.
    pub(crate) fn take(&mut self) -> Vec<Event> {
        let count = std::mem::take(&mut self.missed);
        let missed = (count > 0).then_some(Event::Missed { count });
        // Frees the memory as well, which a burst may have made large.
        let events = std::mem::take(&mut self.events);
        missed.into_iter().chain(events).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_gets_the_newest_events_and_the_number_it_missed() {
        let mut journal = Journal::default();
        for _ in 0..KEPT {
            assert!(journal.push(Event::PanicModeEnded).is_none());
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
