//! An HTTP server in a process of its own: this test binary, started again with its work in an environment variable.
//!
//! The process ends with its guard, and with the process that started it however that ends: its standard input is closed
//! then. A stopped one is continued by a shell that waits for the same.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;

const WORK: &str = "ROLECALL_TEST_SERVER";
const LISTENING: &str = "listening on ";
const OBEYED: &str = "order obeyed";

/// What a server can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// Requests that are worked on at once.
    pub(crate) slots: usize,
    /// Requests that wait for that; what comes beyond is answered 503.
    pub(crate) queue: usize,
    /// Mean of the service times; they are spread evenly from nothing to twice that.
    pub(crate) mean: Duration,
}

impl Work {
    /// As many requests at once as come.
    pub(crate) const fn unlimited(mean: Duration) -> Self {
        Self {
            slots: 10_000,
            queue: 0,
            mean,
        }
    }

    /// Requests per second that it can answer.
    pub(crate) fn capacity(&self) -> f64 {
        self.slots as f64 / self.mean.as_secs_f64()
    }
}

/// The guard of a server's process.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    child: Child,
    orders: ChildStdin,
    /// Kept open: the process may still have something to say.
    output: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start(work: Work) -> Self {
        let Work { slots, queue, mean } = work;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server::serves_until_its_starter_ends"])
            .args(["--ignored", "--nocapture"])
            .env(WORK, format!("{slots} {queue} {}", mean.as_micros()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        // A guard before anything can go wrong.
        let mut server = Self {
            addr: ([127, 0, 0, 1], 0).into(),
            child,
            orders,
            output,
        };
        server.addr = server.read(LISTENING).parse().unwrap();
        server
    }

    /// What the server says after these words. The test harness of its process writes to the same place.
    fn read(&mut self, words: &str) -> String {
        let mut lines = (&mut self.output).lines().map(Result::unwrap);
        let said = lines.find_map(|line| Some(line.split_once(words)?.1.to_owned()));
        said.expect("the server runs")
    }

    /// Answers 503 at once from now on, or no more.
    pub(crate) fn fail(&mut self, fails: bool) {
        let order = if fails { "fail" } else { "work" };
        writeln!(self.orders, "{order}").unwrap();
        self.read(OBEYED);
    }

    /// Kills the process, and returns when it is gone.
    pub(crate) fn kill(&mut self) {
        // Both fail only for one that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops the process (SIGSTOP) until the guard is dropped.
    pub(crate) fn stop(&self) -> Stopped {
        let script = "kill -STOP $0 && echo stopped; read nothing; kill -CONT $0";
        let mut shell = Command::new("sh")
            .args(["-c", script, &self.child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(shell.stdout.take().unwrap());
        let stopped = Stopped(shell);
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "stopped\n", "the process could not be stopped");
        stopped
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A stopped process; it goes on when this is dropped.
pub(crate) struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "the process that the other tests start; by itself it does nothing"]
fn serves_until_its_starter_ends() {
    let Ok(work) = std::env::var(WORK) else {
        return;
    };
    let mut numbers = work
        .split(' ')
        .map(|number| number.parse::<usize>().unwrap());
    let mut number = || numbers.next().expect("three numbers");
    let (slots, queue) = (number(), number());
    let state = Arc::new(State {
        fails: AtomicBool::new(false),
        places: Semaphore::new(slots + queue),
        slots: Semaphore::new(slots),
        mean: Duration::from_micros(number() as u64),
        // Each has the same to do in the same order: what differs between two stages is then not their luck.
        rng: Mutex::new(SmallRng::seed_from_u64(1)),
    });
    let orders = Arc::clone(&state);
    std::thread::spawn(move || follow(&orders));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(serve(state));
}

struct State {
    fails: AtomicBool,
    places: Semaphore,
    slots: Semaphore,
    mean: Duration,
    rng: Mutex<SmallRng>,
}

fn follow(state: &State) {
    for order in std::io::stdin().lines().map_while(Result::ok) {
        state.fails.store(order == "fail", Relaxed);
        println!("{OBEYED}");
    }
    std::process::exit(0);
}

async fn serve(state: Arc<State>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{LISTENING}{}", listener.local_addr().unwrap());
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        let service = service_fn(move |_| {
            let state = Arc::clone(&state);
            async move { Ok::<_, Infallible>(state.answer().await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

impl State {
    async fn answer(&self) -> Response<Full<Bytes>> {
        let place = self.places.try_acquire();
        if self.fails.load(Relaxed) || place.is_err() {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return response;
        }
        let _slot = self.slots.acquire().await;
        let uniform: f64 = self.rng.lock().unwrap().random();
        sleep(self.mean.mul_f64(2.0 * uniform)).await;
        Response::new(Full::from("hello"))
    }
}
