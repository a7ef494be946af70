//! A client that outlives the runtimes it is used in, as a `static` one does in tests.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tower::ServiceExt;

use crate::support::{Balanced, Server, balanced, body, hello, request, until, within};

/// A server in a runtime and a thread of its own.
struct Elsewhere {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Elsewhere {
    fn start() -> Self {
        let (stop, stopped) = oneshot::channel();
        let (addr, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            one_thread().block_on(async {
                let server = Server::start(hello).await;
                addr.send(server.addr).unwrap();
                // An error, too, says that the test is over.
                let _ = stopped.await;
            });
        });
        Self {
            addr: started.recv().unwrap(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn threads() -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_static_client_works_in_one_runtime_after_the_other() {
    static CLIENT: OnceLock<Balanced> = OnceLock::new();
    let servers = [Elsewhere::start(), Elsewhere::start()];
    for runtime in [one_thread(), threads(), one_thread(), threads()] {
        runtime.block_on(async {
            let client = CLIENT.get_or_init(|| balanced(servers.each_ref().map(|s| s.addr)));
            for _ in 0..20 {
                let response = within(client.clone().oneshot(request("/"))).await.unwrap();
                assert_eq!(body(response).await, "hello");
            }
            until(|| client.control().status().usable == 2).await;
        });
    }
    let status = CLIENT.get().unwrap().control().status();
    assert!(
        status.members.iter().all(|member| member.failures == 0),
        "{status}"
    );
    assert!(
        status.members.iter().all(|member| member.in_flight == 0),
        "{status}"
    );
}
