//! Tables that a person can read.

use std::fmt::{self, Display};
use std::fs;
use std::process::Command;
use std::thread;

/// What one case cost.
pub(crate) struct Cost {
    pub(crate) name: &'static str,
    pub(crate) instances: u16,
    /// Cost per call, one value a round.
    pub(crate) rounds: Vec<f64>,
}

/// A row of the promises: something measured over rounds or passes, and what was promised of it.
pub(crate) struct Promise {
    pub(crate) what: String,
    pub(crate) measured: Vec<f64>,
    /// What was promised; nothing of a figure that only helps to read another.
    pub(crate) bound: Option<Bound>,
}

impl Promise {
    /// Compares two cases, each given by name and size; both must have been measured.
    ///
    /// The ratio is taken round by round: drift from one round to another cancels.
    pub(crate) fn of_ratio(
        what: &str,
        costs: &[Cost],
        case: (&str, u16),
        over: (&str, u16),
        bound: impl Into<Option<Bound>>,
    ) -> Self {
        let rounds = |(name, instances)| {
            let case = costs
                .iter()
                .find(|cost| cost.name == name && cost.instances == instances);
            &case.expect("a promise compares what was measured").rounds
        };
        let measured = rounds(case)
            .iter()
            .zip(rounds(over))
            .map(|(case, over)| case / over)
            .collect();
        Self {
            what: what.into(),
            measured,
            bound: bound.into(),
        }
    }
}

/// What a promise holds itself to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// The median is at least `must`, and better at least `want`.
    AtLeast { must: f64, want: f64 },
    /// The median is at most this.
    AtMost(f64),
}

/// Median and quartiles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

/// Prints what is measured, on what and how.
pub(crate) fn heading(what: &str, how: &str) {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    println!("\n{what}");
    println!(
        "machine: {}, {cores} cores, load {}; {}",
        cpu(),
        load(),
        rustc()
    );
    println!("method:  {how}\n");
}

/// Prints one line per contestant and one column per size.
pub(crate) fn costs(unit: &str, costs: &[Cost]) {
    table(unit, "N", costs);
}

/// The same where sizes are of something else.
pub(crate) fn table(unit: &str, size_of: &str, costs: &[Cost]) {
    let mut names = Vec::new();
    let mut sizes = Vec::new();
    for cost in costs {
        if !names.contains(&cost.name) {
            names.push(cost.name);
        }
        if !sizes.contains(&cost.instances) {
            sizes.push(cost.instances);
        }
    }
    print!("{unit:<36}");
    for size in &sizes {
        print!("{:>22}", format!("{size_of} = {size}"));
    }
    println!();
    for name in names {
        print!("  {name:<34}");
        for size in &sizes {
            let cell = costs
                .iter()
                .find(|cost| cost.name == name && cost.instances == *size);
            print!(
                "{:>22}",
                cell.map_or(String::new(), |cost| Spread::of(&cost.rounds).to_string())
            );
        }
        println!();
    }
    println!();
}

/// Prints one line per promise, with a verdict.
pub(crate) fn promises(promises: &[Promise]) {
    println!(
        "{:<62}{:>22}{:>9}{:>8}  verdict",
        "promise", "measured", "must", "want"
    );
    for Promise {
        what,
        measured,
        bound,
    } in promises
    {
        let spread = Spread::of(measured);
        let judged = bound.map(|bound| bound.judge(spread.median));
        let (must, want, verdict) = judged.unwrap_or_default();
        println!(
            "  {what:<60}{:>22}{must:>9}{want:>8}  {verdict}",
            spread.to_string()
        );
    }
    println!();
}

impl Bound {
    fn judge(self, median: f64) -> (String, String, &'static str) {
        match self {
            Self::AtLeast { must, want } => {
                let verdict = match median {
                    m if m >= want => "ok",
                    m if m >= must => "ok, short of want",
                    _ => "MISS",
                };
                (format!(">= {must}"), format!(">= {want}"), verdict)
            }
            Self::AtMost(must) => (
                format!("<= {must}"),
                String::new(),
                if median <= must { "ok" } else { "MISS" },
            ),
        }
    }
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            sorted
                .get((share * sorted.len() as f64) as usize)
                .copied()
                .unwrap_or(f64::NAN)
        };
        Self {
            low: at(0.25),
            median: at(0.5),
            high: at(0.75),
        }
    }
}

impl Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Three figures, which is more than a shared machine repeats.
        let figures = |value: f64| match value.abs() {
            v if v >= 100.0 => format!("{value:.0}"),
            v if v >= 10.0 => format!("{value:.1}"),
            v if v >= 0.1 || v == 0.0 => format!("{value:.2}"),
            _ => format!("{value:.4}"),
        };
        write!(
            f,
            "{} [{}..{}]",
            figures(self.median),
            figures(self.low),
            figures(self.high)
        )
    }
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(
        || std::env::consts::ARCH.into(),
        |(_, name)| name.to_owned(),
    )
}

/// Runnable threads over the last minute: a bench beside other work measures both.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace()
        .next()
        .unwrap_or("unknown")
        .to_owned()
}

fn rustc() -> String {
    let version = Command::new("rustc").arg("--version").output();
    version.map_or_else(
        |_| "rustc unknown".into(),
        |out| String::from_utf8_lossy(&out.stdout).trim().to_owned(),
    )
}
