//! One of a few servers hangs: how soon it is ejected.

use super::row::{Figure, Row};
use super::sweep::{Cell, Sweep};
use crate::contestants::{Contestant, Standing};
use crate::moment::{SECOND, nanos};
use crate::scenario::Scenario;
use crate::summary::Latencies;
use crate::world::WorldError;

const OURS: Contestant = Contestant::Ours;

/// Seconds within which it must be ejected.
const SOON: f64 = 3.5;
/// So many times the seeds of other families: the bound is on the slowest twentieth.
const SEEDS: u64 = 5;

pub(super) fn run(sweep: &Sweep) -> Result<Vec<Row>, WorldError> {
    let base = Scenario::find("hang")?;
    let mut cells = Vec::new();
    for &servers in sweep.some(&[2, 3, 4]) {
        for &rate in sweep.some(&[20, 50, 100, 1000]) {
            let mut scenario = base.clone();
            scenario.servers[0].count = servers - 1;
            scenario.clients.requests_per_second = Some(f64::from(rate));
            cells.push(Cell {
                label: format!("1 of {servers} hangs, {rate}/s"),
                scenario,
                contestants: &[OURS],
            });
        }
    }
    let readings = sweep.run_seeds(sweep.seeds * SEEDS, &cells, |cell, measures| {
        let hanging = cell.scenario.afflicted(&cell.scenario.faults[0])[0];
        let begin = nanos(cell.scenario.faults[0].from);
        let mut changes = measures.standings.iter();
        let ejected = changes.find(|change| {
            change.server == hanging && change.standing == Standing::Ejected && change.at >= begin
        });
        let after = ejected.map_or(f64::INFINITY, |ejected| {
            (ejected.at - begin) as f64 / SECOND as f64
        });
        let failed = Latencies::of(&measures.requests, 0.0).failed_share();
        (after, failed)
    })?;
    let rows = cells.into_iter().zip(readings).map(|(cell, readings)| Row {
        label: cell.label,
        figures: vec![
            Figure::share(
                "seeds within 3.5 s",
                readings.share(OURS, |run| run.0 <= SOON),
            )
            .at_least(0.95),
            Figure::seconds("ejected after", readings.median(OURS, |run| run.0)),
            Figure::share("failed in 10 s", readings.mean(OURS, |run| run.1)),
        ],
    });
    Ok(rows.collect())
}
