//! Tables for people and JSON for machines.

use std::fs;
use std::io;
use std::path::Path;

use rolecall::fleet::Branch;
use serde_json::{Value, json};

use crate::contestants::Contestant;
use crate::promises::{Promise, mean_of};
use crate::run::Outcome;

/// One table for each scenario.
pub(crate) fn scenarios(outcomes: &[Outcome]) {
    for Outcome {
        scenario,
        summaries,
        ..
    } in outcomes
    {
        println!("\n{}: {}", scenario.name, scenario.title);
        println!(
            "  {:<26}{:>9}{:>9}{:>9}{:>10}{:>15}{:>8}{:>8}",
            "", "p50 ms", "p99 ms", "p99.9", "failed", "share of fair", "draws", "healed"
        );
        for summary in summaries {
            let shares = format!("{:.2} .. {:.2}", summary.least_share, summary.worst_share);
            println!(
                "  {:<26}{:>9.1}{:>9.1}{:>9.1}{:>10}{shares:>15}{:>8}{:>8}",
                summary.contestant.name(),
                summary.p50_ms,
                summary.p99_ms,
                summary.p999_ms,
                percent(summary.failed_share),
                summary
                    .mean_draws
                    .map_or_else(String::new, |draws| format!("{draws:.2}")),
                summary
                    .healed_after_s
                    .map_or_else(String::new, |after| format!("{after:.0} s")),
            );
        }
    }
}

/// What each contestant's p99 is to ours, in one figure.
pub(crate) fn geometric_means(outcomes: &[Outcome]) {
    let mean = |contestant, counts: &dyn Fn(&&Outcome) -> bool| {
        let counted = outcomes.iter().filter(counts);
        mean_of(counted.filter_map(|outcome| outcome.ratio(Contestant::Ours, contestant)))
    };
    println!(
        "\np99 of {} over that of others, geometric means",
        Contestant::Ours.name()
    );
    println!(
        "  {:<26}{:>16}{:>26}",
        "", "all scenarios", "without failing servers"
    );
    for &contestant in Contestant::ALL {
        let all = mean(contestant, &|_| true);
        let well = mean(contestant, &|outcome| {
            !outcome.scenario.has_failing_servers()
        });
        println!("  {:<26}{all:>16.3}{well:>26.3}", contestant.name());
    }
}

pub(crate) fn promises(promises: &[Promise]) {
    println!(
        "\n{:<82}{:>9}{:>18}{:>8}{:>8}  verdict",
        "promise", "measured", "single seeds", "must", "want"
    );
    for promise in promises {
        let spread = promise
            .spread
            .map_or_else(String::new, |(low, high)| format!("{low:.3} .. {high:.3}"));
        println!(
            "  {:<80}{:>9.4}{spread:>18}{:>8}{:>8}  {}",
            promise.what,
            promise.measured,
            figure(promise.bound.map(|bound| bound.must)),
            figure(promise.bound.and_then(|bound| bound.want)),
            promise.verdict(),
        );
    }
    println!();
}

/// How often all runs together reached the rare branches of the rules.
pub(crate) fn branches() {
    println!("rare branches, and how often they were reached");
    let mut branches = Branch::ALL.to_vec();
    branches.sort_by_key(|branch| branch.count());
    for branch in branches {
        match branch.count() {
            0 => println!("  {:>12}  {branch}", "never"),
            count => println!("  {count:>12}  {branch}"),
        }
    }
}

/// Everything that was measured.
pub(crate) fn json(
    outcomes: &[Outcome],
    promises: &[Promise],
    seeds: &[u64],
    file: &Path,
) -> io::Result<()> {
    let scenarios: Vec<Value> = outcomes
        .iter()
        .map(
            |Outcome {
                 scenario,
                 summaries,
                 ..
             }| {
                let servers: Vec<_> = scenario.servers().map(|(name, _)| name).collect();
                json!({
                    "name": scenario.name,
                    "title": scenario.title,
                    "has_failing_servers": scenario.has_failing_servers(),
                    "servers": servers,
                    "contestants": summaries,
                })
            },
        )
        .collect();
    let promises: Vec<Value> = promises
        .iter()
        .map(|promise| {
            json!({
                "what": promise.what.trim(),
                "measured": promise.measured,
                "must": promise.bound.map(|bound| bound.must),
                "want": promise.bound.and_then(|bound| bound.want),
                "verdict": promise.verdict(),
            })
        })
        .collect();
    let all = json!({ "seeds": seeds, "scenarios": scenarios, "promises": promises });
    fs::write(file, serde_json::to_string(&all)?)
}

fn figure(figure: Option<f64>) -> String {
    figure.map_or_else(String::new, |figure| figure.to_string())
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        small if small < 1.0 => format!("{small:.3} %"),
        large => format!("{large:.1} %"),
    }
}
