//! Every server fails every request for a while.
//!
//! Two bounds: in the 30 s after the fault callers must not notice that it was there, and a caller that starts during it
//! ejects nobody.

use std::time::Duration;

use super::row::{Figure, Row};
use super::sweep::{Cell, Readings, Sweep};
use crate::contestants::Contestant;
use crate::measures::{Measures, Request};
use crate::scenario::{Effect, Fail, Scenario};
use crate::summary::Latencies;
use crate::world::WorldError;

const OURS: Contestant = Contestant::Ours;
const BASELINE: Contestant = Contestant::OursWithoutEjection;

/// Time before the fault, and after it.
const BEFORE: Duration = Duration::from_secs(10);
const AFTER: Duration = Duration::from_secs(30);
/// Cold starts are cheap, and rare ejections are looked for: so many times the seeds of the others.
const COLD_STARTS: u64 = 10;

pub(super) fn run(sweep: &Sweep) -> Result<Vec<Row>, WorldError> {
    let base = Scenario::find("shared_fault")?;
    let mut cells = Vec::new();
    for &servers in sweep.some(&[10, 3]) {
        for &seconds in sweep.some(&[5, 60]) {
            for &load in sweep.some(&[0.7, 1.0]) {
                for &callers in sweep.some(&[1, 2]) {
                    for at_once in [true, false] {
                        cells.push(ending(&base, servers, seconds, load, callers, at_once));
                    }
                }
            }
        }
    }
    let readings = sweep.run(&cells, Reading::of)?;
    let rows = cells.into_iter().zip(&readings);
    let mut rows: Vec<_> = rows
        .map(|(cell, readings)| Row {
            label: cell.label,
            figures: figures(readings, cell.scenario.servers().count()),
        })
        .collect();
    rows.extend(cold_starts(sweep, &base)?);
    Ok(rows)
}

fn ending(
    base: &Scenario,
    servers: usize,
    seconds: u64,
    load: f64,
    callers: usize,
    at_once: bool,
) -> Cell {
    let mut scenario = vary(base, servers, load, callers, at_once);
    let end = BEFORE + Duration::from_secs(seconds);
    scenario.measure_from = end;
    scenario.duration = end + AFTER;
    scenario.faults[0].from = BEFORE;
    scenario.faults[0].until = Some(end);
    let how = how(at_once);
    Cell {
        label: format!(
            "{servers} servers fail {how} for {seconds} s, load {load:.1}, callers: {callers}"
        ),
        scenario,
        contestants: &[OURS, BASELINE],
    }
}

fn vary(base: &Scenario, servers: usize, load: f64, callers: usize, at_once: bool) -> Scenario {
    let mut scenario = base.clone();
    scenario.servers[0].count = servers;
    scenario.clients.count = callers;
    scenario.clients.load = Some(load);
    scenario.faults[0].effect = Effect::Fail(Fail {
        share: 1.0,
        at_once,
    });
    scenario
}

fn how(at_once: bool) -> &'static str {
    if at_once { "at once" } else { "after service" }
}

/// What happened after the fault.
struct Reading {
    failed: f64,
    /// Milliseconds, of the requests that were answered: the others have a bound of their own.
    p99: f64,
    ejections: usize,
}

impl Reading {
    fn of(_: &Cell, measures: &Measures) -> Self {
        let answered = |request: &&Request| request.micros.is_some();
        let answered = measures.requests.iter().filter(answered);
        Self {
            failed: Latencies::of(&measures.requests, 0.0).failed_share(),
            p99: Latencies::of(answered, 0.0).quantile(0.01),
            ejections: measures.ejections(),
        }
    }
}

fn figures(readings: &Readings<Reading>, servers: usize) -> Vec<Figure> {
    let failed = readings.mean(OURS, |run| run.failed);
    let p99 = |contestant| readings.mean(contestant, |run| run.p99);
    let (most_failed, most_slower) = if servers < 10 {
        (0.02, 5.0)
    } else {
        (0.0, 1.1)
    };
    vec![
        Figure::share("failed after", failed).at_most(most_failed),
        Figure::share(
            "without ejection",
            readings.mean(BASELINE, |run| run.failed),
        ),
        Figure::milliseconds("p99", p99(OURS)),
        Figure::milliseconds("without ejection", p99(BASELINE)),
        Figure::plain("ratio", p99(OURS) / p99(BASELINE))
            .at_most(most_slower)
            .want(1.1),
        Figure::plain("ejections", readings.mean(OURS, |run| run.ejections as f64)),
    ]
}

fn cold_starts(sweep: &Sweep, base: &Scenario) -> Result<Vec<Row>, WorldError> {
    let mut cells = Vec::new();
    for &servers in sweep.some(&[10, 3]) {
        for &callers in sweep.some(&[1, 2]) {
            for at_once in [true, false] {
                let mut scenario = vary(base, servers, 0.7, callers, at_once);
                scenario.measure_from = Duration::ZERO;
                scenario.duration = Duration::from_secs(10);
                scenario.faults[0].from = Duration::ZERO;
                scenario.faults[0].until = None;
                let how = how(at_once);
                cells.push(Cell {
                    label: format!("cold start, {servers} servers fail {how}, callers: {callers}"),
                    scenario,
                    contestants: &[OURS],
                });
            }
        }
    }
    let seeds = sweep.seeds * COLD_STARTS;
    let readings = sweep.run_seeds(seeds, &cells, |_, measures| measures.ejections())?;
    let rows = cells.into_iter().zip(readings).map(|(cell, readings)| Row {
        label: cell.label,
        figures: vec![
            Figure::share("seeds that eject", readings.share(OURS, |&run| run > 0)).at_most(0.01),
            Figure::plain("ejections", readings.mean(OURS, |&run| run as f64)),
        ],
    });
    Ok(rows.collect())
}
