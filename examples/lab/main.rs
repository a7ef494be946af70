//! A laboratory for load balancers: simulated fleets, the shipped rules, and what people would use instead, side by side.
//!
//! Every contestant meets the same requests and the same faults, each client knows only what it saw itself, and no clock
//! is read: hours of traffic take minutes and come out the same each time. It prints latencies, failures and shares for
//! each scenario, then what the default set must show, with a verdict. Data and plots go to `target/lab/`: `lab.json`, the
//! latency distribution of each scenario, and what became of each server where there are faults.
//!
//! ```sh
//! cargo run --release --example lab                              # the default set
//! cargo run --release --example lab -- --quick                   # a part of it; seconds
//! cargo run --release --example lab -- --scenario three_slow     # one of examples/lab/scenarios
//! cargo run --release --example lab -- --scenario my_fleet.toml  # yours; scenarios/README.md says how to write it
//! ```
//!
//! `--family NAME` (or `all`) runs instead variations of one scenario, over `--seeds N` (default 20) seeds, and compares each
//! with its bound; `scenarios/README.md` lists the families.
//!
//! ```sh
//! cargo run --release --example lab -- --family shedding           # minutes
//! cargo run --release --example lab -- --family all --quick        # few variations and seeds
//! ```
//!
//! `--probes` lists at the end the rare branches of the rules, those first that no run reached: what is about them was not
//! simulated.
//!
//! `--seed N` (default 1) begins elsewhere, `--out DIR` puts the files elsewhere. The exit code is 1 if a promise of the
//! default set or of `--quick` is broken, or a bound of a family missed.

mod chance;
mod contestants;
mod families;
mod measures;
mod moment;
mod options;
mod plots;
mod promises;
mod report;
mod run;
mod scenario;
mod server;
mod summary;
mod timeline;
mod workload;
mod world;

use std::fs;
use std::process::ExitCode;

use crate::options::Options;
use crate::scenario::{DEFAULT_SET, Scenario};

/// Seeds of a run that is not quick: percentiles are taken over all of them, and compared between them.
const SEEDS: u64 = 3;

fn main() -> ExitCode {
    let outcome = Options::from_args().and_then(|options| {
        let code = if options.families.is_empty() {
            run_lab(&options)?
        } else {
            families::run(&options)?
        };
        if options.probes {
            report::branches();
        }
        Ok(code)
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("lab: {error}");
        ExitCode::from(2)
    })
}

fn run_lab(options: &Options) -> Result<ExitCode, world::WorldError> {
    let scenarios = if options.scenarios.is_empty() {
        let all: Result<Vec<_>, _> = DEFAULT_SET
            .iter()
            .map(|name| Scenario::find(name))
            .collect();
        let part = |scenario: &Scenario| scenario.quick || !options.quick;
        all?.into_iter().filter(part).collect()
    } else {
        let given: Result<Vec<_>, _> = options
            .scenarios
            .iter()
            .map(|name| Scenario::find(name))
            .collect();
        given?
    };
    let many = if options.quick { 1 } else { SEEDS };
    let seeds: Vec<u64> = (options.seed..options.seed.saturating_add(many)).collect();
    let outcomes = run::run(scenarios, &seeds)?;

    report::scenarios(&outcomes);
    report::geometric_means(&outcomes);
    let promises = if options.scenarios.is_empty() {
        promises::promises(&outcomes)
    } else {
        Vec::new()
    };
    if !promises.is_empty() {
        report::promises(&promises);
    }

    fs::create_dir_all(&options.out)?;
    report::json(&outcomes, &promises, &seeds, &options.out.join("lab.json"))?;
    for outcome in &outcomes {
        plots::draw(outcome, &options.out)?;
    }
    eprintln!("data and plots are in {}", options.out.display());
    let broken = promises.iter().any(|promise| !promise.is_kept());
    Ok(ExitCode::from(u8::from(broken)))
}
