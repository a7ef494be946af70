//! One caller with few requests.
//!
//! A request that is sent to see whether a server has recovered is a large part of the traffic here. Two bounds: from when
//! every bad server was ejected once, few requests fail; and among any 500 requests no more fail than without ejection.

use std::time::Duration;

use super::row::{Figure, Row};
use super::sweep::{Cell, Readings, Sweep};
use crate::contestants::{Contestant, Standing};
use crate::measures::Measures;
use crate::moment::{Moment, nanos};
use crate::scenario::{Effect, Fail, Fault, Scenario};
use crate::world::WorldError;

const OURS: Contestant = Contestant::Ours;
const BASELINE: Contestant = Contestant::OursWithoutEjection;
const RANDOM: Contestant = Contestant::Random;

/// Requests before the fault begins, on average, and after.
const BEFORE: f64 = 100.0;
const AFTER: f64 = 2000.0;
/// Requests over which failures are counted at least.
const WINDOW: usize = 500;

const RATES: [(&str, f64); 4] = [
    ("1/min", 1.0 / 60.0),
    ("10/s", 10.0),
    ("1/s", 1.0),
    ("0.1/s", 0.1),
];
const FAIL: Effect = Effect::Fail(Fail {
    share: 1.0,
    at_once: true,
});

pub(super) fn run(sweep: &Sweep) -> Result<Vec<Row>, WorldError> {
    let base = Scenario::find("few_requests")?;
    let mut cells = Vec::new();
    for &(bad, of) in sweep.some(&[(1, 10), (1, 2), (3, 10)]) {
        for (how, effect) in [("fails", FAIL), ("hangs", Effect::Hang)] {
            for retries in [0, 1] {
                let retry = if retries > 0 { ", one retry" } else { "" };
                for &(name, rate) in sweep.some(&RATES) {
                    cells.push(Cell {
                        label: format!("{bad} of {of} {how}, {name}{retry}"),
                        scenario: vary(&base, bad, of, effect, retries, rate),
                        contestants: &[OURS, BASELINE, RANDOM],
                    });
                }
            }
        }
    }
    let readings = sweep.run(&cells, Reading::of)?;
    let rows = cells.iter().zip(&readings);
    let mut rows: Vec<_> = rows
        .map(|(cell, readings)| Row {
            label: cell.label.clone(),
            figures: figures(readings, cell.scenario.clients.retries),
        })
        .collect();
    rows.extend(healing(sweep, &base)?);
    Ok(rows)
}

fn vary(
    base: &Scenario,
    bad: usize,
    of: usize,
    effect: Effect,
    retries: usize,
    rate: f64,
) -> Scenario {
    let mut scenario = base.clone();
    let begin = Duration::from_secs_f64(BEFORE / rate);
    scenario.measure_from = begin;
    scenario.duration = Duration::from_secs_f64((BEFORE + AFTER) / rate);
    scenario.clients.requests_per_second = Some(rate);
    scenario.clients.retries = retries;
    for group in &mut scenario.servers {
        group.count = if group.name == "bad" { bad } else { of - bad };
    }
    for fault in &mut scenario.faults {
        fault.from = begin;
        fault.effect = effect;
    }
    scenario
}

/// One run.
struct Reading {
    /// Requests until every bad server was ejected once; all of them if that did not happen.
    until_ejected: usize,
    /// Requests from then on, and how many of them failed.
    count: usize,
    failed: usize,
    /// Share of all requests since the fault began.
    failed_share: f64,
    /// The most failures among any 500 requests in a row.
    worst_window: usize,
}

impl Reading {
    fn of(cell: &Cell, measures: &Measures) -> Self {
        let scenario = &cell.scenario;
        let bad: Vec<_> = scenario
            .faults
            .iter()
            .flat_map(|fault| scenario.afflicted(fault))
            .collect();
        let ejected = bad.iter().map(|&server| {
            let mut changes = measures.standings.iter();
            let first = changes.find(|change| {
                change.server == server
                    && change.standing == Standing::Ejected
                    && change.at >= nanos(scenario.measure_from)
            });
            first.map(|change| change.at)
        });
        let all_ejected = ejected.collect::<Option<Vec<_>>>().unwrap_or_default();
        let from = all_ejected.into_iter().max().unwrap_or(Moment::MAX);
        let mut requests = measures.requests.clone();
        requests.sort_by_key(|request| request.at);
        let failed: Vec<_> = requests
            .iter()
            .map(|request| request.micros.is_none())
            .collect();
        let until_ejected = requests.partition_point(|request| request.at <= from);
        let count_failed = |failed: &[bool]| failed.iter().filter(|failed| **failed).count();
        Self {
            until_ejected,
            count: failed.len() - until_ejected,
            failed: count_failed(&failed[until_ejected..]),
            failed_share: count_failed(&failed) as f64 / failed.len() as f64,
            worst_window: failed.windows(WINDOW).map(count_failed).max().unwrap_or(0),
        }
    }
}

