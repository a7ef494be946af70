//! What a request costs over loopback, in processes of their own: direct, through libraries that balance in the caller, and
//! through the proxies that they spare.
//!
//! `cargo bench --bench end_to_end`, with `-- --quick` for a smoke run. Two servers answer at once, so that everything
//! measured is the way there and back. HAProxy and nginx take part if they are installed, Envoy if the environment variable
//! `ENVOY` names its binary. It needs Linux: the CPU time of all processes involved is read from `/proc`.
//!
//! `benches/end_to_end/count.sh` counts the instructions and the system calls of a request instead, which a busy machine does
//! not change.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod clients;
mod counted;
mod grpc;
mod measure;
#[path = "../support/options.rs"]
mod options;
mod process;
mod proxies;
#[path = "../support/report.rs"]
#[expect(
    dead_code,
    reason = "sizes are of what is in flight, and bounds are from above"
)]
mod report;
mod server;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rolecall::BoxError;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

use crate::clients::Protocol;
use crate::counted::Counted;
use crate::measure::{Case, Sample};
use crate::options::Options;
use crate::process::Server;
use crate::proxies::Proxy;
use crate::report::{Bound, Cost, Promise};

const SERVERS: u8 = 2;
/// As many as are in flight at most.
const CALLERS: u16 = 64;
const IN_FLIGHT: [u16; 2] = [1, CALLERS];

fn main() -> Result<(), BoxError> {
    let mut args = std::env::args().skip(1);
    if args.next().is_some_and(|arg| arg == process::AS_SERVER) {
        let addr = args.next().ok_or("a server needs an address")?;
        return server::run(addr.parse()?);
    }
    let Some(options) = Options::from_args() else {
        return Ok(());
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    if let Some(counted) = Counted::from_args()? {
        return counted.run(&runtime);
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    spawn_note_of_interrupts(Arc::clone(&interrupted))?;
    let servers: Vec<_> = (0..SERVERS).map(Server::start).collect::<Result<_, _>>()?;
    let addrs: Vec<_> = servers.iter().map(Server::addr).collect();
    let proxies = proxies::start_all(&addrs)?;
    let pids: Vec<_> = servers.iter().map(Server::pid).collect();

    let rounds = options.rounds(15);
    let batch = options.batch(Duration::from_secs(1));
    report::heading(
        "end to end: requests over loopback to 2 server processes of a thread each, a caller of a thread",
        &format!(
            "{rounds} rounds of {batch:?} a case, cases in turn; medians, quartiles in brackets; proxies with a thread each"
        ),
    );
    let (http1, http2) = (Protocol::Http1, Protocol::Http2);
    for (title, of_protocol, promises) in [
        (
            "HTTP/1.1",
            cases(&runtime, http1, &addrs, &proxies)?,
            vec![http1.promise()],
        ),
        (
            "HTTP/2",
            cases(&runtime, http2, &addrs, &proxies)?,
            vec![http2.promise()],
        ),
        (
            "gRPC, unary",
            grpc::cases(&runtime, &addrs)?,
            grpc::promises(),
        ),
    ] {
        let measured = measure(
            title,
            of_protocol,
            &promises,
            &pids,
            rounds,
            batch,
            &interrupted,
        )?;
        if !measured {
            return Err("interrupted".into());
        }
    }
    Ok(())
}

/// In a thread of its own, since the measured runtime runs only while it is measured.
fn spawn_note_of_interrupts(interrupted: Arc<AtomicBool>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || runtime.block_on(note_interrupts(interrupted)));
    Ok(())
}

/// The guards of processes stand in `main`: it returns instead of dying.
async fn note_interrupts(interrupted: Arc<AtomicBool>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    interrupted.store(true, Relaxed);
    Ok(())
}

fn cases<'a>(
    runtime: &'a Runtime,
    protocol: Protocol,
    servers: &[SocketAddr],
    proxies: &[Proxy],
) -> Result<Vec<Case<'a>>, BoxError> {
    let mut cases = clients::cases(runtime, protocol, servers)?;
    for proxy in proxies {
        cases.extend(clients::by_proxy(runtime, protocol, proxy)?);
    }
    Ok(cases)
}

