//! Whether everything that happened is explained.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::callers::{Caller, Client};
use crate::ledger::Ledger;
use crate::options::Options;
use crate::resources::Usage;
use crate::schedule::Fault;
use crate::window::Cause;

/// KiB by which resident memory may grow after the warm-up, however long the soak.
const MOST_GROWTH: u64 = 8 * 1024;
/// Violations that are printed with what happened before them.
const MOST_EXCERPTS: usize = 5;
const MOST_LINES: usize = 30;

/// No request is under way. What a cancelled one holds is given back when its task is dropped.
pub(crate) async fn nothing_in_flight(caller: Caller, client: &Client, ledger: &Ledger) {
    let in_flight = || {
        client
            .control()
            .status()
            .members
            .iter()
            .map(|it| it.in_flight)
            .sum::<u32>()
    };
    let none = async {
        while in_flight() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(Duration::from_secs(2), none).await.is_err() {
        let in_flight = in_flight();
        ledger.violation(format!("{caller}: {in_flight} in flight without a request"));
    }
}

pub(crate) fn usage_is_flat(warm: &Usage, now: &Usage, ledger: &Ledger) {
    nothing_left(warm, now, ledger);
    if now.memory > warm.memory + MOST_GROWTH {
        ledger.violation(format!("memory grew: {warm}; now {now}"));
    }
}

pub(crate) fn nothing_left(before: &Usage, now: &Usage, ledger: &Ledger) {
    if now.tasks > before.tasks {
        ledger.violation(format!("tasks are left: {before}; now {now}"));
    }
    if now.descriptors > before.descriptors {
        ledger.violation(format!("descriptors are left: {before}; now {now}"));
    }
}

/// Prints the summary, and says whether there is no violation.
pub(crate) fn report(options: &Options, ledger: &Ledger) -> bool {
    the_faults_were_felt(ledger);
    println!(
        "\n{:<14} {:>6} {:>9} {:>7} {:>10}",
        "fault", "times", "requests", "failed", "explained"
    );
    let faults = Fault::ALL
        .into_iter()
        .map(|fault| (fault.name(), Cause::Fault(fault)));
    let others = [("stalls", Cause::Stall), ("no fault", Cause::Nothing)];
    for (name, cause) in faults.chain(others) {
        let row = ledger.row(cause);
        println!(
            "{name:<14} {:>6} {:>9} {:>7} {:>10}",
            row.times, row.requests, row.failed, row.explained
        );
    }
    println!("{}", ledger.totals());
    let violations = ledger.violations();
    if violations.is_empty() {
        println!("everything is explained");
        return true;
    }
    let (count, seed, minutes) = (violations.len(), options.seed, options.minutes);
    println!("\n{count} violations; again with --minutes {minutes} --seed {seed}");
    for violation in violations.iter().take(MOST_EXCERPTS) {
        println!("\n{}", violation.what);
        let lines = ledger.excerpt(violation, Duration::from_secs(8));
        for line in &lines[lines.len().saturating_sub(MOST_LINES)..] {
            println!("{line}");
        }
    }
    for violation in violations.iter().skip(MOST_EXCERPTS) {
        println!("{}", violation.what);
    }
    false
}

/// A soak whose faults have no effect proves nothing.
fn the_faults_were_felt(ledger: &Ledger) {
    for fault in Fault::ALL {
        let row = ledger.row(Cause::Fault(fault));
        if row.times == 0 {
            ledger.violation(format!("{} did not happen", fault.name()));
        }
        let must_fail = matches!(fault, Fault::Hang | Fault::Errors | Fault::Flaky);
        if must_fail && row.failed == 0 {
            ledger.violation(format!("{} made no request fail", fault.name()));
        }
    }
    if ledger.ejections() == 0 {
        ledger.violation("no instance was ejected".to_owned());
    }
}
