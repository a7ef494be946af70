//! What became of each server: its share of the requests over time for a few contestants, and the states that the first
//! client of ours saw.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::contestants::Contestant;
use crate::moment::{Moment, SECOND, nanos};
use crate::run::Outcome;
use crate::scenario::Scenario;
use crate::timeline::afflictions;
use crate::world::WorldError;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Compared from top to bottom.
const SHOWN: &[Contestant] = &[
    Contestant::LeastInFlight,
    Contestant::TowerPeakEwma,
    Contestant::Ours,
];
/// Of servers that something befalls, in the order of the file; the others are grey.
const AFFLICTED: &[RGBColor] = &[
    RGBColor(214, 39, 40),
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(148, 103, 189),
    RGBColor(23, 160, 170),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(110, 150, 30),
];
const WELL: RGBColor = RGBColor(190, 190, 190);
/// Shares above this are cut off.
const HIGHEST: f64 = 4.0;

pub(super) fn draw(outcome: &Outcome, file: &Path) -> Result<(), WorldError> {
    let scenario = &outcome.scenario;
    let shown = servers_to_show(scenario);
    let states_height = 90 + 18 * shown.len() as u32;
    let height = 40 + 210 * SHOWN.len() as u32 + states_height;
    let area = SVGBackend::new(file, (1100, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let area = area.titled(
        &format!("Servers over time: {}", scenario.title),
        ("sans-serif", 20),
    )?;
    let (shares, states) = area.split_vertically(210 * SHOWN.len() as u32);
    for (&contestant, panel) in SHOWN.iter().zip(shares.split_evenly((SHOWN.len(), 1))) {
        draw_shares(outcome, contestant, &panel)?;
    }
    draw_states(outcome, &shown, &states)?;
    area.present()?;
    Ok(())
}

/// The afflicted ones first, then others, as many as fit.
fn servers_to_show(scenario: &Scenario) -> Vec<usize> {
    let mut servers: Vec<usize> = Vec::new();
    let afflicted = afflictions(scenario)
        .into_iter()
        .map(|affliction| affliction.server);
    for server in afflicted.chain(0..scenario.servers().count()) {
        if !servers.contains(&server) && servers.len() < 12 {
            servers.push(server);
        }
    }
    servers
}

fn color(scenario: &Scenario, server: usize) -> RGBColor {
    let mut afflicted: Vec<usize> = afflictions(scenario)
        .iter()
        .map(|affliction| affliction.server)
        .collect();
    afflicted.sort_unstable();
    afflicted.dedup();
    let place = afflicted.iter().position(|other| *other == server);
    place.map_or(WELL, |place| AFFLICTED[place % AFFLICTED.len()])
}

fn draw_shares(
    outcome: &Outcome,
    contestant: Contestant,
    panel: &Area<'_>,
) -> Result<(), WorldError> {
    let scenario = &outcome.scenario;
    let Some(course) = outcome
        .of(contestant)
        .and_then(|summary| summary.course.as_ref())
    else {
        return Ok(());
    };
    let end = scenario.duration.as_secs_f64();
    let mut chart = ChartBuilder::on(panel)
        .margin(6)
        .margin_right(20)
        .caption(contestant.name(), ("sans-serif", 16))
        .x_label_area_size(22)
        .y_label_area_size(110)
        .build_cartesian_2d(0.0..end, 0.0..HIGHEST)?;
    chart
        .configure_mesh()
        .y_desc("share of fair")
        .x_labels(14)
        .y_labels(5)
        .x_label_formatter(&|seconds| format!("{seconds} s"))
        .label_style(("sans-serif", 13))
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(232, 232, 232))
        .draw()?;
    // Well ones first, so that the afflicted ones are drawn over them.
    let (names, colors): (Vec<_>, Vec<_>) = scenario
        .servers()
        .enumerate()
        .map(|(server, (name, _))| (name, color(scenario, server)))
        .unzip();
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|&server| colors[server] != WELL);
    for server in order {
        let style = colors[server].stroke_width(if colors[server] == WELL { 1 } else { 2 });
        let seconds = course.shares.iter().enumerate();
        let points = seconds.filter_map(|(second, shares)| {
            Some((second as f64 + 0.5, shares[server]?.min(HIGHEST)))
        });
        let series = chart.draw_series(LineSeries::new(points, style))?;
        if colors[server] != WELL && names.len() <= 12 {
            series
                .label(names[server].clone())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(("sans-serif", 12))
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}

fn draw_states(outcome: &Outcome, shown: &[usize], panel: &Area<'_>) -> Result<(), WorldError> {
    let scenario = &outcome.scenario;
    let Some(course) = outcome
        .of(Contestant::Ours)
        .and_then(|summary| summary.course.as_ref())
    else {
        return Ok(());
    };
    let end = scenario.duration.as_secs_f64();
    // The first one on top.
    let rows: Vec<usize> = shown.iter().rev().copied().collect();
    let names: Vec<String> = scenario.servers().map(|(name, _)| name).collect();
    let name = |row: &SegmentValue<usize>| match row {
        SegmentValue::CenterOf(row) => rows
            .get(*row)
            .map_or_else(String::new, |&server| names[server].clone()),
        _ => String::new(),
    };
    let mut chart = ChartBuilder::on(panel)
        .margin(6)
        .margin_right(20)
        .caption("rolecall: states as its first client sees them; black: something is wrong with the server", ("sans-serif", 16))
        .x_label_area_size(22)
        .y_label_area_size(110)
        .build_cartesian_2d(0.0..end, (0..rows.len() - 1).into_segmented())?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_labels(14)
        .y_labels(rows.len() + 1)
        .x_label_formatter(&|seconds| format!("{seconds} s"))
        .y_label_formatter(&name)
        .label_style(("sans-serif", 13))
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(232, 232, 232))
        .draw()?;
    let bar = |row: usize, from: f64, until: f64, color: RGBColor, margin: u32| {
        let corners = [
            (from, SegmentValue::Exact(row)),
            (until.min(end), SegmentValue::Exact(row + 1)),
        ];
        let mut bar = Rectangle::new(corners, color.filled());
        bar.set_margin(margin, margin, 0, 0);
        bar
    };
    let mut legend: Vec<&str> = Vec::new();
    for (row, &server) in rows.iter().enumerate() {
        let states = &course.states[server];
        for (place, (from, state)) in states.iter().enumerate() {
            let until = states.get(place + 1).map_or(end, |(next, _)| *next);
            let color = state_color(state);
            let series = chart.draw_series([bar(row, *from, until, color, 2)])?;
            if !legend.contains(&state.as_str()) {
                legend.push(state);
                let patch =
                    move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], color.filled());
                series.label(state.clone()).legend(patch);
            }
        }
        let faults = afflictions(scenario)
            .into_iter()
            .filter(|affliction| affliction.server == server);
        let seconds = |moment: Moment| moment.min(nanos(scenario.duration)) as f64 / SECOND as f64;
        chart.draw_series(
            faults.map(|fault| bar(row, seconds(fault.from), seconds(fault.until), BLACK, 7)),
        )?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(("sans-serif", 12))
        .background_style(WHITE.mix(0.85))
        .draw()?;
    Ok(())
}

fn state_color(state: &str) -> RGBColor {
    match state {
        "usable" => RGBColor(170, 215, 160),
        "ejected" => RGBColor(225, 90, 80),
        "probing" => RGBColor(245, 180, 90),
        "slow start" => RGBColor(225, 225, 120),
        "draining" => RGBColor(150, 190, 225),
        "connecting" => RGBColor(200, 180, 225),
        "disconnected" => RGBColor(160, 120, 200),
        "absent" => RGBColor(238, 238, 238),
        _ => RGBColor(200, 170, 140),
    }
}
