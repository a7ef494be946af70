//! One of four real servers breaks: what callers see of it through rolecall, and through what they would use instead.
//!
//! Every contestant in turn balances the same load over four new server processes. One of them is killed, stopped, made to
//! fail, to be slow, to refuse connections or to flap, for ten seconds; then it is well again. A table shows how many
//! requests failed meanwhile, how long the others took, and how soon the server has its share again. It is about
//! balancing: all use the same connections, but tonic, which brings its own and speaks gRPC, and Envoy, which is a hop.
//!
//! ```sh
//! cargo run --release --example faults                      # some 10 minutes
//! cargo run --release --example faults -- --runs 5          # medians
//! ENVOY=/usr/bin/envoy cargo run --release --example faults # with Envoy
//! cargo run --release --example faults -- --quick           # rolecall alone, half a minute
//! cargo run --release --example faults -- 'rolecall HTTP/2' 'rolecall gRPC' 'rolecall stream' # ours by other protocols
//! cargo run --release --example faults -- --events stop 'tower PeakEwma' rolecall # these only, and what rolecall says
//! ```
//!
//! The exit code is 1 if a promise of ours is broken; `--quick` holds it only to loose ones, and measures a miss twice
//! more. It needs Linux, and nothing beyond loopback. The servers are this same program, and end with it, whatever ends
//! it.

#![expect(clippy::disallowed_methods, reason = "a program may look at the clock")]

mod chance;
mod contestants;
mod fault;
mod load;
mod options;
mod process;
mod report;
mod server;
mod trial;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rolecall::BoxError;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

use crate::options::Options;
use crate::report::Row;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    let done = if args.next_if(|arg| arg == process::AS_SERVER).is_some() {
        serve(args)
    } else {
        Options::parse(args).and_then(measure)
    };
    done.unwrap_or_else(|error| {
        eprintln!("faults: {error}");
        ExitCode::from(2)
    })
}

fn serve(mut args: impl Iterator<Item = String>) -> Result<ExitCode, BoxError> {
    let mut arg = || args.next().ok_or("a server needs a number and an address");
    let (number, addr) = (arg()?.parse()?, arg()?.parse()?);
    server::run(number, addr).map(|()| ExitCode::SUCCESS)
}

/// The servers' guards live in the future that is dropped here when somebody ends the program.
#[tokio::main(worker_threads = 2)]
async fn measure(options: Options) -> Result<ExitCode, BoxError> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        measured = all(&options) => measured,
        _ = ctrl_c() => Ok(ExitCode::from(130)),
        _ = terminate.recv() => Ok(ExitCode::from(143)),
    }
}

async fn all(options: &Options) -> Result<ExitCode, BoxError> {
    report::print_heading(options);
    let mut rows: Vec<Row> = Vec::new();
    for fault in &options.faults {
        rows.extend(options.contestants.iter().map(|contestant| Row {
            fault: *fault,
            contestant: *contestant,
            runs: Vec::new(),
        }));
    }
    let in_all = rows.len() as u64 * options.runs;
    let (began, mut done) = (Instant::now(), 0);
    // Whatever else the machine does falls on all of them alike.
    for run in 1..=options.runs {
        for row in &mut rows {
            row.measure(run, options).await?;
            done += 1;
            let left = began.elapsed() / done * (in_all as u32 - done);
            eprintln!("{}; {} left", row.last(options), minutes(left));
        }
    }
    // And what fell on a quick run alone is not of the fault: a miss is measured twice more, and the medians count.
    if options.quick {
        for row in &mut rows {
            if !row.holds(options) {
                for run in [options.runs + 1, options.runs + 2] {
                    row.measure(run, options).await?;
                    eprintln!("{}; once more", row.last(options));
                }
            }
        }
    }
    eprintln!();
    report::print_table(&rows, options);
    let hold = report::print_promises(&rows, options);
    Ok(ExitCode::from(u8::from(!hold)))
}

impl Row {
    async fn measure(&mut self, run: u64, options: &Options) -> Result<(), BoxError> {
        let tell = options.tell_events && self.contestant.is_ours();
        let measured = trial::run(self.contestant, self.fault, options.times(), run, tell).await?;
        self.runs.push(measured);
        Ok(())
    }
}

fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02} min", seconds / 60, seconds % 60)
}
