//! One simulated server: slots, a queue, and whatever is wrong with it.
//!
//! What it has done for a request is measured against one counter, the *progress*: seconds of work that each request in
//! service has got since the beginning. A slow server's counter runs slowly, a hanging one's stands still, and where
//! requests share the slots it runs slower the more there are. A request that begins at progress `p` and needs `w` is
//! done at `p + w`, whatever happens to the pace meanwhile.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

use crate::moment::Moment;
use crate::scenario::{Fail, Group, Queue, Refusal};

/// What can be wrong with a server, or with what discovery says of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Condition {
    Slow(f64),
    Fail(Fail),
    Hang,
    Down,
    Unannounced,
    Draining,
}

/// How a server takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reception {
    Taken,
    /// It has too much to do.
    Shed,
    /// An error at once, or nobody there; also a refusal that balancers cannot tell from an error.
    Failed,
}

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) weight: u16,
    pub(crate) zone: Option<Rc<str>>,
    /// Requests on their way to it.
    pub(crate) coming: usize,
    /// Grows with each restart.
    pub(crate) incarnation: u32,
    /// When the process was last lost.
    pub(crate) lost_at: Moment,
    slots: usize,
    queue: Queue,
    queue_limit: usize,
    refusal: Refusal,
    slow: f64,
    conditions: Vec<Condition>,
    serving: BinaryHeap<Serving>,
    waiting: VecDeque<(u64, f64)>,
    progress: f64,
    at: Moment,
}

impl Server {
    pub(crate) fn new(group: &Group) -> Self {
        Self {
            weight: group.weight,
            zone: group.zone.as_deref().map(Rc::from),
            coming: 0,
            incarnation: 0,
            lost_at: 0,
            slots: group.slots,
            queue: group.queue,
            queue_limit: group.queue_limit.unwrap_or(usize::MAX),
            refusal: group.refusal,
            slow: group.slow,
            conditions: Vec::new(),
            serving: BinaryHeap::new(),
            waiting: VecDeque::new(),
            progress: 0.0,
            at: 0,
        }
    }

    pub(crate) fn is(&self, condition: Condition) -> bool {
        self.conditions.contains(&condition)
    }

    /// Begins a condition. A process that goes down loses its requests, which are returned.
    pub(crate) fn begin(&mut self, condition: Condition, now: Moment) -> Vec<u64> {
        self.proceed(now);
        self.conditions.push(condition);
        if condition != Condition::Down {
            return Vec::new();
        }
        self.incarnation += 1;
        self.lost_at = now;
        let served = self.serving.drain().map(|serving| serving.request);
        let waited = self.waiting.drain(..).map(|(request, _)| request);
        let mut lost: Vec<_> = served.chain(waited).collect();
        lost.sort_unstable();
        lost
    }

    pub(crate) fn end(&mut self, condition: Condition, now: Moment) {
        self.proceed(now);
        if let Some(place) = self.conditions.iter().position(|other| *other == condition) {
            self.conditions.swap_remove(place);
        }
    }

    /// A request of so many seconds of work arrives.
    pub(crate) fn receive(&mut self, request: u64, work: f64, luck: f64, now: Moment) -> Reception {
        if self.is(Condition::Down) || self.fails(luck, true) {
            return Reception::Failed;
        }
        if self.serving.len() < self.slots || self.queue == Queue::Sharing {
            if self.queue == Queue::Sharing
                && self.serving.len() >= self.slots.saturating_add(self.queue_limit)
            {
                return self.refuse();
            }
            self.proceed(now);
            self.serve(request, work);
        } else if self.waiting.len() < self.queue_limit {
            self.waiting.push_back((request, work));
        } else {
            return self.refuse();
        }
        Reception::Taken
    }

    /// A request that is done, if one is.
    pub(crate) fn complete(&mut self, now: Moment) -> Option<u64> {
        /// A thousandth of the nanosecond to which moments are rounded.
        const ROUNDING: f64 = 1e-12;
        self.proceed(now);
        let first = self.serving.peek()?;
        if first.done_at > self.progress + ROUNDING {
            return None;
        }
        let done = self.serving.pop()?.request;
        if let Some((request, work)) = self.waiting.pop_front() {
            self.serve(request, work);
        }
        Some(done)
    }

