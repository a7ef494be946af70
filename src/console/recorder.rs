//! What the page is written from: read once a second while somebody looks, and not at all otherwise.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{broadcast, watch};

use super::history::History;
use super::timeline::{Entry, Timeline};
use crate::balance::control::Control;
use crate::event::Event;
use crate::explain::Explanation;
use crate::runtime::{clock, timer};
use crate::status::Status;

/// The time between two samples.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// A page is written from a sample that is no older than this one; a running recorder has one.
const FRESH: Duration = Duration::from_millis(1500);
/// How long samples are taken after the last viewer left.
const LINGER: Duration = Duration::from_secs(60);
/// How many connections may follow events at once.
const MOST_VIEWERS: usize = 64;

/// One balancer that the console shows.
pub(super) struct Watched {
    pub(super) name: Arc<str>,
    pub(super) control: Control,
    /// Not read until somebody looks: the channel keeps the newest events itself.
    events: Mutex<broadcast::Receiver<(Instant, Event)>>,
}

/// What is known of one balancer.
pub(super) struct Record {
    pub(super) name: Arc<str>,
    pub(super) status: Status,
    pub(super) explanation: Explanation,
    pub(super) history: History,
    pub(super) timeline: Timeline,
}

pub(super) struct Recorder {
    targets: Vec<Watched>,
    /// Counts samples, for those who wait for the next one.
    samples: watch::Sender<u64>,
    state: Mutex<State>,
}

struct State {
    records: Vec<Record>,
    sampled: Option<Instant>,
    is_running: bool,
    /// Connections that follow events, and those among them that are sent pages.
    followers: usize,
    viewers: usize,
    last_view: Instant,
}

/// A connection that follows events. Its drop frees the place.
pub(super) struct Viewer {
    recorder: Arc<Recorder>,
    sees_pages: bool,
}

impl Watched {
    pub(super) fn new(name: Arc<str>, control: Control) -> Self {
        let events = Mutex::new(control.subscribe());
        Self {
            name,
            control,
            events,
        }
    }

    fn new_events(&self) -> Vec<(Instant, Event)> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = Vec::new();
        loop {
            match events.try_recv() {
                Ok(event) => new.push(event),
                // The next call gives the oldest that is kept. What was missed is older than the list is long.
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return new,
            }
        }
    }
}

impl Recorder {
    pub(super) fn new(targets: Vec<Watched>) -> Self {
        let record = |watched: &Watched| {
            let status = Status::ended(watched.control.target().clone());
            Record {
                name: Arc::clone(&watched.name),
                explanation: status.explain(),
                status,
                history: History::default(),
                timeline: Timeline::default(),
            }
        };
        let state = State {
            records: targets.iter().map(record).collect(),
            sampled: None,
            is_running: false,
            followers: 0,
            viewers: 0,
            last_view: clock::now(),
        };
        Self {
            targets,
            samples: watch::Sender::new(0),
            state: Mutex::new(state),
        }
    }

    pub(super) fn targets(&self) -> &[Watched] {
        &self.targets
    }

    /// Somebody opened the page: samples are taken from now on. Outside a runtime with timers only this one.
    pub(super) fn look(self: &Arc<Self>) {
        let now = clock::now();
        let (is_running, is_fresh) = {
            let mut state = self.state();
            state.last_view = now;
            let sampled = state.sampled;
            let age = sampled.map(|at| now.saturating_duration_since(at));
            (state.is_running, age.is_some_and(|age| age < FRESH))
        };
        if !is_fresh {
            self.sample(now, !is_running);
        }
        self.start();
    }

    /// The last sample no longer shows what is so.
    pub(super) fn expire(&self) {
        self.state().sampled = None;
    }

    /// Returns what is known of all balancers, to whoever is quick: samples wait for it.
    pub(super) fn read<R>(&self, read: impl FnOnce(&[Record]) -> R) -> R {
        read(&self.state().records)
    }

    /// Counts samples.
    pub(super) fn samples(&self) -> watch::Receiver<u64> {
        let mut samples = self.samples.subscribe();
        samples.mark_changed();
        samples
    }

    /// A place for one more connection that follows events; `None` if all are taken.
    pub(super) fn follow(self: &Arc<Self>, sees_pages: bool) -> Option<Viewer> {
        let mut state = self.state();
        if state.followers >= MOST_VIEWERS {
            return None;
        }
        state.followers += 1;
        state.viewers += usize::from(sees_pages);
        drop(state);
        Some(Viewer {
            recorder: Arc::clone(self),
            sees_pages,
        })
    }

