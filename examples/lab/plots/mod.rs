//! Plots as SVG.

mod latency;
mod members;
mod shares;
mod states;

use std::path::Path;

use plotters::style::RGBColor;

use crate::contestants::Contestant;
use crate::run::Outcome;
use crate::world::WorldError;

pub(crate) fn draw(outcome: &Outcome, folder: &Path) -> Result<(), WorldError> {
    let name = &outcome.scenario.name;
    latency::draw(outcome, &folder.join(format!("latency_{name}.svg")))?;
    if !outcome.scenario.faults.is_empty() {
        members::draw(outcome, &folder.join(format!("members_{name}.svg")))?;
    }
    Ok(())
}

/// Ours stand out; the others keep their colours over all plots.
fn color(contestant: Contestant) -> RGBColor {
    match contestant {
        Contestant::Random => RGBColor(190, 190, 190),
        Contestant::RoundRobin => RGBColor(140, 140, 140),
        Contestant::LeastInFlight => RGBColor(120, 180, 230),
        Contestant::TowerPendingRequests => RGBColor(60, 110, 200),
        Contestant::TowerPeakEwma => RGBColor(130, 60, 180),
        Contestant::OursTwoChoices => RGBColor(240, 160, 60),
        Contestant::OursWithoutEjection => RGBColor(240, 130, 190),
        Contestant::Ours => RGBColor(214, 39, 40),
        Contestant::OursInZones(_) | Contestant::OursHardZones | Contestant::Oracle => {
            RGBColor(30, 140, 70)
        }
    }
}
