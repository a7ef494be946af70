//! Small fleets that shed with a plain error, from 9 to 59 s after one server failed for 3 s, or without that.
//!
//! What is refused is refused for load alone, so ejecting anybody for it can only raise the share. The bound is the share
//! that fails without ejection.

use super::row::{Figure, Row};
use super::sweep::{Cell, Sweep};
use crate::contestants::Contestant;
use crate::scenario::Scenario;
use crate::summary::Latencies;
use crate::world::WorldError;

const OURS: Contestant = Contestant::Ours;
const BASELINE: Contestant = Contestant::OursWithoutEjection;

/// Points by which the mean over the seeds may be worse, and a single seed.
const MEAN: f64 = 0.01;
const SINGLE: f64 = 0.04;

pub(super) fn run(sweep: &Sweep) -> Result<Vec<Row>, WorldError> {
    let base = Scenario::find("shedding")?;
    let mut cells = Vec::new();
    for &servers in sweep.some(&[2, 3, 4]) {
        for &load in sweep.some(&[0.9, 0.7, 1.1, 1.5, 2.0]) {
            for is_triggered in [true, false] {
                let mut scenario = base.clone();
                scenario.servers[0].count = servers;
                scenario.clients.load = Some(load);
                if !is_triggered {
                    scenario.faults.clear();
                }
                let trigger = if is_triggered {
                    "after a fault"
                } else {
                    "no fault"
                };
                cells.push(Cell {
                    label: format!("{servers} servers, load {load:.1}, {trigger}"),
                    scenario,
                    contestants: &[OURS, BASELINE],
                });
            }
        }
    }
    let readings = sweep.run(&cells, |_, measures| {
        let ejections = measures.ejections() as f64;
        (
            Latencies::of(&measures.requests, 0.0).failed_share(),
            ejections,
        )
    })?;
    let rows = cells.into_iter().zip(readings).map(|(cell, readings)| {
        let pairs = readings.of(OURS).iter().zip(readings.of(BASELINE));
        let worse = pairs.map(|(ours, baseline)| ours.0 - baseline.0);
        let worst = worse.fold(f64::NEG_INFINITY, f64::max);
        let failed = readings.mean(OURS, |run| run.0);
        let baseline = readings.mean(BASELINE, |run| run.0);
        Row {
            label: cell.label,
            figures: vec![
                Figure::share("failed", failed),
                Figure::share("without ejection", baseline),
                Figure::share("worse by", failed - baseline).at_most(MEAN),
                Figure::share("worst seed", worst).at_most(SINGLE),
                Figure::plain("ejections", readings.mean(OURS, |run| run.1)),
            ],
        }
    });
    Ok(rows.collect())
}
