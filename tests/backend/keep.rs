//! `keep`: what a registrar need not write.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use rolecall::discovery::backend::{Publish, keep};
use rolecall::discovery::{Announcement, LeaseState, RegisterError};
use rolecall::{Availability, EndpointName, Lease};
use tokio::runtime::{Builder, Runtime};
use tokio::time;

use super::worker;

#[derive(Clone, Copy, Default, PartialEq)]
enum Does {
    #[default]
    Works,
    Fails,
    Hangs,
}

#[derive(Default)]
struct Server {
    does: Does,
    calls: Vec<String>,
    announced: Option<Announcement>,
}

/// A server that can fail, and writes down what it is asked.
#[derive(Clone, Default)]
struct Client(Arc<Mutex<Server>>);

impl Client {
    fn server<R>(&self, with: impl FnOnce(&mut Server) -> R) -> R {
        with(&mut self.0.lock().unwrap())
    }

    async fn asked(&self, call: &str) -> Result<(), RegisterError> {
        let does = self.server(|server| {
            server.calls.push(call.to_owned());
            server.does
        });
        match does {
            Does::Works => Ok(()),
            Does::Fails => Err(RegisterError::backend("asking", "down")),
            Does::Hangs => pending().await,
        }
    }

    fn calls(&self) -> Vec<String> {
        self.server(|server| std::mem::take(&mut server.calls))
    }

    fn is(&self, does: Does) {
        self.server(|server| server.does = does);
    }
}

impl Publish for Client {
    async fn put(&mut self, announcement: &Announcement) -> Result<(), RegisterError> {
        // A real one takes time, in which other edits come.
        tokio::task::yield_now().await;
        self.asked("put").await?;
        self.server(|server| server.announced = Some(announcement.clone()));
        Ok(())
    }

    async fn renew(&mut self) -> Result<(), RegisterError> {
        self.asked("renew").await?;
        let is_known = self.server(|server| server.announced.is_some());
        is_known
            .then_some(())
            .ok_or_else(|| RegisterError::backend("renewing", "expired"))
    }

    fn every(&self) -> Duration {
        Duration::from_secs(3)
    }

    async fn withdraw(&mut self) -> Result<(), RegisterError> {
        self.asked("withdraw").await?;
        self.server(|server| server.announced = None);
        Ok(())
    }
}

