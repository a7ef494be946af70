//! tower's own `Balance`, as its documentation builds it, on tokio's paused clock.
//!
//! Nothing sleeps and nothing is spawned: before each call the clock is advanced to the simulated moment, a request is a
//! call of the balancer, and its future is polled when the simulated answer is there, or dropped when the caller gives up.
//! A server that is down answers with an error, as a connection does that is dialled again by tower's `reconnect`: a
//! service that failed in `poll_ready` would be dropped by `Balance` for good.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::{self, Debug};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::Stream;
use rand::rngs::SmallRng;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tower::BoxError;
use tower::Service;
use tower::balance::p2c::Balance;
use tower::discover::{Change, Discover};
use tower::load::{CompleteOnResponse, Load, PeakEwmaDiscover, PendingRequestsDiscover};

use super::{Balancer, Listed, Outcome, Picked};
use crate::chance::{Stream as Purpose, stream};
use crate::measures::Measures;
use crate::moment::Moment;
use crate::scenario::Scenario;
use crate::server::Server;
use crate::world::{World, WorldError};

/// linkerd's defaults for the same metric.
const DEFAULT_RTT: Duration = Duration::from_millis(30);
const DECAY: Duration = Duration::from_secs(10);

pub(crate) fn run_peak_ewma(scenario: &Scenario, seed: u64) -> Result<Measures, WorldError> {
    let completion = CompleteOnResponse::default;
    run(scenario, seed, |news| {
        PeakEwmaDiscover::new(news, DEFAULT_RTT, DECAY, completion())
    })
}

pub(crate) fn run_pending_requests(scenario: &Scenario, seed: u64) -> Result<Measures, WorldError> {
    run(scenario, seed, |news| {
        PendingRequestsDiscover::new(news, CompleteOnResponse::default())
    })
}

fn run<D>(
    scenario: &Scenario,
    seed: u64,
    discover: impl Fn(News) -> D,
) -> Result<Measures, WorldError>
where
    Tower<D>: Balancer,
    D: Discover<Key = usize> + Unpin,
    D::Service: Service<(), Error = Failed>,
{
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    // The balancer reads the clock of the runtime that is entered.
    let _entered = Runtime::enter(&runtime);
    let clock = Rc::new(Clock::default());
    let balancer = |client| {
        let news = News::default();
        let desk = Desk::default();
        Tower {
            balance: Balance::from_rng(
                discover(news.clone()),
                Dice(stream(seed, Purpose::Client(client))),
            ),
            news,
            listed: Vec::new(),
            desk,
            clock: Rc::clone(&clock),
        }
    };
    World::new(scenario, seed, balancer).run()
}

struct Tower<D>
where
    D: Discover,
    D::Key: std::hash::Hash,
{
    balance: Balance<D, ()>,
    news: News,
    listed: Vec<usize>,
    desk: Desk,
    clock: Rc<Clock>,
}

/// A call under way: the balancer's future, and what answers it.
struct Call {
    answer: Sender,
    future: Pin<Box<dyn Future<Output = Result<(), BoxError>>>>,
}

impl<D> Balancer for Tower<D>
where
    D: Discover<Key = usize> + Unpin,
    D::Error: Into<BoxError>,
    D::Service: Service<(), Response = (), Error = Failed> + Load,
    <D::Service as Load>::Metric: Debug,
    <D::Service as Service<()>>::Future: 'static,
{
    type Attempt = Call;

    fn announce(&mut self, set: &[Listed], now: Moment) {
        self.clock.advance_to(now);
        let set: Vec<_> = set
            .iter()
            .filter(|listed| !listed.draining)
            .map(|listed| listed.server)
            .collect();
        let mut changes = self.news.0.borrow_mut();
        let gone = self.listed.iter().filter(|server| !set.contains(server));
        changes.extend(gone.map(|&server| Change::Remove(server)));
        let new = set.iter().filter(|server| !self.listed.contains(server));
        changes.extend(new.map(|&server| {
            Change::Insert(
                server,
                Line {
                    server,
                    desk: self.desk.clone(),
                },
            )
        }));
        self.listed = set;
    }

    /// tower's balancer cannot be told to avoid anybody.
    fn pick(&mut self, _: &[Server], _: &[usize], now: Moment) -> Picked<Call> {
        self.clock.advance_to(now);
        let mut cx = Context::from_waker(Waker::noop());
        match self.balance.poll_ready(&mut cx) {
            Poll::Pending => Picked::Wait,
            Poll::Ready(Err(_)) => Picked::Refused,
            Poll::Ready(Ok(())) => {
                let future = Box::pin(self.balance.call(()));
                let called = self.desk.0.take();
                called.map_or(Picked::Refused, |(server, answer)| {
                    Picked::Sent(server, Call { answer, future })
                })
            }
        }
    }

    fn finish(&mut self, mut call: Call, outcome: Outcome, now: Moment) {
        self.clock.advance_to(now);
        let answer = match outcome {
            Outcome::Success => Ok(()),
            Outcome::Failure | Outcome::Overloaded => Err(Failed),
            // The future is dropped, as when a caller's timeout fires.
            Outcome::Cancelled => return,
        };
        if call.answer.send(answer).is_ok() {
            let mut cx = Context::from_waker(Waker::noop());
            let polled = call.future.as_mut().poll(&mut cx);
            debug_assert!(polled.is_ready(), "an answered call is ready");
        }
    }
}

/// tokio's paused clock, as far as it was advanced.
#[derive(Default)]
struct Clock(Cell<Moment>);

impl Clock {
    fn advance_to(&self, now: Moment) {
        let passed = now.saturating_sub(self.0.replace(now));
        if passed > 0 {
            // The clock moves at the first poll; what follows gives other tasks a turn, and there are none.
            let advance = pin!(tokio::time::advance(Duration::from_nanos(passed)));
            let _ = advance.poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

/// Changes that the balancer has not seen yet.
#[derive(Clone, Default)]
struct News(Rc<RefCell<VecDeque<Change<usize, Line>>>>);

impl Stream for News {
    type Item = Result<Change<usize, Line>, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let change = self.0.borrow_mut().pop_front();
        change.map_or(Poll::Pending, |change| Poll::Ready(Some(Ok(change))))
    }
}

/// Where a called service leaves word of it.
#[derive(Clone, Default)]
struct Desk(Rc<Cell<Option<(usize, Sender)>>>);

type Sender = oneshot::Sender<Result<(), Failed>>;

/// The service of one server.
struct Line {
    server: usize,
    desk: Desk,
}

impl Service<()> for Line {
    type Response = ();
    type Error = Failed;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Answer {
        let (sender, receiver) = oneshot::channel();
        self.desk.0.set(Some((self.server, sender)));
        Answer(receiver)
    }
}

struct Answer(oneshot::Receiver<Result<(), Failed>>);

impl Future for Answer {
    type Output = Result<(), Failed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.0).poll(cx);
        answer.map(|answer| answer.unwrap_or(Err(Failed)))
    }
}

#[derive(Debug)]
struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server failed")
    }
}

impl std::error::Error for Failed {}

/// tower's trait for a generator of ours.
struct Dice(SmallRng);

impl tower::util::rng::Rng for Dice {
    fn next_u64(&mut self) -> u64 {
        rand::Rng::next_u64(&mut self.0)
    }
}
