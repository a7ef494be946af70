//! Each server's share of the requests over time, for one contestant.

use plotters::prelude::*;

use super::members::{Area, afflicted, axis_end, seconds};
use crate::contestants::Contestant;
use crate::run::Outcome;
use crate::scenario::Scenario;
use crate::world::WorldError;

/// Of servers that something befalls; the others are grey.
const AFFLICTED: &[RGBColor] = &[
    RGBColor(214, 39, 40),
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(148, 103, 189),
    RGBColor(23, 160, 170),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(110, 150, 30),
    RGBColor(60, 60, 60),
    RGBColor(190, 160, 20),
];
const WELL: RGBColor = RGBColor(190, 190, 190);
/// Shares above this are cut off.
const HIGHEST: f64 = 2.5;

pub(super) fn draw(
    outcome: &Outcome,
    contestant: Contestant,
    panel: &Area<'_>,
) -> Result<(), WorldError> {
    let scenario = &outcome.scenario;
    let summary = outcome.of(contestant);
    let Some(course) = summary.and_then(|summary| summary.course.as_ref()) else {
        return Ok(());
    };
    let mut chart = ChartBuilder::on(panel)
        .margin(6)
        .caption(contestant.name(), ("sans-serif", 16))
        .x_label_area_size(22)
        .y_label_area_size(100)
        .build_cartesian_2d(0.0..axis_end(scenario), 0.0..HIGHEST)?;
    chart
        .configure_mesh()
        .y_desc("share of fair")
        .x_labels(14)
        .y_labels(6)
        .x_label_formatter(&seconds(scenario))
        .label_style(("sans-serif", 13))
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(232, 232, 232))
        .draw()?;
    // Well ones first, so that the others are drawn over them.
    let (well, ill): (Vec<_>, Vec<_>) = servers(scenario)
        .into_iter()
        .partition(|(_, _, color)| *color == WELL);
    for (server, name, color) in well.into_iter().chain(ill) {
        let is_well = color == WELL;
        let style = color.stroke_width(if is_well { 1 } else { 2 });
        for line in lines(course.shares.iter().map(|shares| shares[server])) {
            chart.draw_series(LineSeries::new(line, style))?;
        }
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style);
        let nothing: [Circle<(f64, f64), i32>; 0] = [];
        if !is_well {
            chart.draw_series(nothing)?.label(name).legend(legend);
        } else if server == first_well(scenario) {
            chart.draw_series(nothing)?.label("others").legend(legend);
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(("sans-serif", 11))
        .background_style(WHITE)
        .draw()?;
    Ok(())
}

/// Every server with its name and colour.
fn servers(scenario: &Scenario) -> Vec<(usize, String, RGBColor)> {
    let afflicted = afflicted(scenario);
    let color = |server| {
        let place = afflicted.iter().position(|other| *other == server);
        place.map_or(WELL, |place| AFFLICTED[place % AFFLICTED.len()])
    };
    let servers = scenario.servers().enumerate();
    servers
        .map(|(server, (name, _))| (server, name, color(server)))
        .collect()
}

fn first_well(scenario: &Scenario) -> usize {
    let afflicted = afflicted(scenario);
    let mut servers = 0..scenario.servers().count();
    servers
        .find(|server| !afflicted.contains(server))
        .unwrap_or(0)
}

/// Points for each second, in one line for each stretch without gaps.
fn lines(shares: impl Iterator<Item = Option<f64>>) -> Vec<Vec<(f64, f64)>> {
    let mut lines = vec![Vec::new()];
    for (second, share) in shares.enumerate() {
        match (share, lines.last_mut()) {
            (Some(share), Some(line)) => line.push((second as f64 + 0.5, share.min(HIGHEST))),
            _ => lines.push(Vec::new()),
        }
    }
    lines
}
