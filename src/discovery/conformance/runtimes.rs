//! Two live runtimes use one handle, and one of them ends.

use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task;

use super::check::Done;
use super::subject::{Ability, Subject};
use super::watching::{Watching, addr, worker};
use crate::discovery::Lease;
use crate::discovery::combinators::DiscoveryExt;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A runtime on a thread of its own, which polls a watch that is not its only one.
struct Elsewhere {
    end: oneshot::Sender<()>,
    ended: thread::JoinHandle<()>,
}

impl Elsewhere {
    /// Polls the watch there, once it has these instances and until the end.
    async fn poll(mut watch: Watching, numbers: &'static [u32]) -> Self {
        let (end, is_over) = oneshot::channel::<()>();
        let (polled, is_polled) = oneshot::channel();
        let ended = thread::spawn(move || {
            let runtime = runtime();
            runtime.spawn(async move {
                watch.until_found(numbers).await;
                let _ = polled.send(());
                watch.until(|_| false).await;
            });
            runtime.block_on(async { drop(is_over.await) });
        });
        is_polled.await.expect("the watch works in its runtime");
        Self { end, ended }
    }

    async fn end(self) {
        drop(self.end);
        let ended = task::spawn_blocking(move || self.ended.join());
        assert!(ended.await.unwrap().is_ok(), "the runtime ends");
    }
}

pub(super) async fn watches_go_on_in_another_runtime(subject: &dyn Subject) -> Done {
    let handle = subject.open();
    let _lease = subject.announced(worker(1)).await;
    // The tasks of the handle run where it was polled first.
    let there = subject.watch_by(&handle, "default/worker:http");
    let elsewhere = Elsewhere::poll(there, &[1]).await;
    let mut here = subject.watch_by(&handle, "default/worker:http");
    here.until_found(&[1]).await;
    elsewhere.end().await;
    let _second = subject.announced(worker(2)).await;
    here.until_found(&[1, 2]).await;
    let mut late = subject.watch_by(&handle, "default/worker:http");
    late.until_found(&[1, 2]).await;
    Done::Passed
}

pub(super) async fn shared_watches_go_on_in_another_runtime(subject: &dyn Subject) -> Done {
    let shared = subject.open().shared();
    let _lease = subject.announced(worker(1)).await;
    let there = subject.watch_by(&shared, "default/worker:http");
    let elsewhere = Elsewhere::poll(there, &[1]).await;
    let mut here = subject.watch_by(&shared, "default/worker:http");
    here.until_found(&[1]).await;
    elsewhere.end().await;
    let _second = subject.announced(worker(2)).await;
    here.until_found(&[1, 2]).await;
    Done::Passed
}

pub(super) async fn leases_go_on_in_another_runtime(subject: &dyn Subject) -> Done {
    let announcing = subject.announce(worker(1));
    let announced = task::spawn_blocking(|| {
        let runtime = runtime();
        let lease = runtime.block_on(announcing);
        drop(runtime);
        lease
    });
    let lease: Lease = announced.await.unwrap().expect("a valid registration");
    let mut watch = subject.watch("default/worker:http");
    watch.until_found(&[1]).await;
    lease.add_endpoint("http", addr(1, 81)).await.unwrap();
    watch
        .until(|set| set.iter().map(super::watching::at).eq([addr(1, 81)]))
        .await;
    if subject.has(Ability::SeveralEndpoints) && subject.has(Ability::Targets) {
        lease.add_endpoint("grpc", addr(1, 90)).await.unwrap();
        subject.watch("default/worker:grpc").until_found(&[1]).await;
    }
    lease.deregister().await.unwrap();
    watch.until_found(&[]).await;
    Done::Passed
}
