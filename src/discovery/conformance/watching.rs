//! How the checks announce instances and wait for answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time;

use super::subject::{Ability, Subject};
use crate::discovery::{BoxStream, Discovery, Lease, Registration};
use crate::error::discovery::DiscoveryError;
use crate::model::instance::{Instance, InstanceSet};
use crate::model::name::Boundary;

type Answer = Result<InstanceSet, DiscoveryError>;

/// The address of a port of the instance of this number. By its ip an instance is found where a backend makes the ids.
pub(super) fn addr(number: u32, port: u16) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    (Ipv4Addr::new(10, a, b, c), port).into()
}

/// `default/worker` of this number, from 1, with its endpoint `http` at port 80.
pub(super) fn worker(number: u32) -> Registration {
    Registration::new("worker")
        .id(format!("w-{number}"))
        .endpoint("http", addr(number, 80))
}

/// Where an instance is.
pub(super) fn at(instance: &Instance) -> SocketAddr {
    instance
        .address()
        .tcp()
        .expect("the suite announces TCP addresses")
}

impl dyn Subject + '_ {
    pub(super) fn has(&self, ability: Ability) -> bool {
        !self.lacks().contains(&ability)
    }

    pub(super) async fn announced(&self, registration: Registration) -> Lease {
        let announced = self.announce(registration).await;
        announced.expect("a valid registration of a free id is announced")
    }

    pub(super) fn watch(&self, target: &str) -> Watching {
        self.watch_by(&self.open(), target)
    }

    pub(super) fn watch_by(&self, handle: &dyn Discovery, target: &str) -> Watching {
        let answers = handle.watch(&target.parse().unwrap());
        self.watching(answers)
    }

    pub(super) fn watch_peers(&self, boundary: &str) -> Watching {
        let boundary = Boundary::new(boundary).unwrap();
        self.watching(self.open().peers(&boundary))
    }

    pub(super) fn watching(&self, answers: BoxStream<'static, Answer>) -> Watching {
        Watching {
            answers,
            keeps_ids: self.has(Ability::Ids),
            news_within: self.news_within(),
        }
    }
}

/// A watch that is waited for.
pub(super) struct Watching {
    answers: BoxStream<'static, Answer>,
    keeps_ids: bool,
    news_within: Duration,
}

impl Watching {
    pub(super) async fn next(&mut self) -> Answer {
        time::timeout(self.news_within, self.answers.next())
            .await
            .expect("an answer in time")
            .expect("a backend's watch does not end")
    }

    /// The next set, past errors.
    pub(super) async fn set(&mut self) -> InstanceSet {
        self.until(|_| true).await
    }

    /// The next error, past sets.
    pub(super) async fn error(&mut self) -> DiscoveryError {
        let waited = time::timeout(self.news_within, async {
            loop {
                let answer = self.answers.next().await;
                if let Err(error) = answer.expect("a backend's watch does not end") {
                    return error;
                }
            }
        });
        waited.await.expect("an error in time")
    }

    /// The first set that has these instances and no others, past all others and past errors.
    pub(super) async fn until_found(&mut self, numbers: &[u32]) -> InstanceSet {
        let keeps_ids = self.keeps_ids;
        self.until(move |set| numbers_of(set, keeps_ids) == numbers)
            .await
    }

    pub(super) fn found(&self, set: &InstanceSet) -> Vec<u32> {
        numbers_of(set, self.keeps_ids)
    }

    /// The first set that is as wanted, past all others and past errors.
    pub(super) async fn until(
        &mut self,
        mut wanted: impl FnMut(&InstanceSet) -> bool,
    ) -> InstanceSet {
        let mut last = None;
        let found = time::timeout(self.news_within, async {
            loop {
                let answer = self.answers.next().await;
                let answer = answer.expect("a backend's watch does not end");
                if let Ok(set) = &answer
                    && wanted(set)
                {
                    return set.clone();
                }
                last = Some(answer);
            }
        });
        let found = found.await.ok();
        let last = last.map(|answer| answer.map(|set| (set.len(), numbers_of(&set, false))));
        let last = format!("{last:?}");
        assert!(found.is_some(), "no such set; the last was {last:.500}");
        found.unwrap()
    }
}

/// The numbers of the instances of a set, sorted.
fn numbers_of(set: &InstanceSet, keeps_ids: bool) -> Vec<u32> {
    let mut numbers: Vec<u32> = set.iter().map(number_of).collect();
    if keeps_ids {
        for instance in set {
            let id = format!("w-{}", number_of(instance));
            assert_eq!(*instance.id(), *id, "the instance of this address");
        }
    }
    numbers.sort_unstable();
    numbers
}

fn number_of(instance: &Instance) -> u32 {
    match at(instance).ip() {
        IpAddr::V4(ip) => u32::from(ip) & 0x00ff_ffff,
        IpAddr::V6(_) => 0,
    }
}

/// The instance of this number.
pub(super) fn find(set: &InstanceSet, number: u32) -> &Instance {
    let mut instances = set.iter();
    let found = instances.find(|instance| number_of(instance) == number);
    found.expect("the instance is in the set")
}

/// Waits until a condition holds that nothing announces.
pub(super) async fn eventually(what: &str, within: Duration, holds: impl Fn() -> bool) {
    let waited = time::timeout(within, async {
        while !holds() {
            time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "not in time: {what}");
}
