//! Single situations with a bound of their own.

use std::collections::HashMap;

use super::row::{Figure, Row};
use super::sweep::{Cell, Sweep};
use crate::contestants::{Contestant, Standing};
use crate::measures::Measures;
use crate::moment::{SECOND, nanos};
use crate::scenario::Scenario;
use crate::summary::Latencies;
use crate::world::WorldError;

const OURS: Contestant = Contestant::Ours;
const TOWER: Contestant = Contestant::TowerPeakEwma;
const ORACLE: Contestant = Contestant::Oracle;

pub(super) fn run(sweep: &Sweep) -> Result<Vec<Row>, WorldError> {
    let mut rows = lying(sweep)?;
    rows.extend(far(sweep)?);
    rows.extend(thousand(sweep)?);
    Ok(rows)
}

/// A server that answers well at once and does nothing: the share that it draws.
fn lying(sweep: &Sweep) -> Result<Vec<Row>, WorldError> {
    let cells = callers(sweep, "lying", &[5, 1, 50], &[OURS])?;
    let readings = sweep.run(&cells, |_, measures| {
        measures.shares().last().copied().unwrap_or(f64::NAN)
    })?;
    let rows = cells.into_iter().zip(readings).map(|(cell, readings)| {
        let share = readings.mean(OURS, |share| *share);
        let share = Figure::plain("share of the lying server", share);
        Row {
            label: cell.label,
            figures: vec![share.at_most(4.2).want(3.5)],
        }
    });
    Ok(rows.collect())
}

/// Servers behind a network that takes longer than they do.
fn far(sweep: &Sweep) -> Result<Vec<Row>, WorldError> {
    let cells = callers(
        sweep,
        "far_half_slower",
        &[5, 1, 50],
        &[OURS, TOWER, ORACLE],
    )?;
    let readings = sweep.run(&cells, p99)?;
    let rows = cells.into_iter().zip(readings).map(|(cell, readings)| {
        let [ours, tower, oracle] = [OURS, TOWER, ORACLE].map(|who| readings.mean(who, |p99| *p99));
        Row {
            label: cell.label,
            figures: vec![
                Figure::milliseconds("p99", ours),
                Figure::milliseconds("tower PeakEwma", tower),
                Figure::plain("ratio", ours / tower).at_most(0.95),
                Figure::plain("the oracle's", oracle / tower),
            ],
        }
    });
    Ok(rows.collect())
}

/// A thousand servers of which half fail and heal.
fn thousand(sweep: &Sweep) -> Result<Vec<Row>, WorldError> {
    let cells = callers(sweep, "thousand", &[1, 5], &[OURS])?;
    let readings = sweep.run(&cells, |cell, measures| {
        let heals = cell.scenario.faults[0].until.map_or(0, nanos);
        let failed = Latencies::of(&measures.requests, 0.0).failed();
        let mut is_out = HashMap::new();
        let mut last_return = heals;
        let mut out_when_healed = 0;
        for change in &measures.standings {
            is_out.insert(
                (change.client, change.server),
                change.standing == Standing::Ejected,
            );
            if change.at <= heals {
                out_when_healed = is_out.values().filter(|out| **out).count();
            } else if change.standing == Standing::Returned {
                last_return = change.at;
            }
        }
        let all_back = is_out.values().all(|out| !out);
        let back_after = if all_back {
            (last_return - heals) as f64 / SECOND as f64
        } else {
            f64::INFINITY
        };
        let clients = cell.scenario.clients.count;
        (failed, out_when_healed / clients, back_after)
    })?;
    let rows = cells.into_iter().zip(readings).map(|(cell, readings)| Row {
        label: cell.label,
        figures: vec![
            Figure::plain("requests failed", readings.mean(OURS, |run| run.0 as f64)),
            Figure::plain("out when healed", readings.mean(OURS, |run| run.1 as f64)),
            Figure::seconds("all back after", readings.median(OURS, |run| run.2)),
        ],
    });
    Ok(rows.collect())
}

/// A scenario with different numbers of callers.
fn callers(
    sweep: &Sweep,
    name: &str,
    counts: &[usize],
    contestants: &'static [Contestant],
) -> Result<Vec<Cell>, WorldError> {
    let base = Scenario::find(name)?;
    let cells = sweep.some(counts).iter().map(|&count| {
        let mut scenario = base.clone();
        scenario.clients.count = count;
        Cell {
            label: format!("{name}, callers: {count}"),
            scenario,
            contestants,
        }
    });
    Ok(cells.collect())
}

fn p99(cell: &Cell, measures: &Measures) -> f64 {
    let timeout = cell.scenario.timeout.as_secs_f64() * 1e3;
    Latencies::of(&measures.requests, timeout).quantile(0.01)
}
