//! A balancer and the runtimes that it is used in: one after the other, side by side, none.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::StreamExt;
use rolecall::{
    Balance, BalanceConfig, BalanceLayer, Error, ErrorKind, Event, List, MemberState, Registrar,
    Registration, Registry,
};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, advance, sleep, timeout};
use tower::{Layer, Service};

use crate::support::{Gets, Line, World, addr, instance, next_event};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Longer than any test waits for what it expects.
const LONG: Duration = Duration::from_secs(600);

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn paused() -> Runtime {
    let mut runtime = Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap()
}

fn threads() -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(2).enable_time().build().unwrap()
}

fn layer(ids: &[&str]) -> BalanceLayer {
    let list = List::new(ids.iter().map(|id| instance(id))).unwrap();
    BalanceLayer::new(list, "worker:http").unwrap()
}

fn patient() -> BalanceConfig {
    let config = BalanceConfig::builder().unavailable_after(LONG);
    config.build().unwrap()
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn source(error: &Error) -> String {
    error.source().expect("a source").to_string()
}

#[test]
fn a_static_balancer_works_in_one_runtime_after_the_other() {
    static WORLD: LazyLock<World> = LazyLock::new(World::default);
    static BALANCE: LazyLock<Balance<Line>> =
        LazyLock::new(|| layer(&["a", "b"]).layer(WORLD.clone()));

    let mut events = BALANCE.control().events();
    for runtime in [one_thread(), threads(), paused(), one_thread(), threads()] {
        runtime.block_on(async {
            for _ in 0..20 {
                BALANCE.clone().call(()).await.unwrap();
            }
            while BALANCE.control().status().usable < 2 {
                sleep(MS).await;
            }
        });
        drop(runtime);
        let status = BALANCE.control().status();
        assert_eq!(
            status.usable, 0,
            "connections end with their runtime: {status}"
        );
        assert!(status.members.iter().all(|member| member.in_flight == 0));
        let alive = ["a", "b"].map(|id| WORLD.node(id).alive());
        assert_eq!(alive, [0, 0]);
        let told: Vec<_> = std::iter::from_fn(|| match poll_once(pin!(events.next())) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        })
        .collect();
        let stopped = |event: &&Event| matches!(event, Event::DriverStopped { connections: 2, .. });
        assert_eq!(told.iter().filter(stopped).count(), 1, "{told:?}");
        let lost = |event: &Event| matches!(event, Event::ConnectionLost { .. });
        assert!(!told.iter().any(lost), "{told:?}");
    }
}

#[test]
fn a_driver_that_was_never_polled_starts_in_the_next_runtime() {
    let runtime = one_thread();
    let world = World::default();
    let mut balance = runtime.block_on(async { layer(&["a"]).layer(world) });
    drop(runtime);
    assert_eq!(one_thread().block_on(balance.call(())).unwrap(), "a");
}

/// A balancer of a role that nobody has yet, its driver in `first`.
fn of_nobody(first: &Runtime) -> (Registry, Balance<Line>) {
    let registry = Registry::new();
    let layer = BalanceLayer::new(registry.clone(), "worker:http").unwrap();
    let layer = layer.config(patient());
    let balance = first.block_on(async { layer.layer(World::default()) });
    first.block_on(async {
        while balance.control().status().set_age.is_none()
            && balance.control().status().discovery_error.is_none()
        {
            sleep(MS).await;
        }
    });
    (registry, balance)
}

fn worker() -> Registration {
    Registration::new("worker")
        .id("a")
        .endpoint("http", addr(80))
}

#[test]
fn calls_and_waits_are_woken_when_the_drivers_runtime_ends() {
    for (first, second) in [(threads(), threads()), (one_thread(), one_thread())] {
        let (registry, balance) = of_nobody(&first);
        second.block_on(async {
            let mut caller = balance.clone();
            let mut call = pin!(caller.call(()));
            let mut wait = pin!(balance.control().wait_usable(LONG));
            assert!(futures::poll!(&mut call).is_pending());
            assert!(futures::poll!(&mut wait).is_pending());
            first.shutdown_background();
            // Whoever waits starts a driver here: nobody else calls.
            let _lease = registry.register(worker()).await.unwrap();
            let answers = async { futures::join!(call, wait) };
            let (answer, waited) = timeout(20 * SECOND, answers).await.expect("woken");
            assert_eq!(answer.unwrap(), "a");
            waited.unwrap();
        });
    }
}

#[test]
fn a_call_and_a_wait_go_on_in_another_runtime_than_they_began_in() {
    let first = one_thread();
    let (registry, balance) = of_nobody(&first);
    let mut caller = balance.clone();
    let mut call = Box::pin(caller.call(()));
    let mut wait = Box::pin(balance.control().wait_usable(LONG));
    first.block_on(async {
        assert!(futures::poll!(&mut call).is_pending());
        assert!(futures::poll!(&mut wait).is_pending());
    });
    drop(first);
    one_thread().block_on(async {
        let _lease = registry.register(worker()).await.unwrap();
        let (answer, waited) = futures::join!(call, wait);
        assert_eq!(answer.unwrap(), "a");
        waited.unwrap();
    });
}

