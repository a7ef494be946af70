//! Scripted discovery, connector and services: everything that a balancer meets, in the hands of a test.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::{BoxStream, DiscoveryError};
use rolecall::{
    Balance, BalanceConfig, BalanceLayer, Discovery, Event, Instance, InstanceSet, MemberState,
    MemberStatus, Target,
};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tower::{Layer, Service};

pub(crate) type Answer = Result<InstanceSet, DiscoveryError>;

/// A discovery that says what the test says; it ends when the test drops its feed.
pub(crate) struct Script(Mutex<Option<mpsc::UnboundedReceiver<Answer>>>);

impl Script {
    pub(crate) fn new() -> (Self, mpsc::UnboundedSender<Answer>) {
        let (feed, answers) = mpsc::unbounded_channel();
        (Self(Mutex::new(Some(answers))), feed)
    }
}

impl Discovery for Script {
    fn watch(&self, _: &Target) -> BoxStream<'static, Answer> {
        let answers = self.0.lock().unwrap().take().expect("watched once");
        futures::stream::unfold(answers, async |mut answers| {
            Some((answers.recv().await?, answers))
        })
        .boxed()
    }

    fn peers(&self, _: &rolecall::Boundary) -> BoxStream<'static, Answer> {
        rolecall::discovery::no_peers()
    }

    fn refresh(&self, _: &Target) {}
}

/// What an instance does with the next thing asked of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Does {
    /// Answers after that long.
    Answer(Duration),
    Fail,
    Hang,
    Panic,
}

/// What a dial, or getting ready, comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Gets {
    Ready,
    Refused,
    Nowhere,
    Panic,
}

/// One instance, as the test sees it.
pub(crate) struct Node {
    pub(crate) id: String,
    dial: Mutex<Gets>,
    ready: Mutex<Gets>,
    call: Mutex<Does>,
    wakers: Mutex<Vec<Waker>>,
    /// Connections made.
    pub(crate) dials: AtomicUsize,
    pub(crate) calls: AtomicUsize,
    /// Dials under way.
    pub(crate) dialling: AtomicUsize,
    /// Services and clones of them in being.
    pub(crate) alive: AtomicUsize,
}

impl Node {
    fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            dial: Mutex::new(Gets::Ready),
            ready: Mutex::new(Gets::Ready),
            call: Mutex::new(Does::Answer(Duration::from_millis(10))),
            wakers: Mutex::default(),
            dials: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            dialling: AtomicUsize::new(0),
            alive: AtomicUsize::new(0),
        }
    }

    pub(crate) fn when_dialled(&self, gets: Gets) {
        *self.dial.lock().unwrap() = gets;
    }

    pub(crate) fn when_polled(&self, gets: Gets) {
        *self.ready.lock().unwrap() = gets;
        for waker in self.wakers.lock().unwrap().drain(..) {
            waker.wake();
        }
    }

    /// Wakes nobody of those that wait for it so far.
    pub(crate) fn forget_wakers(&self) {
        self.wakers.lock().unwrap().clear();
    }

    pub(crate) fn when_called(&self, does: Does) {
        *self.call.lock().unwrap() = does;
    }

    pub(crate) fn dials(&self) -> usize {
        self.dials.load(SeqCst)
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    pub(crate) fn dialling(&self) -> usize {
        self.dialling.load(SeqCst)
    }

    pub(crate) fn alive(&self) -> usize {
        self.alive.load(SeqCst)
    }
}

/// All instances that were ever heard of, and the connector that dials them.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<HashMap<String, Arc<Node>>>>);

impl World {
    pub(crate) fn node(&self, id: &str) -> Arc<Node> {
        let mut nodes = self.0.lock().unwrap();
        Arc::clone(
            nodes
                .entry(id.to_owned())
                .or_insert_with(|| Arc::new(Node::new(id))),
        )
    }
}

impl Service<Instance> for World {
    type Response = Line;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Line, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, instance: Instance) -> Self::Future {
        let node = self.node(instance.id().as_str());
        node.dials.fetch_add(1, SeqCst);
        let under_way = Dialling::new(&node);
        Box::pin(async move {
            let _under_way = under_way;
            let dial = *node.dial.lock().unwrap();
            match dial {
                Gets::Ready => Ok(Line::new(node)),
                Gets::Refused => Err(std::io::Error::from_raw_os_error(111)),
                Gets::Nowhere => std::future::pending().await,
                Gets::Panic => panic!("the connector panics"),
            }
        })
    }
}

/// Counts a dial for as long as its future lives: a socket that is being opened.
struct Dialling(Arc<Node>);

impl Dialling {
    fn new(node: &Arc<Node>) -> Self {
        node.dialling.fetch_add(1, SeqCst);
        Self(Arc::clone(node))
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.0.dialling.fetch_sub(1, SeqCst);
    }
}

/// The service of one connection.
pub(crate) struct Line(Arc<Node>);

impl Line {
    fn new(node: Arc<Node>) -> Self {
        node.alive.fetch_add(1, SeqCst);
        Self(node)
    }
}

