use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::report::{Outcome, Report};
use super::subject::{Ability, Subject};
use crate::discovery::BoxFuture;
use crate::runtime::clock;
use crate::runtime::panic::Panicked;

type Run = for<'a> fn(&'a dyn Subject) -> BoxFuture<'a, Done>;

/// How a check ends that does not fail.
pub(super) enum Done {
    Passed,
    /// The subject cannot suffer what the check is about.
    Skipped(&'static str),
}

pub(super) struct Check {
    name: &'static str,
    needs: &'static [Ability],
    run: Run,
}

impl Check {
    pub(super) fn new(name: &'static str, needs: &'static [Ability], run: Run) -> Self {
        Self { name, needs, run }
    }

    pub(super) async fn run(&self, subject: &dyn Subject, report: &mut Report) {
        let began = clock::now();
        let lacks = subject.lacks();
        let outcome = if let Some(lacking) = self.needs.iter().find(|need| lacks.contains(need)) {
            Outcome::Skipped(format!("the subject lacks {lacking:?}"))
        } else {
            let run = AssertUnwindSafe((self.run)(subject)).catch_unwind();
            match run.await {
                Ok(Done::Passed) => Outcome::Passed,
                Ok(Done::Skipped(why)) => Outcome::Skipped(why.to_owned()),
                Err(panic) => Outcome::Failed(Panicked::new(panic).to_string()),
            }
        };
        let took = clock::now().saturating_duration_since(began);
        report.add(self.name, outcome, took);
    }
}
