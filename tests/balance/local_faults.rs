//! What the process itself lacks for a connection is charged to no instance.

use std::future::{Future, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use rolecall::{Balance, BalanceConfig, BalanceLayer, Error, ErrorKind, Event, Instance, List};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service};

use crate::support::{addr, next_event};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// `EMFILE`.
const NO_DESCRIPTORS: i32 = 24;

/// A process that may have no file descriptors left, and all its dials and connections.
#[derive(Clone, Default)]
struct Process {
    starves: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Process {
    fn starves(&self, starves: bool) {
        self.starves.store(starves, SeqCst);
    }

    fn connects(&self) -> io::Result<()> {
        self.asked.fetch_add(1, SeqCst);
        if self.starves.load(SeqCst) {
            return Err(io::Error::from_raw_os_error(NO_DESCRIPTORS));
        }
        Ok(())
    }

    fn balance(&self) -> Balance<Line> {
        let instances = ["a", "b", "c"].iter().zip(1..);
        let instances = instances.map(|(&id, port)| Instance::new(id, addr(port)));
        let config = BalanceConfig::builder().unavailable_after(3 * SECOND);
        BalanceLayer::new(List::new(instances).unwrap(), "worker:http")
            .unwrap()
            .config(config.build().unwrap())
            .layer(Connector(self.clone()))
    }
}

struct Connector(Process);

impl Service<Instance> for Connector {
    type Response = Line;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Line>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Instance) -> Self::Future {
        let process = self.0.clone();
        Box::pin(async move { process.connects().map(|()| Line(process)) })
    }
}

/// Needs another connection for every request.
#[derive(Clone)]
struct Line(Process);

impl Service<()> for Line {
    type Response = ();
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.connects())
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finds_nothing_to_connect_by_waits_and_loses_no_connection() {
    let process = Process::default();
    let mut balance = process.balance();
    balance.call(()).await.unwrap();
    sleep(SECOND).await;
    process.starves(true);
    let asked = process.asked.load(SeqCst);
    let call = tokio::spawn(balance.call(()));
    sleep(SECOND).await;
    assert!(!call.is_finished());
    let asked = process.asked.load(SeqCst) - asked;
    assert!(
        (10..100).contains(&asked),
        "it asks now and then, not {asked} times"
    );
    process.starves(false);
    let began = Instant::now();
    call.await.unwrap().unwrap();
    assert!(began.elapsed() <= 100 * MS);
    let status = balance.control().status();
    assert_eq!(status.usable, 3);
    for member in status.members {
        assert_eq!((member.in_flight, member.failures), (0, 0));
        assert!(member.since > SECOND, "it is connected as before");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_too_long_was_not_sent() {
    let process = Process::default();
    let mut balance = process.balance();
    balance.call(()).await.unwrap();
    process.starves(true);
    let began = Instant::now();
    let error: Error = balance.call(()).await.unwrap_err();
    let waited = began.elapsed();
    assert!(
        (3 * SECOND..=3 * SECOND + 100 * MS).contains(&waited),
        "{waited:?}"
    );
    assert!(
        matches!(error.kind(), ErrorKind::Call) && !error.was_sent(),
        "{error:?}"
    );
    assert!(error.instance().is_some());
    let cause = error.into_source().unwrap();
    let cause = cause.downcast::<io::Error>().unwrap();
    assert_eq!(cause.raw_os_error(), Some(NO_DESCRIPTORS));
}

#[tokio::test(start_paused = true)]
async fn members_that_could_not_be_dialled_for_long_are_back_within_a_second() {
    let process = Process::default();
    process.starves(true);
    let balance = process.balance();
    let mut events = balance.control().events();
    sleep(60 * SECOND).await;
    let failed = next_event(&mut events, |event| {
        matches!(event, Event::DialFailed { .. })
    })
    .await;
    let Event::DialFailed {
        error, retry_in, ..
    } = failed
    else {
        panic!("{failed:?}");
    };
    assert!(error.is_local_fault() && retry_in <= SECOND);
    process.starves(false);
    sleep(SECOND + 10 * MS).await;
    assert_eq!(balance.control().status().usable, 3);
}