async fn kept() -> (Client, Lease) {
    let client = Client::default();
    let lease = keep(client.clone(), worker("a")).await.unwrap();
    assert_eq!(client.calls(), ["put"]);
    (client, lease)
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_edited_and_withdrawn() {
    let (client, lease) = kept().await;
    time::sleep(Duration::from_millis(9500)).await;
    assert_eq!(client.calls(), ["renew", "renew", "renew"]);
    lease.set_availability(Availability::Busy).await.unwrap();
    lease.set_availability(Availability::Busy).await.unwrap();
    let announced = client.server(|server| server.announced.clone()).unwrap();
    assert_eq!(announced.availability(), Availability::Busy);
    assert_eq!(client.calls(), ["put"], "the same again is no edit");
    let deregistered = lease.deregister().await;
    deregistered.unwrap();
    assert_eq!(client.calls(), ["withdraw"]);
}

#[tokio::test(start_paused = true)]
async fn edits_that_come_together_are_written_once() {
    let (client, lease) = kept().await;
    let lease = &lease;
    let edits = (0..100).map(|n| async move {
        let addr = ([10, 0, 0, 7], 1000 + n);
        lease.add_endpoint(format!("e{n}"), addr).await
    });
    for edited in join_all(edits).await {
        edited.unwrap();
    }
    let announced = client.server(|server| server.announced.clone()).unwrap();
    let last = EndpointName::new("e99").unwrap();
    assert!(announced.has_endpoint(&last) && announced.endpoints().count() == 101);
    assert!(client.calls().len() <= 2, "and not a hundred times");
}

#[tokio::test(start_paused = true)]
async fn edits_do_not_hold_up_renewals() {
    let (client, lease) = kept().await;
    for n in 0..100_u16 {
        time::sleep(Duration::from_millis(100)).await;
        let addr = ([10, 0, 0, 7], 1000 + n);
        lease.add_endpoint("http", addr).await.unwrap();
    }
    let renewals = client
        .calls()
        .iter()
        .filter(|call| *call == "renew")
        .count();
    assert_eq!(renewals, 3, "in 10 s");
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_is_announced_again_and_the_lease_tells() {
    let (client, lease) = kept().await;
    client.server(|server| server.announced = None);
    client.is(Does::Fails);
    let lost = lease.changed().await;
    let LeaseState::Lost { error, since, .. } = lost else {
        panic!("{lost:?}")
    };
    assert_eq!(error.to_string(), "registration failed while asking");
    let edited = lease.set_availability(Availability::Busy).await;
    assert!(edited.is_err(), "it says so");
    client.is(Does::Works);
    loop {
        match lease.changed().await {
            LeaseState::Announced => break,
            LeaseState::Lost { since: still, .. } => assert_eq!(still, since),
            other => panic!("{other:?}"),
        }
    }
    let announced = client.server(|server| server.announced.clone()).unwrap();
    assert_eq!(
        announced.availability(),
        Availability::Busy,
        "what was wanted last"
    );
}

#[tokio::test(start_paused = true)]
async fn a_first_put_that_fails_or_hangs_is_the_answer() {
    let client = Client::default();
    client.is(Does::Fails);
    assert!(keep(client.clone(), worker("a")).await.is_err());
    client.is(Does::Hangs);
    let (took, kept) = timed(keep(client, worker("a"))).await;
    let error = kept.unwrap_err();
    assert_eq!(error.to_string(), "registration failed while announcing");
    assert_eq!(took, Duration::from_secs(5));
}

#[expect(clippy::disallowed_methods, reason = "paused time")]
async fn timed<T>(future: impl Future<Output = T>) -> (Duration, T) {
    let began = time::Instant::now();
    let done = future.await;
    (began.elapsed(), done)
}

#[tokio::test(start_paused = true)]
async fn calls_that_hang_end_in_time() {
    let (client, lease) = kept().await;
    client.is(Does::Hangs);
    let (took, edited) = timed(lease.set_availability(Availability::Busy)).await;
    assert!(edited.is_err());
    assert_eq!(took, Duration::from_secs(5));
    let (took, ended) = timed(lease.deregister()).await;
    assert!(ended.is_err());
    assert_eq!(took, Duration::from_secs(5), "not after a hanging put, too");

    // A renewal of a lease of 9 s that hangs leaves time to announce again.
    let (client, lease) = kept().await;
    client.is(Does::Hangs);
    let (took, state) = timed(lease.changed()).await;
    assert!(matches!(state, LeaseState::Lost { .. }), "{state:?}");
    assert_eq!(took, Duration::from_secs(9));
    client.is(Does::Works);
    let (took, state) = timed(lease.changed()).await;
    assert!(matches!(state, LeaseState::Announced), "{state:?}");
    assert!(took <= Duration::from_secs(6), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_dropped_while_a_put_hangs_is_withdrawn_at_once() {
    let (client, lease) = kept().await;
    client.is(Does::Hangs);
    let edit = lease.set_availability(Availability::Busy);
    assert!(
        time::timeout(Duration::from_millis(10), edit)
            .await
            .is_err()
    );
    client.is(Does::Works);
    drop(lease);
    let gone = async {
        while client.server(|server| server.announced.is_some()) {
            tokio::task::yield_now().await;
        }
    };
    let (took, ()) = timed(gone).await;
    assert!(took < Duration::from_millis(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_edit_that_equals_one_in_flight_has_its_outcome() {
    let (client, lease) = kept().await;
    client.is(Does::Hangs);
    let edits = [(), ()].map(|()| lease.set_availability(Availability::Busy));
    for edited in join_all(edits).await {
        assert!(edited.is_err(), "neither was written");
    }
    client.is(Does::Works);
    lease.set_availability(Availability::Busy).await.unwrap();
    let announced = client.server(|server| server.announced.clone()).unwrap();
    assert_eq!(announced.availability(), Availability::Busy);
}

#[tokio::test(start_paused = true)]
async fn attempts_to_announce_again_are_no_further_apart_than_renewals() {
    let (client, lease) = kept().await;
    client.is(Does::Fails);
    lease.changed().await;
    time::sleep(Duration::from_secs(60)).await;
    let puts = client.calls().iter().filter(|call| *call == "put").count();
    // Pauses of 0.2 s that double, each drawn from its upper half, up to 3 s.
    assert!((20..=44).contains(&puts), "{puts} in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_lease_is_withdrawn_also_while_the_server_fails() {
    for does in [Does::Works, Does::Fails] {
        let (client, lease) = kept().await;
        client.is(does);
        if does == Does::Fails {
            assert!(lease.remove_endpoint("http").await.is_err());
        }
        client.is(Does::Works);
        drop(lease);
        let gone = async {
            while client.server(|server| server.announced.is_some()) {
                tokio::task::yield_now().await;
            }
        };
        time::timeout(Duration::from_secs(1), gone).await.unwrap();
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_lease_goes_on_in_another_runtime_and_ends_there() {
    let (first, second) = (runtime(), runtime());
    let (client, lease) = first.block_on(kept());
    drop(first);
    second.block_on(async {
        lease.set_availability(Availability::Busy).await.unwrap();
        let announced = client.server(|server| server.announced.clone()).unwrap();
        assert_eq!(announced.availability(), Availability::Busy);
        lease.deregister().await.unwrap();
    });
    assert!(client.server(|server| server.announced.is_none()));

    let (first, second) = (runtime(), runtime());
    let (client, lease) = first.block_on(kept());
    drop(first);
    second.block_on(async {
        drop(lease);
        while client.server(|server| server.announced.is_some()) {
            tokio::task::yield_now().await;
        }
    });
}
