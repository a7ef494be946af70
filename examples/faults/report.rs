//! The table, and what was promised of ours.

use std::fs;
use std::thread;

use crate::contestants::Contestant;
use crate::fault::Fault;
use crate::load::{PATIENCE, RATE};
use crate::options::Options;
use crate::server::SERVICE_TIME;
use crate::trial::{BACK, Measured, SERVERS};

/// What a quick run does not wait for.
const UNKNOWN: &str = "-";

/// The runs of one contestant in one fault.
pub(crate) struct Row {
    pub(crate) fault: Fault,
    pub(crate) contestant: Contestant,
    pub(crate) runs: Vec<Measured>,
}

impl Row {
    /// One line of progress.
    pub(crate) fn last(&self, options: &Options) -> String {
        let measured = self.runs.last().map_or(String::new(), |run| {
            format!(
                "failed {:.2} %, p99 {:.1} ms ({:.1} before), back after {} s, {} failed afterwards",
                run.failed_percent,
                run.p99,
                run.p99_before,
                seconds_until_back(run.back_after, options),
                run.failed_afterwards
            )
        });
        let (fault, contestant) = (self.fault.name(), self.contestant.name());
        format!("{fault:<7} {contestant:<18} {measured}")
    }

    fn median(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        let sorted = self.sorted(of);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn sorted(&self, of: impl Fn(&Measured) -> f64) -> Vec<f64> {
        let mut values: Vec<_> = self.runs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

/// Explains what is measured.
pub(crate) fn print_heading(options: &Options) {
    let times = options.times();
    println!(
        "{SERVERS} server processes, {RATE} requests/s in all at random moments, {} ms each in the mean; callers give up \
         after {} s.\nOne server is broken for {} s, and well again.\n",
        SERVICE_TIME.as_millis(),
        PATIENCE.as_secs(),
        times.fault.as_secs()
    );
    for fault in &options.faults {
        println!("  {:<19}{}", fault.name(), fault.explanation());
    }
    println!();
    for contestant in &options.contestants {
        println!("  {:<19}{}", contestant.name(), contestant.explanation());
    }
    println!("\nmachine: {}\n", machine());
}

/// Prints the table.
pub(crate) fn print_table(rows: &[Row], options: &Options) {
    println!(
        "failed: of the requests under way during the fault{}; p99, p99.9: ms, of those answered then; before: p99\n\
         before the fault; back: seconds after it until the server has {BACK} of its fair share; share: of that, from then on.\n\
         Medians of {} run(s){}.\n",
        if options.runs > 1 {
            ", and from least to most"
        } else {
            ""
        },
        options.runs,
        if options.quick {
            ", of two more where a promise was missed"
        } else {
            ""
        }
    );
    println!(
        "{:<8}{:<20}{:>9}{:>18}{:>9}{:>9}{:>9}{:>9}{:>8}",
        "fault", "balancer", "failed %", "", "p99", "p99.9", "before", "back s", "share"
    );
    let mut last = None;
    for row in rows {
        let is_new = last.replace(row.fault) != Some(row.fault);
        if is_new && last.is_some() {
            println!();
        }
        let failed = row.sorted(|run| run.failed_percent);
        let spread = match &failed[..] {
            [least, .., most] => format!("{least:.2}..{most:.2}"),
            _ => String::new(),
        };
        let back = row.median(|run| run.back_after);
        println!(
            "{:<8}{:<20}{:>9.2}{spread:>18}{:>9.1}{:>9.1}{:>9.1}{:>9}{:>8}",
            if is_new { row.fault.name() } else { "" },
            row.contestant.name(),
            row.median(|run| run.failed_percent),
            row.median(|run| run.p99),
            row.median(|run| run.p999),
            row.median(|run| run.p99_before),
            seconds_until_back(back, options),
            if options.quick {
                UNKNOWN.to_owned()
            } else {
                format!("{:.2}", row.median(|run| run.share))
            },
        );
    }
    println!();
}

fn seconds_until_back(after: f64, options: &Options) -> String {
    if options.quick {
        UNKNOWN.to_owned()
    } else if after.is_finite() {
        format!("{after:.1}")
    } else {
        format!("> {}", options.times().heal.as_secs())
    }
}

/// Says which promises of ours hold, and whether all do.
pub(crate) fn print_promises(rows: &[Row], options: &Options) -> bool {
    let promises: Vec<_> = rows.iter().flat_map(|row| row.promises(options)).collect();
    for promise in &promises {
        let verdict = if promise.holds() { "ok  " } else { "MISS" };
        let Promise {
            what,
            measured,
            most,
        } = promise;
        println!("{verdict}  {what}: {measured:.2}, at most {most}");
    }
    promises.iter().all(Promise::holds)
}

struct Promise {
    what: String,
    measured: f64,
    most: f64,
}

impl Promise {
    fn holds(&self) -> bool {
        self.measured <= self.most
    }
}

impl Row {
    /// Whether everything promised of ours holds.
    pub(crate) fn holds(&self, options: &Options) -> bool {
        self.promises(options).iter().all(Promise::holds)
    }

    fn promises(&self, options: &Options) -> Vec<Promise> {
        let mut promises = Vec::new();
        if !self.contestant.is_ours() {
            return promises;
        }
        let mut promise = |what: &str, measured, most| {
            let what = format!("{}, {}: {what}", self.contestant.name(), self.fault.name());
            promises.push(Promise {
                what,
                measured,
                most,
            });
        };
        if let Some(most) = may_fail_percent(self.fault, options.quick) {
            promise("% failed", self.median(|run| run.failed_percent), most);
        }
        // A quick run may be beside anything: it judges no latencies.
        if options.quick {
            return promises;
        }
        if self.fault == Fault::Slow {
            let ratio = self.median(|run| run.p99 / run.p99_before);
            promise("p99 over p99 before", ratio, 2.0);
        }
        let back = self.median(|run| run.back_after);
        promise("seconds until back", back, 20.0);
        promises
    }
}

/// The promise; from a quick run, on whatever machine, only that nothing is badly wrong.
fn may_fail_percent(fault: Fault, quick: bool) -> Option<f64> {
    let (promised, loose) = match fault {
        Fault::Kill => (0.1, 2.0),
        Fault::Stop => (0.5, 5.0),
        Fault::Error => (0.3, 3.0),
        Fault::Slow => return quick.then_some(2.0),
        Fault::Refuse => (0.0, 1.0),
        Fault::Flap => (1.0, 5.0),
    };
    Some(if quick { loose } else { promised })
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{}, {} cores, load {} beforehand",
        model.map_or(std::env::consts::ARCH, |(_, name)| name),
        thread::available_parallelism().map_or(0, usize::from),
        load.split_whitespace().next().unwrap_or("unknown")
    )
}
