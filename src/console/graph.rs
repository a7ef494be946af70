//! Small graphs as inline SVG.

use std::fmt::Write as _;

use super::history::{SAMPLES, Sample};

/// The height of a graph in its own units: coarse enough that a flat line is one command.
const HEIGHT: f32 = 24.0;
/// The samples that are drawn as one: their highest.
const STEP: usize = 2;

/// What is drawn of a sample.
#[derive(Clone, Copy)]
pub(super) enum Figure {
    Requests,
    Latency,
}

impl Figure {
    pub(super) fn of(self, sample: Sample) -> f32 {
        match self {
            Self::Requests => sample.picks as f32,
            Self::Latency => sample.latency,
        }
    }
}

/// The highest value, as the scale that several graphs have in common.
pub(super) fn highest(samples: impl Iterator<Item = Sample>, figure: Figure) -> f32 {
    samples.map(|sample| figure.of(sample)).fold(0.0, f32::max)
}

/// Writes a line of a figure, the newest at the right, with failures below it if there are any.
pub(super) fn write(
    to: &mut String,
    samples: impl ExactSizeIterator<Item = Sample> + Clone,
    figure: Figure,
    scale: f32,
) {
    if samples.len() < STEP || scale <= 0.0 {
        return;
    }
    let width = SAMPLES / STEP;
    let _ = write!(
        to,
        "<svg class=g viewBox=\"0 -1 {} 26\" preserveAspectRatio=none aria-hidden=true>",
        width - 1
    );
    if matches!(figure, Figure::Requests) && samples.clone().any(|sample| sample.failures > 0) {
        to.push_str("<path class=f d=\"");
        write_path(
            to,
            samples.clone().map(|sample| sample.failures as f32),
            scale,
            true,
        );
        to.push_str("\"/>");
    }
    to.push_str("<path d=\"");
    write_path(to, samples.map(|sample| figure.of(sample)), scale, false);
    to.push_str("\"/></svg>");
}

fn write_path(
    to: &mut String,
    values: impl ExactSizeIterator<Item = f32>,
    scale: f32,
    is_area: bool,
) {
    // Whole groups, counted from the newest, so that a group keeps its samples while it moves left.
    let skipped = values.len() % STEP;
    let groups = values.len() / STEP;
    let mut values = values.skip(skipped);
    let mut x = (SAMPLES / STEP).saturating_sub(groups);
    let mut y: Option<i32> = None;
    let mut flat = 0;
    while let Some(value) = values.next() {
        let value = (1..STEP)
            .filter_map(|_| values.next())
            .fold(value, f32::max);
        let height = (value / scale).clamp(0.0, 1.0) * HEIGHT;
        let to_y = (HEIGHT - height).round() as i32;
        match y {
            None if is_area => {
                let _ = write!(to, "M{x} {HEIGHT}V{to_y}");
            }
            None => {
                let _ = write!(to, "M{x} {to_y}");
            }
            Some(before) if before == to_y => flat += 1,
            Some(before) => {
                write_flat(to, &mut flat);
                let _ = write!(to, "l1 {}", to_y - before);
            }
        }
        if y.is_some() {
            x += 1;
        }
        y = Some(to_y);
    }
    write_flat(to, &mut flat);
    if is_area {
        let _ = write!(to, "V{HEIGHT}z");
    }
}

fn write_flat(to: &mut String, flat: &mut u32) {
    if *flat > 0 {
        let _ = write!(to, "h{flat}");
    }
    *flat = 0;
}

/// Writes a bar for a share, and a mark in the middle for the fair one.
pub(super) fn write_share(to: &mut String, share: f64, fair: f64) {
    let width = if fair > 0.0 {
        (share / fair * 30.0).clamp(0.0, 60.0)
    } else {
        0.0
    };
    let _ = write!(
        to,
        "<svg class=b viewBox=\"0 0 60 8\" preserveAspectRatio=none aria-hidden=true><path d=\"M0 1h{width:.0}v6H0z\"/><path class=m d=\"M30 0v8\"/></svg>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(picks: &[u32], failures: &[u32]) -> String {
        let samples = picks
            .iter()
            .zip(failures)
            .map(|(&picks, &failures)| Sample {
                picks,
                failures,
                latency: 0.0,
            });
        let mut svg = String::new();
        write(
            &mut svg,
            samples.collect::<Vec<_>>().into_iter(),
            Figure::Requests,
            10.0,
        );
        svg
    }

    #[test]
    fn a_flat_line_is_one_command() {
        let svg = drawn(&[10; SAMPLES], &[0; SAMPLES]);
        assert!(svg.contains("<path d=\"M0 0h59\"/>"), "{svg}");
        assert!(!svg.contains("class=f"), "{svg}");
    }

    #[test]
    fn the_newest_is_at_the_right_and_failures_are_an_area() {
        let svg = drawn(&[0, 0, 5, 5, 10, 10], &[0, 0, 0, 0, 0, 5]);
        assert!(svg.contains("<path d=\"M57 24l1 -12l1 -12\"/>"), "{svg}");
        assert!(
            svg.contains("<path class=f d=\"M57 24V24h1l1 -12V24z\"/>"),
            "{svg}"
        );
    }

    #[test]
    fn values_that_are_no_numbers_stay_within_the_graph() {
        let odd = [f32::NAN, f32::INFINITY, 1.0, 2.0].map(|latency| Sample {
            latency,
            ..Sample::default()
        });
        let mut svg = String::new();
        write(&mut svg, odd.into_iter(), Figure::Latency, 2.0);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
