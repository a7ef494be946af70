use std::fmt;
use std::time::Duration;

/// How the checks ended. `Display` has one line for each, with the time that it took.
#[derive(Clone, Debug, Default)]
#[must_use = "a report may tell of failures"]
pub struct Report {
    outcomes: Vec<(&'static str, Outcome, Duration)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

impl Report {
    pub(super) fn add(&mut self, check: &'static str, outcome: Outcome, took: Duration) {
        self.outcomes.push((check, outcome, took));
    }

    /// The checks that passed.
    pub fn passed(&self) -> impl Iterator<Item = &'static str> {
        let passed = self.outcomes.iter();
        passed.filter_map(|(check, outcome, _)| (*outcome == Outcome::Passed).then_some(*check))
    }

    /// The checks that were skipped, each with the reason.
    pub fn skipped(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.outcomes
            .iter()
            .filter_map(|(check, outcome, _)| match outcome {
                Outcome::Skipped(reason) => Some((*check, reason.as_str())),
                _ => None,
            })
    }

    /// The checks that failed, each with the message of its panic.
    pub fn failed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.outcomes
            .iter()
            .filter_map(|(check, outcome, _)| match outcome {
                Outcome::Failed(message) => Some((*check, message.as_str())),
                _ => None,
            })
    }

    /// For a test.
    ///
    /// # Panics
    ///
    /// If a check failed. The message is the whole report.
    pub fn assert_passed(&self) {
        assert!(self.failed().next().is_none(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, skipped) = (self.passed().count(), self.skipped().count());
        let failed = self.failed().count();
        write!(
            f,
            "{passed} checks passed, {skipped} skipped, {failed} failed"
        )?;
        for (check, outcome, took) in &self.outcomes {
            let took = took.as_secs_f64();
            match outcome {
                Outcome::Passed => write!(f, "\n  {took:>6.2} s  passed  {check}")?,
                Outcome::Skipped(reason) => write!(f, "\n            skipped {check}: {reason}")?,
                Outcome::Failed(message) => {
                    write!(f, "\n  {took:>6.2} s  FAILED  {check}: {message}")?
                }
            }
        }
        Ok(())
    }
}
