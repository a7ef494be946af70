//! What a variation showed, in one line.

use std::fmt;

/// The line of one variation.
pub(super) struct Row {
    pub(super) label: String,
    pub(super) figures: Vec<Figure>,
}

/// Something measured, and what it may be.
pub(super) struct Figure {
    name: &'static str,
    value: f64,
    unit: Unit,
    limit: Option<Limit>,
    want: Option<f64>,
}

#[derive(Clone, Copy)]
enum Unit {
    Percent,
    Milliseconds,
    Seconds,
    /// A number by itself.
    Plain,
}

#[derive(Clone, Copy)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Row {
    pub(super) fn is_met(&self) -> bool {
        self.figures.iter().all(Figure::is_met)
    }

    fn verdict(&self) -> String {
        let missed = self.figures.iter().filter(|figure| !figure.is_met());
        let missed: Vec<_> = missed.map(|figure| figure.name).collect();
        if !missed.is_empty() {
            return format!("MISS ({})", missed.join(", "));
        }
        let has_limit = self.figures.iter().any(|figure| figure.limit.is_some());
        let is_wanted = self.figures.iter().all(Figure::is_wanted);
        match (has_limit, is_wanted) {
            (false, _) => "no bound",
            (true, false) => "ok, short of want",
            (true, true) => "ok",
        }
        .to_owned()
    }
}

impl Figure {
    fn new(name: &'static str, value: f64, unit: Unit) -> Self {
        Self {
            name,
            value,
            unit,
            limit: None,
            want: None,
        }
    }

    /// A share of one, printed in percent.
    pub(super) fn share(name: &'static str, share: f64) -> Self {
        Self::new(name, share, Unit::Percent)
    }

    pub(super) fn milliseconds(name: &'static str, value: f64) -> Self {
        Self::new(name, value, Unit::Milliseconds)
    }

    pub(super) fn seconds(name: &'static str, value: f64) -> Self {
        Self::new(name, value, Unit::Seconds)
    }

    pub(super) fn plain(name: &'static str, value: f64) -> Self {
        Self::new(name, value, Unit::Plain)
    }

    pub(super) fn at_most(self, limit: f64) -> Self {
        let limit = Some(Limit::AtMost(limit));
        Self { limit, ..self }
    }

    pub(super) fn at_least(self, limit: f64) -> Self {
        let limit = Some(Limit::AtLeast(limit));
        Self { limit, ..self }
    }

    /// What is wished for beyond the limit; missing it is no failure.
    pub(super) fn want(self, want: f64) -> Self {
        let want = Some(want);
        Self { want, ..self }
    }

    /// A value that is no number, because nothing was measured, meets no limit.
    fn meets(&self, limit: Limit) -> bool {
        match limit {
            Limit::AtMost(most) => self.value <= most,
            Limit::AtLeast(least) => self.value >= least,
        }
    }

    fn is_met(&self) -> bool {
        self.limit.is_none_or(|limit| self.meets(limit))
    }

    fn is_wanted(&self) -> bool {
        self.want.is_none_or(|want| match self.limit {
            Some(Limit::AtLeast(_)) => self.meets(Limit::AtLeast(want)),
            _ => self.meets(Limit::AtMost(want)),
        })
    }
}

impl Unit {
    fn number(self, value: f64) -> String {
        match self {
            Self::Percent => three_digits(value * 100.0),
            _ => three_digits(value),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Percent => " %",
            Self::Milliseconds => " ms",
            Self::Seconds => " s",
            Self::Plain => "",
        }
    }
}

fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        small if small < 0.1 => 3,
        small if small < 10.0 => 2,
        large if large < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = (self.unit.number(self.value), self.unit.name());
        write!(f, "{} {number}{unit}", self.name)?;
        match self.limit {
            None => Ok(()),
            Some(Limit::AtMost(limit)) => write!(f, " (<= {})", self.unit.number(limit)),
            Some(Limit::AtLeast(limit)) => write!(f, " (>= {})", self.unit.number(limit)),
        }
    }
}

/// One line for each row.
pub(super) fn print(rows: &[Row]) {
    let width = rows.iter().map(|row| row.label.len()).max().unwrap_or(0);
    for row in rows {
        let figures: Vec<_> = row.figures.iter().map(Figure::to_string).collect();
        println!(
            "  {:<width$}  {}  {}",
            row.label,
            figures.join(", "),
            row.verdict()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(figures: Vec<Figure>) -> String {
        let label = String::new();
        Row { label, figures }.verdict()
    }

    #[test]
    fn a_row_names_the_figures_that_miss_their_bound() {
        let share = Figure::share("failed", 0.02).at_most(0.01);
        let least = Figure::plain("least", 0.8).at_least(0.7);
        assert_eq!(verdict(vec![share, least]), "MISS (failed)");
        let nothing = Figure::plain("nothing", f64::NAN).at_least(0.7);
        assert_eq!(verdict(vec![nothing]), "MISS (nothing)");
        let short = Figure::plain("least", 0.8).at_least(0.7).want(0.9);
        assert_eq!(verdict(vec![short]), "ok, short of want");
        assert_eq!(verdict(vec![Figure::seconds("after", 3.0)]), "no bound");
    }

    #[test]
    fn a_figure_is_printed_in_its_unit() {
        let failed = Figure::share("failed", 0.0213).at_most(0.015);
        assert_eq!(failed.to_string(), "failed 2.13 % (<= 1.50)");
        let none = Figure::share("failed", 0.0).at_most(0.0);
        assert_eq!(none.to_string(), "failed 0 % (<= 0)");
    }
}
