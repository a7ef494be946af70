//! All servers pause together for some milliseconds.
//!
//! Each has answered late, and none is slow: nobody may be left without requests for it. The bounds hold from 200 requests
//! a second; below that the figures are reported.

use std::time::Duration;

use super::row::{Figure, Row};
use super::sweep::{Cell, Sweep};
use crate::contestants::Contestant;
use crate::moment::SECOND;
use crate::scenario::Scenario;
use crate::world::WorldError;

const OURS: Contestant = Contestant::Ours;

/// Least requests a second from which the bounds hold.
const BOUND_FROM: u32 = 200;
/// Whole seconds after the pause, in which shares are counted.
const SHARES_FROM: usize = 2;
const SHARES_UNTIL: usize = 12;

pub(super) fn run(sweep: &Sweep) -> Result<Vec<Row>, WorldError> {
    let base = Scenario::find("shared_pause")?;
    let begin = base.measure_from;
    let mut cells = Vec::new();
    let mut rates = Vec::new();
    for &servers in sweep.some(&[4, 2, 8]) {
        for &rate in sweep.some(&[200, 50, 1000]) {
            for &millis in sweep.some(&[100, 50, 300]) {
                let mut scenario = base.clone();
                scenario.servers[0].count = servers;
                scenario.clients.requests_per_second = Some(f64::from(rate));
                scenario.faults[0].until = Some(begin + Duration::from_millis(millis));
                rates.push(rate);
                cells.push(Cell {
                    label: format!("{servers} servers pause for {millis} ms, {rate}/s"),
                    scenario,
                    contestants: &[OURS],
                });
            }
        }
    }
    let second = begin.as_secs() as usize;
    let readings = sweep.run(&cells, |_, measures| {
        let shares = measures.shares_in(second + SHARES_FROM..second + SHARES_UNTIL);
        let least = shares.into_iter().fold(f64::INFINITY, f64::min);
        let gap = measures.longest_gap() as f64 / SECOND as f64;
        (gap, least)
    })?;
    let rows = cells.into_iter().zip(readings).zip(rates);
    let rows = rows.map(|((cell, readings), rate)| {
        let starved = Figure::share("seeds over 5 s", readings.share(OURS, |run| run.0 > 5.0));
        let gap = Figure::seconds("longest gap", readings.median(OURS, |run| run.0));
        let least = Figure::plain("least share", readings.median(OURS, |run| run.1));
        let figures = if rate >= BOUND_FROM {
            vec![starved.at_most(0.0), gap.at_most(3.0), least.at_least(0.7)]
        } else {
            vec![starved, gap, least]
        };
        let label = cell.label;
        Row { label, figures }
    });
    Ok(rows.collect())
}