impl Clone for Line {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.0))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, SeqCst);
    }
}

#[derive(Debug)]
pub(crate) struct Fault(pub(crate) String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} fails", self.0)
    }
}

impl std::error::Error for Fault {}

impl Service<()> for Line {
    type Response = String;
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Result<String, Fault>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let ready = *self.0.ready.lock().unwrap();
        match ready {
            Gets::Ready => Poll::Ready(Ok(())),
            Gets::Refused => Poll::Ready(Err(Fault(self.0.id.clone()))),
            Gets::Nowhere => {
                self.0.wakers.lock().unwrap().push(cx.waker().clone());
                Poll::Pending
            }
            Gets::Panic => panic!("poll_ready panics"),
        }
    }

    fn call(&mut self, (): ()) -> Self::Future {
        // A connection lives as long as its requests do.
        let line = self.clone();
        line.0.calls.fetch_add(1, SeqCst);
        let does = *line.0.call.lock().unwrap();
        Box::pin(async move {
            match does {
                Does::Answer(after) => {
                    sleep(after).await;
                    Ok(line.0.id.clone())
                }
                Does::Fail => Err(Fault(line.0.id.clone())),
                Does::Hang => std::future::pending().await,
                Does::Panic => panic!("the service panics"),
            }
        })
    }
}

pub(crate) fn addr(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

pub(crate) fn instance(id: &str) -> Instance {
    Instance::new(id, addr(80))
}

pub(crate) fn set<'a>(ids: impl IntoIterator<Item = &'a str>) -> InstanceSet {
    ids.into_iter().map(instance).collect()
}

/// A balancer of these instances, all connected; and what the test needs to play with it.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) feed: mpsc::UnboundedSender<Answer>,
    pub(crate) balance: Balance<Line>,
}

impl Stage {
    pub(crate) async fn of(ids: &[&str]) -> Self {
        Self::with(BalanceConfig::default(), ids).await
    }

    pub(crate) async fn with(config: BalanceConfig, ids: &[&str]) -> Self {
        Self::limited(config, None, ids).await
    }

    /// With a time limit for each attempt.
    pub(crate) async fn limited(
        config: BalanceConfig,
        limit: Option<Duration>,
        ids: &[&str],
    ) -> Self {
        let stage = Self::made(config, limit);
        stage.announce(set(ids.iter().copied()));
        stage.until(|status| status.usable == ids.len()).await;
        stage
    }

    /// Discovery has not said anything yet.
    pub(crate) fn unfed(config: BalanceConfig) -> Self {
        Self::made(config, None)
    }

    fn made(config: BalanceConfig, limit: Option<Duration>) -> Self {
        let (script, feed) = Script::new();
        let world = World::default();
        let mut layer = BalanceLayer::new(script, "worker:http")
            .unwrap()
            .config(config);
        if let Some(limit) = limit {
            layer = layer.attempt_timeout(limit);
        }
        let balance = layer.layer(world.clone());
        Self {
            world,
            feed,
            balance,
        }
    }

    pub(crate) fn announce(&self, set: InstanceSet) {
        self.feed.send(Ok(set)).expect("the driver listens");
    }

    pub(crate) fn node(&self, id: &str) -> Arc<Node> {
        self.world.node(id)
    }

    pub(crate) fn state(&self, id: &str) -> Option<MemberState> {
        let members = self.balance.control().status().members;
        let member = members.into_iter().find(|m| *m.instance.id() == *id)?;
        Some(member.state)
    }

    pub(crate) fn member(&self, id: &str) -> MemberStatus {
        let members = self.balance.control().status().members;
        let member = members.into_iter().find(|m| *m.instance.id() == *id);
        member.expect("a known instance")
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.balance
            .control()
            .status()
            .members
            .iter()
            .map(|m| m.in_flight)
            .sum()
    }

    /// Lets time pass until it is so; a minute is enough for anything.
    pub(crate) async fn until(&self, reached: impl Fn(&rolecall::Status) -> bool) {
        let reached = async {
            while !reached(&self.balance.control().status()) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        if timeout(Duration::from_secs(60), reached).await.is_err() {
            panic!("never reached: {}", self.balance.control().status());
        }
    }

    pub(crate) async fn call(&self) -> Result<String, rolecall::Error> {
        self.balance.clone().call(()).await
    }

    /// How many of so many calls, one after another, each instance answered.
    pub(crate) async fn shares(&self, calls: usize) -> HashMap<String, usize> {
        let mut shares = HashMap::new();
        for _ in 0..calls {
            if let Ok(id) = self.call().await {
                *shares.entry(id).or_default() += 1;
            }
        }
        shares
    }
}

/// The next event that is `wanted`.
pub(crate) async fn next_event(
    events: &mut (impl StreamExt<Item = Event> + Unpin),
    mut wanted: impl FnMut(&Event) -> bool,
) -> Event {
    let found = async {
        while let Some(event) = events.next().await {
            if wanted(&event) {
                return event;
            }
        }
        panic!("the events ended");
    };
    timeout(Duration::from_secs(60), found)
        .await
        .expect("the event comes")
}