    /// When the next request will be done, as things are now.
    pub(crate) fn next_completion(&self) -> Option<Moment> {
        let first = self.serving.peek()?;
        let pace = self.pace();
        let rest = (first.done_at - self.progress).max(0.0) / pace;
        (pace > 0.0).then(|| self.at + (rest * 1e9).ceil() as Moment)
    }

    /// Whether a request of this luck fails, on arrival or after service.
    pub(crate) fn fails(&self, luck: f64, at_once: bool) -> bool {
        self.conditions.iter().any(|condition| match condition {
            Condition::Fail(fail) => fail.at_once == at_once && luck < fail.share,
            _ => false,
        })
    }

    /// Seconds until one more request would be answered, by the mean service time; for whoever sees everything. A failure
    /// costs as much as `failure` seconds.
    pub(crate) fn expected_wait(&self, mean: f64, failure: f64) -> f64 {
        if self.is(Condition::Down) || self.is(Condition::Hang) {
            return f64::INFINITY;
        }
        let there = (self.serving.len() + self.waiting.len() + self.coming + 1) as f64;
        let slots = self.slots as f64;
        let rounds = match self.queue {
            Queue::Fifo => 1.0 + (there - slots).max(0.0) / slots,
            Queue::Sharing => (there / slots).max(1.0),
        };
        let failing = self.conditions.iter().map(|condition| match condition {
            Condition::Fail(fail) => fail.share,
            _ => 0.0,
        });
        mean * rounds * self.slowness() + failure * failing.sum::<f64>()
    }

    fn refuse(&self) -> Reception {
        match self.refusal {
            Refusal::Overloaded => Reception::Shed,
            Refusal::Failure => Reception::Failed,
        }
    }

    fn serve(&mut self, request: u64, work: f64) {
        self.serving.push(Serving {
            done_at: self.progress + work,
            request,
        });
    }

    fn proceed(&mut self, now: Moment) {
        self.progress += (now - self.at) as f64 * 1e-9 * self.pace();
        self.at = now;
    }

    fn slowness(&self) -> f64 {
        let slow = self.conditions.iter().map(|condition| match condition {
            Condition::Slow(factor) => *factor,
            _ => 1.0,
        });
        self.slow * slow.product::<f64>()
    }

    /// Seconds of work that each request in service gets in a second.
    fn pace(&self) -> f64 {
        if self.is(Condition::Hang) {
            return 0.0;
        }
        let share = match self.queue {
            Queue::Fifo => 1.0,
            Queue::Sharing => (self.slots as f64 / self.serving.len().max(1) as f64).min(1.0),
        };
        share / self.slowness()
    }
}

/// A request in service; the heap's greatest is the one that is done first.
#[derive(Clone, Debug)]
struct Serving {
    done_at: f64,
    request: u64,
}

impl Ord for Serving {
    fn cmp(&self, other: &Self) -> Ordering {
        let done = other.done_at.total_cmp(&self.done_at);
        done.then(other.request.cmp(&self.request))
    }
}

impl PartialOrd for Serving {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Serving {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Serving {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::{Stream, exponential, stream};
    use crate::moment::{SECOND, from_seconds};

    const MS: Moment = SECOND / 1000;

    fn server(slots: usize, queue: Queue) -> Server {
        let group = Group {
            name: "s".into(),
            count: 1,
            slots,
            queue,
            queue_limit: None,
            refusal: Refusal::default(),
            slow: 1.0,
            weight: 1,
            zone: None,
        };
        Server::new(&group)
    }

    /// Lets a server work until it has nothing to do, and says what was done when.
    fn completions(server: &mut Server) -> Vec<(u64, Moment)> {
        let mut done = Vec::new();
        while let Some(at) = server.next_completion() {
            while let Some(request) = server.complete(at) {
                done.push((request, at));
            }
        }
        done
    }

    #[test]
    fn fifo_serves_as_many_as_it_has_slots_in_order() {
        let mut server = server(2, Queue::Fifo);
        for request in 0..4 {
            server.receive(request, 0.010, 1.0, 0);
        }
        let done = completions(&mut server);
        assert_eq!(
            done,
            [(0, 10 * MS), (1, 10 * MS), (2, 20 * MS), (3, 20 * MS)]
        );
    }

