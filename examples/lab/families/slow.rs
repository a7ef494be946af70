//! Servers that are slow, for good or again and again, and callers that send little.
//!
//! What keeps a fleet from starving somebody for a late answer must not cost where servers *are* slow. The bound is the p99
//! of the rules as they were when `before.toml` was recorded, seed by seed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::row::{Figure, Row};
use super::sweep::{Cell, Sweep, mean};
use crate::contestants::Contestant;
use crate::scenario::Scenario;
use crate::summary::Latencies;
use crate::world::WorldError;

const OURS: Contestant = Contestant::Ours;

/// How much slower than before.
const SLOWER: f64 = 1.05;

/// Figures of one variation, one for each seed from 1 on.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Before {
    p99_ms: Vec<f64>,
    failed: Vec<f64>,
}

pub(super) fn run(sweep: &Sweep) -> Result<Vec<Row>, WorldError> {
    let cells = cells(sweep)?;
    let readings = sweep.run(&cells, |cell, measures| {
        let timeout = cell.scenario.timeout.as_secs_f64() * 1e3;
        let latencies = Latencies::of(&measures.requests, timeout);
        (latencies.quantile(0.01), latencies.failed_share())
    })?;
    if sweep.is_recorded {
        let all = cells.iter().zip(&readings).map(|(cell, readings)| {
            let runs = readings.of(OURS);
            let before = Before {
                p99_ms: runs.iter().map(|run| run.0).collect(),
                failed: runs.iter().map(|run| run.1).collect(),
            };
            (cell.label.as_str(), before)
        });
        record(&all.collect(), sweep)?;
    }
    let known: BTreeMap<String, Before> = toml::from_str(&fs::read_to_string(file())?)?;
    let unknown = Before::default();
    let rows = cells.into_iter().zip(readings).map(|(cell, readings)| {
        let before = known.get(&cell.label).unwrap_or(&unknown);
        let (p99, failed) = (
            readings.mean(OURS, |run| run.0),
            readings.mean(OURS, |run| run.1),
        );
        let p99_before = mean(sweep.of_seeds(&before.p99_ms));
        Row {
            label: cell.label,
            figures: vec![
                Figure::milliseconds("p99", p99),
                Figure::milliseconds("before", p99_before),
                Figure::plain("ratio", p99 / p99_before).at_most(SLOWER),
                Figure::share("failed", failed),
                Figure::share("before", mean(sweep.of_seeds(&before.failed))),
            ],
        }
    });
    Ok(rows.collect())
}

fn cells(sweep: &Sweep) -> Result<Vec<Cell>, WorldError> {
    let mut cells = Vec::new();
    // Name, number of servers where it is varied, callers, and requests a second of each where they send little.
    type Variation = (&'static str, Option<usize>, usize, Option<f64>);
    let variations: &[Variation] = &[
        ("one_slow", None, 5, None),
        ("one_slow", None, 200, None),
        ("one_slow", None, 200, Some(3.0)),
        ("one_slow", None, 1000, Some(0.3)),
        ("flapping_slow", None, 5, None),
        ("flapping_slow", None, 200, None),
        ("flapping_slow", None, 200, Some(3.0)),
        ("het4", None, 5, None),
        ("het4", None, 1000, None),
        ("antagonist", Some(10), 50, None),
        ("antagonist", Some(100), 50, None),
        ("mixed_cost", None, 5, None),
        ("mixed_cost", None, 200, None),
        ("half_4x_slower", None, 5, None),
        ("half_4x_slower", Some(100), 5, None),
        ("half_4x_slower", Some(100), 200, None),
    ];
    let part = if sweep.is_quick {
        &variations[..3]
    } else {
        variations
    };
    for &(name, servers, callers, rate) in part {
        let mut scenario = Scenario::find(name)?;
        scenario.states = false;
        scenario.measure_from = Duration::from_secs(10);
        scenario.duration = scenario.duration.min(Duration::from_secs(46));
        scenario.clients.count = callers;
        if let Some(rate) = rate {
            scenario.clients.load = None;
            scenario.clients.requests_per_second = Some(rate * callers as f64);
        }
        if let Some(servers) = servers {
            let groups = scenario.servers.len();
            for group in &mut scenario.servers {
                group.count = servers / groups;
            }
        }
        let count = scenario.servers().count();
        let each = rate.map_or_else(String::new, |rate| format!(" with {rate}/s each"));
        cells.push(Cell {
            label: format!("{name}, servers: {count}, callers: {callers}{each}"),
            scenario,
            contestants: &[OURS],
        });
    }
    Ok(cells)
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/lab/families/before.toml")
}

fn record(all: &BTreeMap<&str, Before>, sweep: &Sweep) -> Result<(), WorldError> {
    if sweep.first_seed != 1 || sweep.is_quick {
        return Err("--record is for all variations and seeds from 1 on".into());
    }
    let head = "# What the family `slow` compares with, seed by seed: `lab --family slow --record` wrote it.\n\n";
    fs::write(file(), format!("{head}{}", toml::to_string(all)?))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variation_has_figures_to_compare_with() {
        let sweep = Sweep {
            first_seed: 1,
            seeds: 20,
            is_quick: false,
            is_recorded: false,
        };
        let known: BTreeMap<String, Before> =
            toml::from_str(&fs::read_to_string(file()).unwrap()).unwrap();
        for cell in cells(&sweep).unwrap() {
            let before = &known[&cell.label];
            assert_eq!((before.p99_ms.len(), before.failed.len()), (20, 20));
        }
    }
}
