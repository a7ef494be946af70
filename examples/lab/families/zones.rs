//! Three zones of callers and servers: what crosses, and what that is worth.
//!
//! The bounds are for clients with the default price. With everything well at least 95 % of requests stay, and where a zone is
//! slow, p99 is at most 1.3 times that of clients without a preference.

use super::row::{Figure, Row};
use super::sweep::{Cell, Sweep};
use crate::contestants::Contestant;
use crate::scenario::Scenario;
use crate::summary::Latencies;
use crate::world::WorldError;

const NONE: Contestant = Contestant::Ours;
/// The default price.
const OURS: Contestant = Contestant::OursInZones(20);
const LOW: Contestant = Contestant::OursInZones(13);
const HIGH: Contestant = Contestant::OursInZones(30);
const HARD: Contestant = Contestant::OursHardZones;

/// The most that may cross with everything well, and the most that p99 may be over that without a preference where a zone is slow.
const CROSSED: f64 = 0.05;
const SLOWER: f64 = 1.3;

struct Reading {
    crossed: f64,
    failed: f64,
    p99: f64,
}

pub(super) fn run(sweep: &Sweep) -> Result<Vec<Row>, WorldError> {
    let names = [
        "zones_well",
        "zones_lost",
        "zones_slow",
        "zones_erring",
        "zones_shedding",
        "zones_uneven",
        "zones_small",
    ];
    let cells = sweep.some(&names).iter().map(|name| {
        Ok(Cell {
            label: (*name).to_owned(),
            scenario: Scenario::find(name)?,
            contestants: &[NONE, OURS, LOW, HIGH, HARD],
        })
    });
    let cells = cells.collect::<Result<Vec<_>, WorldError>>()?;
    let readings = sweep.run(&cells, |cell, measures| {
        let timeout = cell.scenario.timeout.as_secs_f64() * 1e3;
        let latencies = Latencies::of(&measures.requests, timeout);
        Reading {
            crossed: measures.crossed as f64 / (measures.attempts as f64).max(1.0),
            failed: latencies.failed_share(),
            p99: latencies.quantile(0.01),
        }
    })?;
    let rows = cells.into_iter().zip(readings).map(|(cell, readings)| {
        let crossed = |one| readings.mean(one, |run| run.crossed);
        let failed = |one| readings.mean(one, |run| run.failed);
        let p99 = |one| readings.mean(one, |run| run.p99);
        let mut crosses = Figure::share("crossed", crossed(OURS));
        let mut slower = Figure::plain("p99 over none", p99(OURS) / p99(NONE));
        match cell.label.as_str() {
            "zones_well" => crosses = crosses.at_most(CROSSED),
            "zones_slow" => slower = slower.at_most(SLOWER),
            _ => {}
        }
        Row {
            label: cell.label,
            figures: vec![
                crosses,
                Figure::share("at 1.3", crossed(LOW)),
                Figure::share("at 3", crossed(HIGH)),
                Figure::share("none", crossed(NONE)),
                Figure::milliseconds("p99", p99(OURS)),
                Figure::milliseconds("at 1.3", p99(LOW)),
                Figure::milliseconds("at 3", p99(HIGH)),
                Figure::milliseconds("none", p99(NONE)),
                Figure::milliseconds("own only", p99(HARD)),
                slower,
                Figure::share("failed", failed(OURS)),
                Figure::share("none", failed(NONE)),
                Figure::share("own only", failed(HARD)),
            ],
        }
    });
    Ok(rows.collect())
}
