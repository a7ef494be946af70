//! The states of members as the first client of ours saw them, beside what was wrong with their servers.

use plotters::prelude::*;

use super::members::{Area, axis_end, seconds};
use crate::contestants::Contestant;
use crate::moment::{SECOND, nanos};
use crate::run::Outcome;
use crate::scenario::Effect;
use crate::timeline::episodes;
use crate::world::WorldError;

const CAPTION: &str = "rolecall: states of members as its first client sees them; black: what is wrong with the server";

pub(super) fn draw(
    outcome: &Outcome,
    servers: &[usize],
    panel: &Area<'_>,
) -> Result<(), WorldError> {
    let scenario = &outcome.scenario;
    let summary = outcome.of(Contestant::Ours);
    let Some(course) = summary.and_then(|summary| summary.course.as_ref()) else {
        return Ok(());
    };
    let names: Vec<String> = scenario.servers().map(|(name, _)| name).collect();
    // The first one on top.
    let rows: Vec<usize> = servers.iter().rev().copied().collect();
    let name = |row: &SegmentValue<usize>| match row {
        SegmentValue::CenterOf(row) => rows
            .get(*row)
            .map_or_else(String::new, |&server| names[server].clone()),
        _ => String::new(),
    };
    let mut chart = ChartBuilder::on(panel)
        .margin(6)
        .caption(CAPTION, ("sans-serif", 16))
        .x_label_area_size(22)
        .y_label_area_size(100)
        .build_cartesian_2d(
            0.0..axis_end(scenario),
            (0..rows.len().max(1) - 1).into_segmented(),
        )?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_labels(14)
        .y_labels(rows.len() + 1)
        .x_label_formatter(&seconds(scenario))
        .y_label_formatter(&name)
        .label_style(("sans-serif", 13))
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(232, 232, 232))
        .draw()?;
    let end = scenario.duration.as_secs_f64();
    // Pixels that a bar leaves free of its row, above and below: states over faults.
    let row = chart.plotting_area().dim_in_pixel().1 / rows.len().max(1) as u32;
    let (upper, lower) = ((2, row / 2), (row - row / 2, 2));
    let bar = |row: usize, (from, until): (f64, f64), color: RGBColor, (above, below)| {
        let top = if row + 1 == rows.len() {
            SegmentValue::Last
        } else {
            SegmentValue::Exact(row + 1)
        };
        let mut bar = Rectangle::new(
            [(from, SegmentValue::Exact(row)), (until, top)],
            color.filled(),
        );
        bar.set_margin(above, below, 0, 0);
        bar
    };
    let mut known: Vec<&str> = Vec::new();
    for (row, &server) in rows.iter().enumerate() {
        let states = &course.states[server];
        for (place, (from, state)) in states.iter().enumerate() {
            let until = states.get(place + 1).map_or(end, |(next, _)| next.min(end));
            let color = color(state);
            let series = chart.draw_series([bar(row, (from.min(end), until), color, upper)])?;
            if !known.contains(&state.as_str()) {
                known.push(state);
                let patch =
                    move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], color.filled());
                series.label(state.clone()).legend(patch);
            }
        }
        for (what, from, until) in faults(outcome, server) {
            chart.draw_series([bar(row, (from, until), BLACK, lower)])?;
            // A letter is about half as wide as high, and a panel about a thousand pixels.
            if (until - from) / end * 1000.0 > 6.0 * what.len() as f64 {
                let style = ("sans-serif", 11).into_font().color(&WHITE);
                let at = (from, SegmentValue::CenterOf(row));
                let text = EmptyElement::at(at) + Text::new(what, (4, 1), style);
                chart.draw_series([text])?;
            }
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(("sans-serif", 12))
        .background_style(WHITE)
        .draw()?;
    Ok(())
}

/// What was wrong with a server, and from which second to which.
fn faults(outcome: &Outcome, server: usize) -> Vec<(String, f64, f64)> {
    let scenario = &outcome.scenario;
    let mine = episodes(scenario, outcome.seed)
        .into_iter()
        .filter(|episode| episode.server == server);
    let seconds = |moment: u64| moment.min(nanos(scenario.duration)) as f64 / SECOND as f64;
    let faults = mine.map(|fault| {
        let what = match fault.effect {
            Effect::Slow(factor) => format!("{factor} times slower"),
            Effect::Antagonist(antagonist) => format!("{} times slower", antagonist.slow),
            Effect::Fail(fail) => format!("fails {} %", fail.share * 100.0),
            Effect::Hang => "hangs".to_owned(),
            Effect::Down => "down".to_owned(),
            Effect::Unannounced => "not listed".to_owned(),
            Effect::Draining => "drains".to_owned(),
        };
        (what, seconds(fault.from), seconds(fault.until))
    });
    faults.collect()
}

fn color(state: &str) -> RGBColor {
    match state {
        "usable" => RGBColor(170, 215, 160),
        "ejected" => RGBColor(225, 90, 80),
        "probation" => RGBColor(245, 180, 90),
        "slow start" => RGBColor(225, 225, 120),
        "draining" => RGBColor(150, 190, 225),
        "connecting" => RGBColor(200, 180, 225),
        "disconnected" => RGBColor(160, 120, 200),
        "absent" => RGBColor(238, 238, 238),
        _ => RGBColor(200, 170, 140),
    }
}
