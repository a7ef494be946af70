//! The parts for people who write a backend of their own.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/captured.rs"]
mod captured;
mod catalog;
mod keep;
mod mirror;
mod polled;
mod warnings;

use futures::{FutureExt, StreamExt};
use rolecall::discovery::{Announcement, BoxStream, DiscoveryError};
use rolecall::{Discovery, InstanceSet, Registration};

type Answer = Result<InstanceSet, DiscoveryError>;

fn worker(id: &str) -> Announcement {
    of_role("worker", id)
}

fn of_role(role: &str, id: &str) -> Announcement {
    let registration = Registration::new(role).id(id);
    let registration = registration.endpoint("http", ([10, 0, 0, 7], 80));
    registration.validate().unwrap()
}

fn watch(discovery: &impl Discovery, target: &str) -> BoxStream<'static, Answer> {
    discovery.watch(&target.parse().unwrap())
}

fn now(answers: &mut BoxStream<'static, Answer>) -> Option<Answer> {
    answers
        .next()
        .now_or_never()
        .map(|answer| answer.expect("it does not end"))
}

fn ids(set: &InstanceSet) -> Vec<&str> {
    set.iter().map(|instance| instance.id().as_str()).collect()
}

/// The error and its causes.
fn text(error: &DiscoveryError) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
