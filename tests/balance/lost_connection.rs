//! Requests that end after the loss of their connection was found.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rolecall::{
    Availability, Balance, BalanceLayer, Instance, List, MemberState, MemberStatus, connect,
};
use tokio::sync::watch;
use tokio::time::sleep;
use tower::{Layer, Service};

use crate::support::{Fault, instance};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A connection, and whether it is broken: then it is found lost at once, and what is in flight on it fails when the test
/// lets it.
#[derive(Clone)]
struct Line {
    is_broken: watch::Receiver<bool>,
    fails: watch::Receiver<bool>,
}

impl Service<()> for Line {
    type Response = ();
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if *self.is_broken.borrow() {
            return Poll::Ready(Err(Fault("the connection".to_owned())));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let mut fails = self.fails.clone();
        Box::pin(async move {
            // Or the test is over.
            let _ = fails.wait_for(|fails| *fails).await;
            Err(Fault("a request".to_owned()))
        })
    }
}

/// What breaks the newest connection to `a`, and lets its requests fail.
type Newest = Arc<Mutex<Option<(watch::Sender<bool>, watch::Sender<bool>)>>>;

/// A balancer whose requests go to `a` as long as that is in play: `b` is busy.
async fn balance() -> (Balance<Line>, Newest) {
    let newest = Newest::default();
    let last = Arc::clone(&newest);
    let connector = connect::per_instance(move |instance: &Instance| {
        let (breaks, is_broken) = watch::channel(false);
        let (fail, fails) = watch::channel(false);
        if *instance.id() == *"a" {
            *last.lock().unwrap() = Some((breaks, fail));
        }
        Line { is_broken, fails }
    });
    let busy = instance("b").with_availability(Availability::Busy);
    let list = List::new([instance("a"), busy]).unwrap();
    let balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .layer(connector);
    while newest.lock().unwrap().is_none() || balance.control().status().usable == 0 {
        sleep(MS).await;
    }
    (balance, newest)
}

fn a(balance: &Balance<Line>) -> MemberStatus {
    let members = balance.control().status().members;
    let mut members = members.into_iter();
    members
        .find(|member| *member.instance.id() == *"a")
        .unwrap()
}

/// So many requests on one connection, whose loss another one finds before they fail.
async fn break_under(requests: usize, balance: &Balance<Line>, newest: &Newest) {
    let under_way: Vec<_> = (0..requests)
        .map(|_| tokio::spawn(balance.clone().call(())))
        .collect();
    sleep(MS).await;
    assert_eq!(a(balance).in_flight as usize, requests);
    let (breaks, fail) = newest.lock().unwrap().take().expect("a connection");
    breaks.send_replace(true);
    let finder = tokio::spawn(balance.clone().call(()));
    // It is dialled again.
    while newest.lock().unwrap().is_none() {
        sleep(MS).await;
    }
    sleep(MS).await;
    fail.send_replace(true);
    for request in under_way {
        assert!(request.await.unwrap().unwrap_err().was_sent());
    }
    finder.abort();
    let _ = finder.await;
}

#[tokio::test(start_paused = true)]
async fn failures_of_requests_whose_connection_was_replaced_are_the_instances() {
    let (balance, newest) = balance().await;
    break_under(4, &balance, &newest).await;
    let member = a(&balance);
    assert_eq!((member.failures, member.failures_in_row), (4, 4));
    assert_eq!(member.in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_connections_break_under_requests_again_and_again_is_ejected() {
    let (balance, newest) = balance().await;
    for _ in 0..2 {
        break_under(3, &balance, &newest).await;
        sleep(SECOND).await;
    }
    let member = a(&balance);
    assert_eq!(member.failures, 5, "the sixth is from before the ejection");
    assert_eq!(member.state, MemberState::Ejected);
}
