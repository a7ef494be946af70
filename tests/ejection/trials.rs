//! A trial is an HTTP request like any other, and its answer may come in parts, late or never.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response};
use rolecall::http::{self, TrackedBody};
use rolecall::{Event, Instance, List, MemberState};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower::Service;

use crate::load::Client;

const MS: Duration = Duration::from_millis(1);

#[tokio::test]
async fn a_trial_whose_body_breaks_has_failed() {
    let bad = Raw::start(Says::Closes(
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
    ))
    .await;
    let good = Raw::start(HELLO).await;
    let (client, mut events) = client_of(&bad, &good).await;
    trial(&client, &mut events).await;
    let response = call(&client).await;
    assert_eq!(by(&response), "bad", "the next request is the trial");
    response.into_body().collect().await.map(drop).unwrap_err();
    told(&mut events, |event| {
        matches!(event, Event::TrialFailed { .. })
    })
    .await;
    assert_eq!(bad_state(&client), MemberState::Ejected);
}

#[tokio::test]
async fn a_trial_that_is_read_to_its_end_brings_the_instance_back_and_not_before() {
    let bad = Raw::start(HELLO).await;
    let good = Raw::start(HELLO).await;
    let (client, mut events) = client_of(&bad, &good).await;
    trial(&client, &mut events).await;
    let response = call(&client).await;
    assert_eq!(by(&response), "bad");
    assert_eq!(
        bad_state(&client),
        MemberState::Probation,
        "its body is still to come"
    );
    response.into_body().collect().await.unwrap();
    assert_eq!(bad_state(&client), MemberState::Usable);
}

#[tokio::test]
async fn a_trial_of_a_hung_server_fails_after_a_second_and_keeps_nobody_else_waiting() {
    let bad = Raw::start(Says::Nothing).await;
    let good = Raw::start(HELLO).await;
    let (client, mut events) = client_of(&bad, &good).await;
    trial(&client, &mut events).await;
    let hung = tokio::spawn({
        let client = client.clone();
        async move { call(&client).await }
    });
    until(|| bad.requests() == 1).await;
    let failed = told(&mut events, |event| {
        matches!(event, Event::TrialFailed { .. })
    });
    let mut failed = std::pin::pin!(failed);
    while futures::poll!(failed.as_mut()).is_pending() {
        let response = within(call(&client)).await;
        assert_eq!(by(&response), "good");
        response.into_body().collect().await.unwrap();
        assert!(!hung.is_finished());
    }
    assert_eq!(bad.requests(), 1, "one trial at a time");
    assert_eq!(bad_state(&client), MemberState::Ejected);
    hung.abort();
}

#[tokio::test]
async fn a_trial_that_its_caller_drops_leaves_the_place_to_the_next_request() {
    let bad = Raw::start(HELLO).await;
    let good = Raw::start(HELLO).await;
    let (client, mut events) = client_of(&bad, &good).await;
    trial(&client, &mut events).await;
    for _ in 0..3 {
        let dropped = client.clone().call(Request::new(Empty::new()));
        drop(dropped);
        assert_eq!(
            bad_state(&client),
            MemberState::Probation,
            "nobody is judged by that"
        );
    }
    // The dropped requests were on the way, and their connection closes. While the next one is dialled, a request whose trial
    // it would be goes to the other instance.
    until_answered_by(&client, "bad").await;
    assert_eq!(bad_state(&client), MemberState::Usable);
}

#[tokio::test]
async fn a_server_that_closes_every_connection_is_tried_all_the_same() {
    let bad = Raw::start(Says::Closes(
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    ))
    .await;
    let good = Raw::start(HELLO).await;
    let (client, mut events) = client_of(&bad, &good).await;
    // From here on it has no open connection but those that a request asks for.
    until_answered_by(&client, "bad").await;
    trial(&client, &mut events).await;
    until_answered_by(&client, "bad").await;
    assert_eq!(bad_state(&client), MemberState::Usable);
}

#[tokio::test]
async fn a_trial_that_is_answered_429_brings_back_an_instance_that_is_given_less() {
    let bad = Raw::start(Says::Keeps(
        "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n",
    ))
    .await;
    let good = Raw::start(HELLO).await;
    let (client, mut events) = client_of(&bad, &good).await;
    trial(&client, &mut events).await;
    for _ in 0..50 {
        call(&client).await.into_body().collect().await.unwrap();
    }
    assert_eq!(bad_state(&client), MemberState::Usable);
    let requests = bad.requests();
    assert!(
        requests <= 5,
        "{requests} of 50 were sent to who had too much to do"
    );
}

/// A client of `bad` and of `good`, both connected.
async fn client_of(bad: &Raw, good: &Raw) -> (Client, impl Stream<Item = Event> + Unpin + use<>) {
    let instances = [("bad", bad.addr), ("good", good.addr)];
    let list = List::new(instances.map(|(id, addr)| Instance::new(id, addr))).unwrap();
    let client = Client::new(list, "worker:http").unwrap();
    let events = client.control().events();
    until(|| client.control().status().usable == 2).await;
    (client, events)
}

/// Lets an ejection begin and end.
async fn trial(client: &Client, events: &mut (impl Stream<Item = Event> + Unpin)) {
    assert!(client.control().eject(&"bad".into(), MS));
    told(events, |event| matches!(event, Event::Probation { .. })).await;
}

async fn call(client: &Client) -> Response<TrackedBody<rolecall::http::IncomingBody>> {
    client
        .clone()
        .call(Request::new(Empty::<Bytes>::new()))
        .await
        .unwrap()
}

fn by<B>(response: &Response<B>) -> &str {
    http::answered_by(response).unwrap().as_str()
}

async fn until_answered_by(client: &Client, id: &str) {
    within(async {
        loop {
            let response = call(client).await;
            let is_it = by(&response) == id;
            response.into_body().collect().await.unwrap();
            if is_it {
                return;
            }
        }
    })
    .await;
}

fn bad_state(client: &Client) -> MemberState {
    client.control().status().members[0].state
}

async fn told(events: &mut (impl Stream<Item = Event> + Unpin), wanted: impl Fn(&Event) -> bool) {
    within(async { while !wanted(&events.next().await.expect("the client lives")) {} }).await;
}

async fn until(reached: impl Fn() -> bool) {
    within(async {
        while !reached() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn within<F: Future>(future: F) -> F::Output {
    let limit = Duration::from_secs(10);
    timeout(limit, future).await.expect("done in time")
}

/// What a server says to each request.
#[derive(Clone, Copy)]
enum Says {
    /// This, and the connection stays open.
    Keeps(&'static str),
    /// This, and the connection is closed.
    Closes(&'static str),
    Nothing,
}

const HELLO: Says = Says::Keeps("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");

/// A server for as long as this lives.
struct Raw {
    addr: SocketAddr,
    requests: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Raw {
    async fn start(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let requests = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&requests);
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, says, Arc::clone(&count)));
            }
        });
        Self {
            addr,
            requests,
            accepting,
        }
    }

    fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(stream: TcpStream, says: Says, requests: Arc<AtomicUsize>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    loop {
        // The end of a head; the requests have no bodies.
        while !lines
            .next_line()
            .await?
            .ok_or(io::ErrorKind::UnexpectedEof)?
            .is_empty()
        {}
        requests.fetch_add(1, SeqCst);
        match says {
            Says::Keeps(answer) => writer.write_all(answer.as_bytes()).await?,
            Says::Closes(answer) => return writer.write_all(answer.as_bytes()).await,
            Says::Nothing => std::future::pending().await,
        }
    }
}
