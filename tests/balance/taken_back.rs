//! Requests that come back from a service that did not send them.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rolecall::{
    Attempt, Balance, BalanceLayer, BoxError, Classify, Failed, Instance, List, connect,
};
use tower::{Layer, Service, ServiceExt};

/// Not `Clone`, as few requests are.
#[derive(Debug, PartialEq)]
struct Request(&'static str);

#[derive(Debug)]
struct Unsent(Option<Request>);

impl std::fmt::Display for Unsent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unsent")
    }
}

impl std::error::Error for Unsent {}

struct TakeBack;

impl<Res> Classify<Request, Res, Unsent> for TakeBack {
    type Response = Res;
    type Context = ();

    fn begin(&self, _: &Request) {}

    fn take_back(&self, error: &mut Unsent) -> Option<Request> {
        error.0.take()
    }

    fn classify(
        &self,
        (): (),
        result: Result<Res, Unsent>,
        attempt: Attempt,
    ) -> Result<Res, Failed<Unsent>> {
        match result {
            Ok(_) => attempt.success(),
            Err(_) => attempt.unsent(),
        }
        result.map_err(Failed::unsent)
    }
}

/// Who was asked, one after the other.
type Asked = Arc<Mutex<Vec<String>>>;

/// The first so many are found gone when they are asked.
#[derive(Clone)]
struct Node {
    id: String,
    gone: usize,
    gives_back: bool,
    takes: Duration,
    asked: Asked,
}

impl Service<Request> for Node {
    type Response = (String, Request);
    type Error = Unsent;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unsent>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let mut asked = self.asked.lock().unwrap();
        asked.push(self.id.clone());
        let answer = if asked.len() > self.gone {
            Ok((self.id.clone(), request))
        } else {
            Err(Unsent(self.gives_back.then_some(request)))
        };
        let takes = self.takes;
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            answer
        })
    }
}

async fn balance(gone: usize, gives_back: bool) -> (Balance<Node, TakeBack>, Asked) {
    balance_of(&["a", "b", "c"], gone, gives_back, Duration::ZERO).await
}

async fn balance_of(
    ids: &[&str],
    gone: usize,
    gives_back: bool,
    takes: Duration,
) -> (Balance<Node, TakeBack>, Asked) {
    let asked = Asked::default();
    let log = asked.clone();
    let connector = connect::per_instance(move |instance: &Instance| Node {
        id: instance.id().to_string(),
        gone,
        gives_back,
        takes,
        asked: log.clone(),
    });
    let instances = ids
        .iter()
        .map(|id| Instance::new(*id, ([127, 0, 0, 1], 80)));
    let balance = BalanceLayer::new(List::new(instances).unwrap(), "worker:http")
        .unwrap()
        .classify(TakeBack)
        .layer(connector);
    while balance.control().status().usable < ids.len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (balance, asked)
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_back_goes_to_one_instance_after_the_other() {
    let (balance, asked) = balance(2, true).await;
    let (id, request) = balance.clone().oneshot(Request("one")).await.unwrap();
    assert_eq!(request, Request("one"));
    let mut asked = asked.lock().unwrap().clone();
    assert_eq!(asked.last(), Some(&id));
    asked.sort();
    assert_eq!(asked, ["a", "b", "c"], "each of them once");
    for member in balance.control().status().members {
        assert_eq!((member.in_flight, member.failures), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_gave_a_request_back_is_not_asked_again_though_it_was_dialled_again() {
    let ids = ["a", "b", "c", "d", "e", "f"];
    // Long enough for every lost connection to be dialled again meanwhile.
    let (balance, asked) = balance_of(&ids, 5, true, Duration::from_secs(1)).await;
    balance.clone().oneshot(Request("one")).await.unwrap();
    let mut asked = asked.lock().unwrap().clone();
    asked.sort();
    assert_eq!(asked, ids, "each of them once");
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_come_back_is_an_error_that_was_not_sent() {
    let (balance, asked) = balance(1, false).await;
    let error = balance.oneshot(Request("one")).await.unwrap_err();
    assert!(!error.was_sent());
    assert!(error.instance().is_some());
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_the_last_clone_is_gone_it_is_the_callers() {
    let (mut balance, asked) = balance(1, true).await;
    let call = balance.call(Request("one"));
    drop(balance);
    let error: BoxError = call.await.unwrap_err().into();
    assert!(error.to_string().contains("not sent"), "{error}");
    assert_eq!(asked.lock().unwrap().len(), 1);
}
