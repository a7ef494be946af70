//! The table, and what has to be true of it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use rolecall::{Error, grpc};
use tonic::Status;

use crate::caller::{Call, Over};

pub(crate) struct Report {
    calls: Vec<Call>,
    is_good: bool,
}

impl Report {
    pub(crate) fn new(calls: Vec<Call>) -> Self {
        Self {
            calls,
            is_good: true,
        }
    }

    pub(crate) fn print(&self) {
        println!(
            "failed calls    {:>16}  {:>16}",
            "grpc::channel", "balance_list"
        );
        let mut phases = Vec::new();
        for call in &self.calls {
            if !phases.contains(&call.phase) {
                phases.push(call.phase);
            }
        }
        for phase in phases {
            let shown = [Over::Rolecall, Over::BalanceList].map(|over| {
                let (failed, calls) = self.count(phase, over);
                format!("{failed} of {calls}")
            });
            println!("{phase:<15} {:>16}  {:>16}", shown[0], shown[1]);
        }
        for over in [Over::Rolecall, Over::BalanceList] {
            println!("\nwhat failures said over {over:?}");
            let mut said = BTreeMap::new();
            for status in self.failures(over) {
                let text = format!("{:?}: {}", status.code(), status.message());
                *said.entry(text).or_insert(0) += 1;
            }
            for (text, times) in said {
                println!("{times:>5}  {text}");
            }
        }
        println!();
    }

    fn calls(&self, phase: &str, over: Over) -> impl Iterator<Item = &Call> {
        let calls = self.calls.iter();
        calls.filter(move |call| call.phase == phase && call.over == over)
    }

    fn failures(&self, over: Over) -> impl Iterator<Item = &Status> {
        let calls = self.calls.iter().filter(move |call| call.over == over);
        calls.filter_map(|call| call.result.as_ref().err())
    }

    fn count(&self, phase: &str, over: Over) -> (usize, usize) {
        let failed = self.calls(phase, over).filter(|call| call.result.is_err());
        (failed.count(), self.calls(phase, over).count())
    }

    /// At most this share of a phase's calls failed over `grpc::channel`, and no more than over `balance_list`.
    pub(crate) fn failed(&mut self, phase: &str, most: f64) {
        let (ours, calls) = self.count(phase, Over::Rolecall);
        let (theirs, _) = self.count(phase, Over::BalanceList);
        let share = ours as f64 / calls.max(1) as f64;
        self.expect(
            calls > 0 && share <= most && ours <= theirs,
            format!(
                "{phase}: {:.1} % failed, of {:.0} % allowed, and {theirs} calls over balance_list",
                100.0 * share,
                100.0 * most
            ),
        );
    }

    pub(crate) fn answered(&mut self, phase: &str, server: &str) {
        let mut answers = self.calls(phase, Over::Rolecall);
        let did = answers.any(|call| call.result.as_ref().is_ok_and(|from| from == server));
        drop(answers);
        self.expect(did, format!("{phase}: {server} answered"));
    }

    /// Every failure names the target, and the instance where one had the call.
    pub(crate) fn failures_say_where(&mut self) {
        let named = self.failures(Over::Rolecall).all(|status| {
            let instance = grpc::failed_at(status).map(|id| format!("instance {id}"));
            let text = status.message();
            Error::find(status).is_some()
                && text.contains("default/greeter:grpc")
                && instance.is_none_or(|named| text.contains(&named))
        });
        self.expect(
            named,
            "each failure over grpc::channel says where".to_owned(),
        );
    }

    pub(crate) fn expect(&mut self, is_true: bool, text: String) {
        println!("{} {text}", if is_true { "ok  " } else { "NOT " });
        self.is_good &= is_true;
    }

    pub(crate) fn verdict(self) -> ExitCode {
        if self.is_good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
