//! The variations of a family, run by several contestants over many seeds.

use std::time::Instant;

use crate::contestants::Contestant;
use crate::measures::Measures;
use crate::run::on_all_processors;
use crate::scenario::Scenario;
use crate::world::WorldError;

/// How much of a family is run.
pub(super) struct Sweep {
    pub(super) first_seed: u64,
    /// Seeds of each variation.
    pub(super) seeds: u64,
    /// Only a few of the variations.
    pub(super) is_quick: bool,
    /// The figures that later runs are compared with are written.
    pub(super) is_recorded: bool,
}

/// One variation.
pub(super) struct Cell {
    pub(super) label: String,
    pub(super) scenario: Scenario,
    pub(super) contestants: &'static [Contestant],
}

/// What was read off the runs of one cell: for each of its contestants a value for each seed.
pub(super) struct Readings<T>(Vec<(Contestant, Vec<T>)>);

impl Sweep {
    /// These values, or the first of them where the sweep is quick.
    pub(super) fn some<'a, T>(&self, values: &'a [T]) -> &'a [T] {
        if self.is_quick { &values[..1] } else { values }
    }

    /// Of values for the seeds from 1 on those for the seeds of this sweep.
    pub(super) fn of_seeds<'a>(&self, values: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        let first = self.first_seed.saturating_sub(1) as usize;
        values.iter().skip(first).take(self.seeds as usize).copied()
    }

    /// Runs all cells, and keeps what `read` finds in each run. The answer depends on nothing but the arguments.
    pub(super) fn run<T: Send>(
        &self,
        cells: &[Cell],
        read: impl Fn(&Cell, &Measures) -> T + Sync,
    ) -> Result<Vec<Readings<T>>, WorldError> {
        self.run_seeds(self.seeds, cells, read)
    }

    /// The same with another number of seeds.
    pub(super) fn run_seeds<T: Send>(
        &self,
        seeds: u64,
        cells: &[Cell],
        read: impl Fn(&Cell, &Measures) -> T + Sync,
    ) -> Result<Vec<Readings<T>>, WorldError> {
        for cell in cells {
            let check = cell.scenario.check();
            check.map_err(|error| format!("{}: {error}", cell.label))?;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "how long it took is said to whoever waits, and nowhere else"
        )]
        let began = Instant::now();
        let jobs: Vec<_> = cells
            .iter()
            .flat_map(|cell| cell.contestants.iter().map(move |&one| (cell, one)))
            .flat_map(|(cell, contestant)| {
                (0..seeds).map(move |number| (cell, contestant, self.first_seed + number))
            })
            .collect();
        let mut read = on_all_processors(jobs.len(), |job| {
            let (cell, contestant, seed) = jobs[job];
            let measures = contestant.run(&cell.scenario, seed)?;
            Ok(read(cell, &measures))
        })?
        .into_iter();
        #[expect(
            clippy::disallowed_methods,
            reason = "how long it took is said to whoever waits, and nowhere else"
        )]
        let took = began.elapsed().as_secs_f64();
        eprintln!("{} variations, {seeds} seeds: {took:.1} s", cells.len());
        let readings = cells.iter().map(|cell| {
            let of = |&contestant: &Contestant| {
                (contestant, read.by_ref().take(seeds as usize).collect())
            };
            Readings(cell.contestants.iter().map(of).collect())
        });
        Ok(readings.collect())
    }
}

impl<T> Readings<T> {
    /// A value for each seed.
    pub(super) fn of(&self, contestant: Contestant) -> &[T] {
        let found = self.0.iter().find(|(one, _)| *one == contestant);
        found.map_or(&[], |(_, values)| values)
    }

    /// Mean over the seeds.
    pub(super) fn mean(&self, contestant: Contestant, value: impl Fn(&T) -> f64) -> f64 {
        mean(self.of(contestant).iter().map(value))
    }

    /// Median over the seeds; of two in the middle the larger.
    pub(super) fn median(&self, contestant: Contestant, value: impl Fn(&T) -> f64) -> f64 {
        let mut values: Vec<_> = self.of(contestant).iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Share of the seeds of which this holds.
    pub(super) fn share(&self, contestant: Contestant, holds: impl Fn(&T) -> bool) -> f64 {
        self.mean(contestant, |value| f64::from(u8::from(holds(value))))
    }
}

/// Not a number if there are none.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), one| (sum + one, count + 1.0));
    sum / count
}