/// What is promised of the caller's CPU time per request: at most so many times that of another case.
pub(crate) struct Promised {
    pub(crate) case: &'static str,
    pub(crate) over: &'static str,
    pub(crate) must: f64,
    pub(crate) want: f64,
}

/// Measures in turns, and prints, unless it is interrupted.
fn measure(
    title: &str,
    mut cases: Vec<Case<'_>>,
    promises: &[Promised],
    servers: &[u32],
    rounds: usize,
    batch: Duration,
    interrupted: &AtomicBool,
) -> Result<bool, BoxError> {
    let mut samples: Vec<(&str, u16, Vec<Sample>)> = Vec::new();
    for in_flight in IN_FLIGHT {
        let first = samples.len();
        samples.extend(cases.iter().map(|case| (case.name, in_flight, Vec::new())));
        for round in 0..rounds {
            let mut order: Vec<_> = (0..cases.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                if interrupted.load(Relaxed) {
                    return Ok(false);
                }
                let case = &mut cases[index];
                // Opens connections, and warms caches that the case before has filled.
                case.run(servers, in_flight, batch / 10)?;
                let sample = case.run(servers, in_flight, batch)?;
                samples[first + index].2.push(sample);
            }
        }
    }
    let costs = |of: fn(&Sample) -> f64| -> Vec<Cost> {
        let cost = |(name, in_flight, samples): &(&'static str, u16, Vec<Sample>)| Cost {
            name,
            instances: *in_flight,
            rounds: samples.iter().map(of).collect(),
        };
        samples.iter().map(cost).collect()
    };
    println!("{title}\n");
    report::table(
        "requests/s",
        "in flight",
        &costs(|sample| sample.per_second),
    );
    report::table("p50, µs", "in flight", &costs(|sample| sample.p50));
    report::table("p99, µs", "in flight", &costs(|sample| sample.p99));
    let cpu_of_caller = costs(|sample| sample.cpu_of_caller);
    report::table(
        "CPU µs per request, the caller's",
        "in flight",
        &cpu_of_caller,
    );
    report::table(
        "allocations per request, the caller's",
        "in flight",
        &costs(|sample| sample.allocations),
    );
    report::table(
        "bytes allocated per request",
        "in flight",
        &costs(|sample| sample.allocated_bytes),
    );
    let cpu = costs(|sample| sample.cpu);
    report::table("CPU µs per request, all processes", "in flight", &cpu);
    report::table(
        &format!("CPU µs added to {}", cases[0].name),
        "in flight",
        &added(&cpu),
    );
    let promise = |promised: &Promised| {
        let Promised {
            case, over, want, ..
        } = promised;
        let what = format!("{case} over {over}, want <= {want}");
        let bound = Bound::AtMost(promised.must);
        Promise::of_ratio(
            &what,
            &cpu_of_caller,
            (case, CALLERS),
            (over, CALLERS),
            bound,
        )
    };
    println!("CPU of the caller, {CALLERS} in flight");
    report::promises(&promises.iter().map(promise).collect::<Vec<_>>());
    Ok(true)
}

/// What each case takes more than the first of its size, round by round.
fn added(cpu: &[Cost]) -> Vec<Cost> {
    let mut added = Vec::new();
    for in_flight in IN_FLIGHT {
        let mut costs = cpu.iter().filter(|cost| cost.instances == in_flight);
        let Some(direct) = costs.next() else { continue };
        added.extend(costs.map(|cost| {
            Cost {
                rounds: (cost.rounds.iter().zip(&direct.rounds))
                    .map(|(cost, direct)| cost - direct)
                    .collect(),
                ..*cost
            }
        }));
    }
    added
}