    #[test]
    fn sharing_serves_all_at_once_and_more_slowly() {
        let mut server = server(2, Queue::Sharing);
        for request in 0..4 {
            server.receive(request, 0.010, 1.0, 0);
        }
        assert!(
            completions(&mut server)
                .iter()
                .all(|&(_, at)| at == 20 * MS)
        );
    }

    #[test]
    fn what_is_in_service_follows_a_change_of_pace() {
        let mut server = server(1, Queue::Fifo);
        server.receive(0, 0.010, 1.0, 0);
        server.begin(Condition::Slow(10.0), 5 * MS);
        server.begin(Condition::Hang, 15 * MS);
        assert_eq!(
            server.next_completion(),
            None,
            "nothing is done while it hangs"
        );
        server.end(Condition::Hang, 100 * MS);
        server.end(Condition::Slow(10.0), 110 * MS);
        assert_eq!(
            completions(&mut server),
            [(0, 113 * MS)],
            "5 + 1 + 1 of 10 ms were done"
        );
    }

    #[test]
    fn a_process_that_goes_down_loses_what_it_had() {
        let mut server = server(1, Queue::Fifo);
        for request in 0..3 {
            server.receive(request, 0.010, 1.0, 0);
        }
        assert_eq!(server.begin(Condition::Down, MS), [0, 1, 2]);
        assert_eq!(server.receive(3, 0.010, 1.0, MS), Reception::Failed);
        server.end(Condition::Down, 2 * MS);
        assert_eq!(server.receive(4, 0.010, 1.0, 2 * MS), Reception::Taken);
        assert_eq!(
            (server.incarnation, completions(&mut server)),
            (1, vec![(4, 12 * MS)])
        );
    }

    #[test]
    fn a_full_server_refuses_as_it_was_told_to() {
        for (refusal, reception) in [
            (Refusal::Overloaded, Reception::Shed),
            (Refusal::Failure, Reception::Failed),
        ] {
            let mut server = server(1, Queue::Fifo);
            (server.queue_limit, server.refusal) = (1, refusal);
            let received = [0, 1, 2].map(|request| server.receive(request, 0.010, 1.0, 0));
            assert_eq!(received, [Reception::Taken, Reception::Taken, reception]);
        }
    }

    /// Mean time in the system of a server with Poisson arrivals and exponential service, in milliseconds.
    fn mean_sojourn(slots: usize, queue: Queue, load: f64) -> f64 {
        const REQUESTS: u64 = 200_000;
        let (mut rng, mut server) = (stream(1, Stream::Workload), server(slots, queue));
        let (mut arrivals, mut now, mut total) = (Vec::new(), 0, 0.0);
        let mut arrival = 0.0;
        while (arrivals.len() as u64) < REQUESTS {
            arrival += 0.010 / (load * slots as f64) * exponential(&mut rng);
            let at = from_seconds(arrival);
            while let Some(next) = server.next_completion().filter(|next| *next <= at) {
                now = next;
                while let Some(done) = server.complete(now) {
                    total += (now - arrivals[done as usize]) as f64;
                }
            }
            now = now.max(at);
            server.receive(
                arrivals.len() as u64,
                0.010 * exponential(&mut rng),
                1.0,
                now,
            );
            arrivals.push(now);
        }
        total / REQUESTS as f64 / MS as f64
    }

    #[test]
    fn waiting_is_what_queueing_theory_says() {
        // Erlang C for four slots at 80 %: 0.5964 wait, 1 / (4 - 3.2) of a service time on average.
        let erlang = 10.0 * (1.0 + 0.5964 / 0.8);
        for (slots, queue, load, theory) in [
            (1, Queue::Fifo, 0.7, 10.0 / 0.3),
            (1, Queue::Sharing, 0.7, 10.0 / 0.3),
            (4, Queue::Fifo, 0.8, erlang),
            (4, Queue::Sharing, 0.8, erlang),
        ] {
            let measured = mean_sojourn(slots, queue, load);
            let error = (measured / theory - 1.0).abs();
            assert!(
                error < 0.05,
                "{slots} slots, {queue:?}: {measured:.1} ms, not {theory:.1}"
            );
        }
    }
}
