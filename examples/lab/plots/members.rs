//! What became of each server: its share of the requests over time for a few contestants, and the states that the first
//! client of ours saw.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{shares, states};
use crate::contestants::Contestant;
use crate::run::Outcome;
use crate::scenario::Scenario;
use crate::timeline::afflictions;
use crate::world::WorldError;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Compared from top to bottom.
const SHOWN: &[Contestant] = &[
    Contestant::LeastInFlight,
    Contestant::TowerPeakEwma,
    Contestant::Ours,
];
const PANEL: u32 = 210;
const ROW: u32 = 30;
const MOST_ROWS: usize = 12;

/// Part of a panel's width that is left to its legend.
const LEGEND: f64 = 0.12;

pub(super) fn draw(outcome: &Outcome, file: &Path) -> Result<(), WorldError> {
    let scenario = &outcome.scenario;
    let rows = rows(scenario);
    let (above, below) = (PANEL * SHOWN.len() as u32, 56 + ROW * rows.len() as u32);
    let area = SVGBackend::new(file, (1160, 40 + above + below)).into_drawing_area();
    area.fill(&WHITE)?;
    let title = format!("Servers over time: {}", scenario.title);
    let area = area.titled(&title, ("sans-serif", 20))?;
    let (upper, lower) = area.split_vertically(above);
    for (&contestant, panel) in SHOWN.iter().zip(upper.split_evenly((SHOWN.len(), 1))) {
        shares::draw(outcome, contestant, &panel)?;
    }
    states::draw(outcome, &rows, &lower)?;
    area.present()?;
    Ok(())
}

/// Servers that something befalls, then others, as many as fit.
fn rows(scenario: &Scenario) -> Vec<usize> {
    let mut rows = afflicted(scenario);
    rows.extend(
        (0..scenario.servers().count()).filter(|server| !afflicted(scenario).contains(server)),
    );
    rows.truncate(MOST_ROWS);
    rows
}

pub(super) fn afflicted(scenario: &Scenario) -> Vec<usize> {
    let afflictions = afflictions(scenario).into_iter();
    let mut servers: Vec<usize> = afflictions.map(|affliction| affliction.server).collect();
    servers.sort_unstable();
    servers.dedup();
    servers
}

/// The end of the axis of time, with room for a legend, and the labels on it.
pub(super) fn axis_end(scenario: &Scenario) -> f64 {
    scenario.duration.as_secs_f64() / (1.0 - LEGEND)
}

pub(super) fn seconds(scenario: &Scenario) -> impl Fn(&f64) -> String {
    let end = scenario.duration.as_secs_f64();
    move |seconds| {
        if *seconds <= end {
            format!("{seconds} s")
        } else {
            String::new()
        }
    }
}
