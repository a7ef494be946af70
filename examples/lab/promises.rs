//! What the default set has to show, and whether it does.

use crate::contestants::Contestant;
use crate::run::Outcome;
use crate::summary::Summary;

/// Something measured, and what was promised of it.
pub(crate) struct Promise {
    pub(crate) what: String,
    pub(crate) measured: f64,
    /// The smallest and the largest value of a single seed, where it is one of several.
    pub(crate) spread: Option<(f64, f64)>,
    /// Nothing of a figure that only helps to read another.
    pub(crate) bound: Option<Bound>,
}

/// The most that a figure may be, and the most that we want.
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) must: f64,
    pub(crate) want: Option<f64>,
}

impl Promise {
    pub(crate) fn is_kept(&self) -> bool {
        self.bound.is_none_or(|bound| self.measured <= bound.must)
    }

    pub(crate) fn verdict(&self) -> &'static str {
        match self.bound {
            None => "",
            Some(bound) if self.measured > bound.must => "MISS",
            Some(Bound {
                want: Some(want), ..
            }) if self.measured > want => "ok, short of want",
            Some(_) => "ok",
        }
    }
}

impl Bound {
    fn new(must: f64, want: impl Into<Option<f64>>) -> Self {
        Self {
            must,
            want: want.into(),
        }
    }
}

impl Outcome {
    pub(crate) fn of(&self, contestant: Contestant) -> Option<&Summary> {
        self.summaries
            .iter()
            .find(|summary| summary.contestant == contestant)
    }

    /// p99 of ours over another's.
    pub(crate) fn ratio(&self, ours: Contestant, other: Contestant) -> Option<f64> {
        Some(self.of(ours)?.p99_ms / self.of(other)?.p99_ms)
    }

    fn ratio_by_seed(&self, other: Contestant, seed: usize) -> Option<f64> {
        let p99 = |contestant| Some(*self.of(contestant)?.p99_ms_by_seed.get(seed)?);
        Some(p99(Contestant::Ours)? / p99(other)?)
    }
}

/// All that these scenarios can show.
pub(crate) fn promises(outcomes: &[Outcome]) -> Vec<Promise> {
    let mut promises = Vec::new();
    for (other, must, want) in [
        (Contestant::TowerPeakEwma, 0.45, 0.38),
        (Contestant::LeastInFlight, 0.45, 0.38),
        (Contestant::RoundRobin, 0.22, 0.19),
        (Contestant::Oracle, 1.12, 1.05),
    ] {
        let what = format!("p99 over that of {}, geometric mean", other.name());
        let bound = Bound::new(must, want);
        promises.push(geometric_mean(what, outcomes.iter(), other, Some(bound)));
        // Where nothing fails, no percentile is a timeout for its failures.
        let well = outcomes
            .iter()
            .filter(|outcome| !outcome.scenario.has_failing_servers());
        let what = "  of that, scenarios without failing servers".to_owned();
        promises.push(geometric_mean(what, well, other, None));
    }
    promises.extend(worst_against_tower(outcomes));
    promises.extend(outcomes.iter().filter_map(failer));
    promises.extend(outcomes.iter().filter_map(idle_draws));
    promises
}

fn geometric_mean<'a>(
    what: String,
    outcomes: impl Iterator<Item = &'a Outcome>,
    other: Contestant,
    bound: Option<Bound>,
) -> Promise {
    let counted: Vec<_> = outcomes.collect();
    let ratios = counted
        .iter()
        .filter_map(|outcome| outcome.ratio(Contestant::Ours, other));
    let measured = mean_of(ratios);
    let ours = counted
        .first()
        .and_then(|outcome| outcome.of(Contestant::Ours));
    let seeds = ours.map_or(0, |summary| summary.p99_ms_by_seed.len());
    let by_seed = (0..seeds).map(|seed| {
        mean_of(
            counted
                .iter()
                .filter_map(|outcome| outcome.ratio_by_seed(other, seed)),
        )
    });
    let spread = by_seed.fold((f64::INFINITY, 0.0), |(low, high), one| {
        (f64::min(low, one), f64::max(high, one))
    });
    Promise {
        what,
        measured,
        spread: (seeds > 1).then_some(spread),
        bound,
    }
}

/// Geometric mean.
pub(crate) fn mean_of(ratios: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = ratios.fold((0.0, 0), |(sum, count), ratio| {
        (sum + ratio.ln(), count + 1)
    });
    (sum / f64::from(count.max(1))).exp()
}

fn worst_against_tower(outcomes: &[Outcome]) -> Option<Promise> {
    let well = outcomes
        .iter()
        .filter(|outcome| !outcome.scenario.has_failing_servers());
    let ratios = well.filter_map(|outcome| {
        let ratio = outcome.ratio(Contestant::Ours, Contestant::TowerPeakEwma)?;
        Some((ratio, &outcome.scenario.name))
    });
    let (measured, name) = ratios.max_by(|a, b| a.0.total_cmp(&b.0))?;
    let what = format!("p99 over tower PeakEwma's at its worst without failing servers: {name}");
    Some(Promise {
        what,
        measured,
        spread: None,
        bound: Some(Bound::new(1.05, None)),
    })
}

fn failer(outcome: &Outcome) -> Option<Promise> {
    let name = &outcome.scenario.name;
    if !["failer_2", "failer_3", "failer_10"].contains(&name.as_str()) {
        return None;
    }
    let failed = |contestant| Some(outcome.of(contestant)?.failed_share);
    Some(Promise {
        what: format!("failed share over random's, {name}"),
        measured: failed(Contestant::Ours)? / failed(Contestant::Random)?,
        spread: None,
        bound: Some(Bound::new(1.0 / 100.0, 1.0 / 250.0)),
    })
}

fn idle_draws(outcome: &Outcome) -> Option<Promise> {
    let idle = outcome.scenario.name == "homogeneous_05";
    Some(Promise {
        what: "mean draws of an idle homogeneous fleet".to_owned(),
        measured: outcome.of(Contestant::Ours).filter(|_| idle)?.mean_draws?,
        spread: None,
        bound: Some(Bound::new(2.3, None)),
    })
}