fn figures(readings: &Readings<Reading>, retries: usize) -> Vec<Figure> {
    let random = readings.mean(RANDOM, |run| run.failed_share);
    let counted = readings.of(OURS).iter().filter(|run| run.count >= WINDOW);
    let shares = counted.map(|run| run.failed as f64 / run.count as f64);
    let failed = super::sweep::mean(shares);
    let most = if retries == 0 {
        f64::min(0.015, 0.15 * random)
    } else {
        0.0
    };
    let worst = |contestant| readings.mean(contestant, |run| run.worst_window as f64);
    vec![
        Figure::share("failed once ejected", failed).at_most(most),
        Figure::share("of all", readings.mean(OURS, |run| run.failed_share)),
        Figure::share(
            "without ejection",
            readings.mean(BASELINE, |run| run.failed_share),
        ),
        Figure::share("random", random),
        Figure::plain("of any 500", worst(OURS)).at_most(worst(BASELINE)),
        Figure::plain(
            "ejected after",
            readings.median(OURS, |run| run.until_ejected as f64),
        ),
        Figure::share("too late", readings.share(OURS, |run| run.count < WINDOW)).at_most(0.0),
    ]
}

/// At one request a minute one of two servers fails and is ejected; it heals, and after so many more requests the other
/// breaks. What is reported is how many requests fail until the healed one is used.
fn healing(sweep: &Sweep, base: &Scenario) -> Result<Vec<Row>, WorldError> {
    const RATE: f64 = 1.0 / 60.0;
    const BROKEN: f64 = 300.0;
    let mut cells = Vec::new();
    for &later in sweep.some(&[0, 60, 300]) {
        let mut scenario = vary(base, 1, 2, FAIL, 0, RATE);
        let breaks = scenario.measure_from;
        let heals = breaks + Duration::from_secs_f64(BROKEN / RATE);
        let other_breaks = heals + Duration::from_secs_f64(f64::from(later) / RATE);
        scenario.faults[0].until = Some(heals);
        scenario.faults.push(Fault {
            servers: vec!["good".to_owned()],
            from: other_breaks,
            until: None,
            stagger: Duration::ZERO,
            effect: FAIL,
        });
        scenario.measure_from = other_breaks;
        scenario.duration = other_breaks + Duration::from_secs_f64(1000.0 / RATE);
        cells.push(Cell {
            label: format!("1 of 2 heals, the other breaks {later} requests later, 1/min"),
            scenario,
            contestants: &[OURS, BASELINE],
        });
    }
    let readings = sweep.run(&cells, |_, measures| {
        let mut requests = measures.requests.clone();
        requests.sort_by_key(|request| request.at);
        let failed = requests.iter().filter(|request| request.micros.is_none());
        let first = requests.iter().position(|request| request.micros.is_some());
        let until_used = first.unwrap_or(requests.len()) as f64;
        (until_used, failed.count() as f64 / requests.len() as f64)
    })?;
    let rows = cells.into_iter().zip(readings).map(|(cell, readings)| Row {
        label: cell.label,
        figures: vec![
            Figure::plain("failed until used again", readings.mean(OURS, |run| run.0)),
            Figure::share("failed", readings.mean(OURS, |run| run.1)),
            Figure::share("without ejection", readings.mean(BASELINE, |run| run.1)),
        ],
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::Outcome;
    use crate::moment::SECOND;

    #[test]
    fn failures_count_from_when_every_bad_server_was_ejected_once() {
        let base = Scenario::find("few_requests").unwrap();
        let cell = Cell {
            label: String::new(),
            scenario: vary(&base, 3, 10, FAIL, 0, 1.0),
            contestants: &[OURS],
        };
        let reading = |ejected: &[(usize, Moment)]| {
            let mut measures = Measures::new(&cell.scenario);
            for second in 100..2100 {
                // One in ten fails before second 300, then one in a hundred.
                let every = if second < 300 { 10 } else { 100 };
                let failed = second % every == 0;
                let outcome = if failed {
                    Outcome::Failure
                } else {
                    Outcome::Success
                };
                measures.ended(second * SECOND, 0, outcome);
            }
            for &(server, second) in ejected {
                measures.standing(0, server, Standing::Ejected, second * SECOND);
            }
            Reading::of(&cell, &measures)
        };
        // The bad ones are the last three; an earlier or a repeated ejection of one of them does not count, nor one of a good.
        let all = reading(&[(7, 150), (2, 400), (8, 299), (9, 200), (7, 1000), (9, 1500)]);
        assert_eq!((all.until_ejected, all.count, all.failed), (200, 1800, 18));
        assert_eq!(all.worst_window, 20 + 3);
        let some = reading(&[(7, 50), (8, 299), (9, 200)]);
        assert_eq!((some.until_ejected, some.count), (2000, 0));
    }
}
