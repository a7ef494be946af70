//! Latency distribution of one scenario: how many requests take longer than what.

use std::path::Path;

use plotters::prelude::*;

use super::color;
use crate::contestants::Contestant;
use crate::run::Outcome;
use crate::world::WorldError;

pub(super) fn draw(outcome: &Outcome, file: &Path) -> Result<(), WorldError> {
    let Outcome {
        scenario,
        summaries,
        ..
    } = outcome;
    let timeout = scenario.timeout.as_secs_f64() * 1e3;
    let fastest = summaries
        .iter()
        .map(|summary| summary.p50_ms)
        .fold(timeout, f64::min);
    let area = SVGBackend::new(file, (960, 600)).into_drawing_area();
    area.fill(&WHITE)?;
    let area = area.titled(&format!("Latency: {}", scenario.title), ("sans-serif", 20))?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(86)
        .build_cartesian_2d(
            (fastest * 0.5..timeout * 1.1).log_scale(),
            (1e-4..1.0).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("latency in ms (log); a failed request counts as the caller's timeout")
        .y_desc("share of requests that take longer (log)")
        .x_label_formatter(&|millis| format!("{millis}"))
        .y_label_formatter(&|share| format!("{} %", share * 100.0))
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 16))
        .light_line_style(RGBColor(242, 242, 242))
        .bold_line_style(RGBColor(220, 220, 220))
        .draw()?;
    for summary in summaries {
        let color = color(summary.contestant);
        let ours = summary.contestant == Contestant::Ours;
        let style = color.stroke_width(if ours { 3 } else { 2 });
        let points = summary.tail.iter().map(|&(share, millis)| (millis, share));
        let label = format!(
            "{}: p99 {:.0} ms",
            summary.contestant.name(),
            summary.p99_ms
        );
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .label_font(("sans-serif", 14))
        .legend_area_size(30)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    area.present()?;
    Ok(())
}