    fn sample(&self, now: Instant, into_history: bool) {
        // Without the lock: a balancer whose last clone is dropped meanwhile ends here, with foreign services.
        let read = |watched: &Watched| {
            let status = watched.control.status();
            let explanation = status.explain();
            let events = watched.new_events();
            let entries = events.iter().map(|(at, event)| Entry::of(*at, event));
            (status, explanation, entries.collect::<Vec<_>>())
        };
        let read: Vec<_> = self.targets.iter().map(read).collect();
        let mut state = self.state();
        for (record, (status, explanation, entries)) in state.records.iter_mut().zip(read) {
            if into_history {
                record.history.add(&status);
            }
            record.status = status;
            record.explanation = explanation;
            for entry in entries {
                record.timeline.add(entry);
            }
        }
        state.sampled = Some(now);
    }

    /// Takes samples from now on, if nobody does.
    fn start(self: &Arc<Self>) {
        let Some(runtime) = Handle::try_current().ok().filter(|_| timer::is_there()) else {
            return;
        };
        let is_running = std::mem::replace(&mut self.state().is_running, true);
        if !is_running {
            let running = Running(Arc::clone(self));
            runtime.spawn(async move {
                while let Some(pause) = timer::sleep_until(clock::now() + INTERVAL) {
                    pause.await;
                    let now = clock::now();
                    if running.0.ends(now) {
                        break;
                    }
                    running.0.sample(now, true);
                    running.0.samples.send_modify(|samples| *samples += 1);
                }
            });
        }
    }

    fn ends(&self, now: Instant) -> bool {
        let state = self.state();
        state.viewers == 0 && now.saturating_duration_since(state.last_view) >= LINGER
    }

    #[cfg(test)]
    pub(super) fn is_running(&self) -> bool {
        self.state().is_running
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that takes samples. Its end, also that of its runtime, is seen by the next viewer.
struct Running(Arc<Recorder>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_running = false;
        // The next samples have nothing to do with these.
        for record in &mut state.records {
            record.history = History::default();
        }
    }
}

impl Viewer {
    pub(super) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let mut state = self.recorder.state();
        state.followers -= 1;
        state.viewers -= usize::from(self.sees_pages);
        if self.sees_pages {
            state.last_view = clock::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use tower_layer::Layer as _;

    use super::*;
    use crate::balance::{BalanceLayer, connect};
    use crate::discovery::List;
    use crate::model::instance::Instance;

    fn recorder() -> (impl Sized, Arc<Recorder>) {
        let list = List::new([Instance::new("a", ([127, 0, 0, 1], 80))]).unwrap();
        let connector = connect::per_instance(|_: &Instance| {
            tower::service_fn(|(): ()| async { Ok::<_, std::io::Error>(()) })
        });
        let balance = BalanceLayer::new(list, "worker:http")
            .unwrap()
            .layer(connector);
        let watched = Watched::new("jobs".into(), balance.control().clone());
        (balance, Arc::new(Recorder::new(vec![watched])))
    }

    fn taken(recorder: &Recorder) -> u64 {
        *recorder.samples.borrow()
    }

    #[tokio::test(start_paused = true)]
    async fn samples_are_taken_from_the_first_look_until_a_minute_after_the_last() {
        let (_balance, recorder) = recorder();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!((recorder.is_running(), taken(&recorder)), (false, 0));
        recorder.look();
        tokio::time::sleep(Duration::from_millis(30_500)).await;
        assert_eq!(taken(&recorder), 30);
        let viewer = recorder.follow(true).unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!((recorder.is_running(), taken(&recorder)), (true, 630));
        recorder.read(|records| assert_eq!(records[0].history.all().len(), 120));
        drop(viewer);
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert!(recorder.is_running());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!recorder.is_running());
        let ended = taken(&recorder);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(taken(&recorder), ended);
        recorder.read(|records| assert_eq!(records[0].history.all().len(), 0));
        recorder.look();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(taken(&recorder), ended + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_of_events_alone_keeps_no_samples_alive() {
        let (_balance, recorder) = recorder();
        let _follower = recorder.follow(false).unwrap();
        recorder.look();
        tokio::time::sleep(Duration::from_secs(62)).await;
        assert!(!recorder.is_running());
    }

    #[test]
    fn another_runtime_goes_on_where_the_first_ended() {
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
        };
        let first = runtime();
        let (_balance, recorder) = first.block_on(async { recorder() });
        first.block_on(async {
            recorder.look();
            assert!(recorder.is_running());
        });
        drop(first);
        assert!(!recorder.is_running());
        runtime().block_on(async {
            recorder.look();
            tokio::time::timeout(Duration::from_secs(10), recorder.samples().changed())
                .await
                .unwrap()
                .unwrap();
        });
        // Without a runtime there is the one sample.
        recorder.look();
    }
}
