//! A process without file descriptors, under load: itself once more, as a child with a limit of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use rolecall::{BalanceLayer, List, http};
use rustix::process::{Resource, Rlimit, setrlimit};
use tower::{Layer, ServiceExt};

use crate::support::{Balanced, Server, body, connector, hello, request, until};

const SERVERS: &str = "ROLECALL_TEST_SERVERS";
const EXHAUSTED: &str = "no descriptor is left";
const FOR: Duration = Duration::from_secs(5);
const BACK_WITHIN: Duration = Duration::from_secs(2);

#[test]
fn exhausted_file_descriptors_are_charged_to_no_instance_and_forgotten_at_once() {
    match std::env::var(SERVERS) {
        Ok(servers) => run(starve(&servers)),
        Err(_) => run(serve_a_starving_child()),
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    { runtime }.enable_all().build().unwrap().block_on(test);
}

/// Serves HTTP/1.1 and HTTP/2 for a child, and asks it to leave its HTTP/2 connections when it can open none.
async fn serve_a_starving_child() {
    let mut servers = Vec::new();
    for _ in 0..6 {
        let answer = async |request: Request<Incoming>| {
            tokio::time::sleep(Duration::from_millis(2)).await;
            hello(request).await
        };
        servers.push(
            Server::start(move |request| {
                Box::pin(answer(request)) as futures::future::BoxFuture<'static, _>
            })
            .await,
        );
    }
    let addrs = servers.iter().map(|server| server.addr.to_string());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg("exhausted::exhausted_file_descriptors_are_charged_to_no_instance_and_forgotten_at_once")
        .env(SERVERS, addrs.collect::<Vec<_>>().join(","))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = told.send(line);
        }
    });
    let mut output = Vec::new();
    while let Some(line) = tells.recv().await {
        if line.contains(EXHAUSTED) {
            servers[3..].iter().for_each(Server::go_away);
        }
        output.push(line);
    }
    let mut complaints = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut complaints).unwrap();
    let ended = child.wait().unwrap();
    assert!(ended.success(), "{output:#?}\n{complaints}");
    assert!(
        output.iter().any(|line| line.contains(EXHAUSTED)),
        "{output:#?}"
    );
}

/// Calls the first three servers by HTTP/1.1 and the others by HTTP/2, and takes all descriptors for a while.
async fn starve(servers: &str) {
    let addrs: Vec<SocketAddr> = servers
        .split(',')
        .map(|addr| addr.parse().unwrap())
        .collect();
    let (http1, http2) = (Load::on(&addrs[..3], false), Load::on(&addrs[3..], true));
    let loads = [&http1, &http2];
    for load in loads {
        load.client
            .control()
            .wait_usable(Duration::from_secs(10))
            .await
            .unwrap();
        load.start(4);
    }
    let limit = Rlimit {
        current: Some(64),
        maximum: Some(64),
    };
    setrlimit(Resource::Nofile, limit).unwrap();

    let end = Instant::now() + FOR;
    let mut taken = Vec::new();
    let mut told = false;
    let answered = http1.answered();
    while Instant::now() < end {
        match File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(_) => {
                if !told {
                    told = true;
                    println!("\n{EXHAUSTED}");
                    // Without more requests at once, HTTP/1.1 needs no more connections.
                    http1.start(8);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    assert!(told);
    let meanwhile = http1.answered() - answered;
    assert!(
        meanwhile > 50,
        "connections that are there go on: {meanwhile} answers"
    );
    drop(taken);
    tokio::time::sleep(BACK_WITHIN).await;
    for load in loads {
        load.count_failures.store(true, Ordering::SeqCst);
    }
    let before = loads.map(Load::answered);
    for (load, before) in loads.into_iter().zip(before) {
        until(|| load.answered() - before > 100).await;
        assert_eq!(load.failed(), 0, "the service is back");
        let status = load.client.control().status();
        assert_eq!(status.usable, 3, "{status:?}");
        for member in status.members {
            assert_eq!(member.ejection, None, "{:?}", member.instance);
        }
    }
}

struct Load {
    client: Balanced,
    answered: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    count_failures: Arc<AtomicBool>,
}

impl Load {
    fn on(addrs: &[SocketAddr], http2: bool) -> Self {
        let layer = BalanceLayer::new(
            List::from_addrs(addrs.iter().copied()).unwrap(),
            "worker:http",
        );
        let layer = layer.unwrap().classify(http::HttpClassifier::new());
        let client = layer.layer(connector(http2));
        Self {
            client,
            answered: Arc::default(),
            failed: Arc::default(),
            count_failures: Arc::default(),
        }
    }

    /// So many callers call one after the other, and give up after five seconds.
    fn start(&self, callers: usize) {
        for _ in 0..callers {
            let client = self.client.clone();
            let (answered, failed) = (self.answered.clone(), self.failed.clone());
            let counts = self.count_failures.clone();
            tokio::spawn(async move {
                loop {
                    let is_counted = counts.load(Ordering::SeqCst);
                    let call = async {
                        body(client.clone().oneshot(request("/")).await.ok()?)
                            .await
                            .into()
                    };
                    match tokio::time::timeout(Duration::from_secs(5), call).await {
                        Ok(Some::<bytes::Bytes>(_)) => answered.fetch_add(1, Ordering::SeqCst),
                        _ if is_counted => failed.fetch_add(1, Ordering::SeqCst),
                        _ => 0,
                    };
                    tokio::task::yield_now().await;
                }
            });
        }
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    fn failed(&self) -> usize {
        self.failed.load(Ordering::SeqCst)
    }
}