#[test]
fn the_wait_for_a_usable_member_counts_from_each_drivers_start() {
    let world = World::default();
    let config = BalanceConfig::builder().unavailable_after(SECOND);
    let layer = layer(&["a"]).config(config.build().unwrap());
    let mut balance = layer.layer(world.clone());
    let first = paused();
    first.block_on(balance.call(())).unwrap();
    drop(first);
    world.node("a").when_dialled(Gets::Nowhere);
    paused().block_on(async {
        advance(60 * SECOND).await;
        let began = Instant::now();
        let error = balance.call(()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NoneUsable(_)), "{error}");
        let took = began.elapsed();
        assert!((SECOND..SECOND + 10 * MS).contains(&took), "{took:?}");
        assert!(balance.call(()).await.is_err());
        assert_eq!(began.elapsed(), took, "it is known by now");
    });
}

#[test]
fn ejections_keep_their_ends_and_are_made_while_no_driver_runs() {
    let mut balance = layer(&["a", "b", "c"]).layer(World::default());
    let state = |balance: &Balance<Line>, id: &str| {
        let members = balance.control().status().members;
        let member = members.into_iter().find(|m| *m.instance.id() == *id);
        member.expect("a known instance").state
    };
    let first = one_thread();
    first.block_on(async {
        balance.control().wait_usable(SECOND).await.unwrap();
        while balance.control().status().usable < 3 {
            sleep(MS).await;
        }
    });
    assert!(balance.control().eject(&"a".into(), 1000 * SECOND));
    drop(first);
    assert!(balance.control().eject(&"b".into(), 1000 * SECOND));
    assert!(
        !balance.control().eject(&"z".into(), SECOND),
        "it is not known"
    );
    paused().block_on(async {
        balance.control().wait_usable(SECOND).await.unwrap();
        while state(&balance, "b") != MemberState::Ejected
            || state(&balance, "a") != MemberState::Ejected
        {
            sleep(MS).await;
        }
        for _ in 0..50 {
            assert_eq!(balance.call(()).await.unwrap(), "c");
        }
        sleep(900 * SECOND).await;
        assert_eq!(state(&balance, "a"), MemberState::Ejected);
        sleep(100 * SECOND).await;
        while balance.control().status().usable < 3 {
            balance.call(()).await.unwrap();
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_pairs_driver_that_is_dropped_is_not_started_again() {
    let world = World::default();
    let (balance, driver) = layer(&["a"]).config(patient()).pair(world.clone());
    let driver = tokio::spawn(driver);
    balance.control().wait_usable(SECOND).await.unwrap();
    world.node("a").when_dialled(Gets::Nowhere);
    world.node("a").when_polled(Gets::Refused);
    let waiting = tokio::spawn(balance.clone().call(()));
    let mut events = balance.control().events();
    next_event(&mut events, |event| matches!(event, Event::NothingUsable)).await;

    driver.abort();
    assert!(driver.await.unwrap_err().is_cancelled());
    let began = Instant::now();
    let waited = waiting.await.unwrap().unwrap_err();
    let called = balance.clone().call(()).await.unwrap_err();
    let error = balance.control().wait_usable(LONG).await.unwrap_err();
    assert_eq!(began.elapsed(), Duration::ZERO, "all are told at once");
    for error in [waited, called, error] {
        assert!(matches!(error.kind(), ErrorKind::NoneUsable(_)), "{error}");
        assert!(error.to_string().contains("no driver runs"), "{error}");
        assert!(source(&error).contains("was dropped"), "{error:?}");
    }
    assert_eq!(world.node("a").alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pairs_driver_that_is_dropped_unpolled_is_told_of() {
    let (balance, driver) = layer(&["a"]).pair(World::default());
    let call = balance.clone().call(());
    drop(driver);
    let error = call.await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unresolved), "{error}");
    assert!(source(&error).contains("was dropped"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pairs_driver_that_nobody_polls_is_told_of_in_time() {
    let (balance, driver) = layer(&["a"]).pair(World::default());
    let began = Instant::now();
    let error = balance.clone().call(()).await.unwrap_err();
    assert!(source(&error).contains("has not been polled"), "{error:?}");
    assert_eq!(began.elapsed().as_secs(), 3);
    drop(driver);
}

#[test]
fn a_runtime_that_is_shut_down_is_as_good_as_none() {
    let mut balance = layer(&["a"]).layer(World::default());
    let gone = one_thread();
    let handle = gone.handle().clone();
    drop(gone);
    let entered = handle.enter();
    for _ in 0..2 {
        let error = futures::executor::block_on(balance.call(())).unwrap_err();
        assert!(source(&error).contains("outside a running tokio runtime"));
        assert!(futures::executor::block_on(balance.control().wait_usable(SECOND)).is_err());
    }
    drop(entered);
    assert_eq!(one_thread().block_on(balance.call(())).unwrap(), "a");
}

/// Calls from many threads while runtimes come and go: each call ends, and those that fail say that no connection or no
/// driver was there.
#[test]
fn runtimes_that_end_under_the_calls_of_others_hang_none() {
    let balance = layer(&["a", "b"]).layer(World::default());
    let is_over = AtomicBool::new(false);
    let callers = || {
        let mut answered = 0;
        let runtime = one_thread();
        while !is_over.load(SeqCst) {
            let call = balance.clone().call(());
            let call = async { timeout(20 * SECOND, call).await };
            runtime.block_on(call).expect("it does not hang").unwrap();
            answered += 1;
        }
        answered
    };
    let answered: usize = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..3).map(|_| scope.spawn(callers)).collect();
        for round in 0..100 {
            let runtime = if round % 2 == 0 {
                threads()
            } else {
                one_thread()
            };
            runtime.block_on(balance.clone().call(())).unwrap();
            if round % 3 == 0 {
                runtime.shutdown_background();
            }
        }
        is_over.store(true, SeqCst);
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .sum()
    });
    assert!(answered > 0);
}
