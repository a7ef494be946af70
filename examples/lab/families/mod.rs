//! Families: one scenario varied over a few parameters and many seeds, with a bound for what each variation must show.

mod few_requests;
mod hang;
mod others;
mod row;
mod shared_fault;
mod shared_pause;
mod shedding;
mod slow;
mod sweep;
mod zones;

use std::process::ExitCode;

use self::row::Row;
use self::sweep::Sweep;
use crate::options::Options;
use crate::world::WorldError;

struct Family {
    name: &'static str,
    /// What its rows are about.
    title: &'static str,
    run: fn(&Sweep) -> Result<Vec<Row>, WorldError>,
}

const FAMILIES: &[Family] = &[
    Family {
        name: "few_requests",
        title: "one caller with few requests, some servers fail or hang for good",
        run: few_requests::run,
    },
    Family {
        name: "shedding",
        title: "servers that shed with 503, 9 to 59 s after one failed for 3 s, or nobody did",
        run: shedding::run,
    },
    Family {
        name: "shared_fault",
        title: "every server fails for a while: the 30 s after it, and starts during it",
        run: shared_fault::run,
    },
    Family {
        name: "shared_pause",
        title: "all servers pause together: who is left without requests in the 30 s after it",
        run: shared_pause::run,
    },
    Family {
        name: "hang",
        title: "one of a few servers hangs, callers give up after 100 ms: how soon it is ejected",
        run: hang::run,
    },
    Family {
        name: "others",
        title: "a server that answers without working, a long way, a thousand servers",
        run: others::run,
    },
    Family {
        name: "zones",
        title: "callers in three zones: what crosses, and p99 against no preference and a hard one",
        run: zones::run,
    },
    Family {
        name: "slow",
        title: "servers that are slow: p99 against what it was",
        run: slow::run,
    },
];

/// Seeds of each variation, unless the command line says otherwise.
const SEEDS: u64 = 20;
const QUICK_SEEDS: u64 = 3;

/// Runs the families that the options name and prints a line for each variation. The exit code is 1 if a bound is missed.
pub(crate) fn run(options: &Options) -> Result<ExitCode, WorldError> {
    let families = options.families.iter().map(|name| named(name));
    let families: Vec<_> = families.collect::<Result<Vec<_>, _>>()?.concat();
    let default = if options.quick { QUICK_SEEDS } else { SEEDS };
    let sweep = Sweep {
        first_seed: options.seed,
        seeds: options.seeds.unwrap_or(default),
        is_quick: options.quick,
        is_recorded: options.record,
    };
    let mut missed = 0;
    for family in families {
        println!("{}: {}", family.name, family.title);
        let rows = (family.run)(&sweep)?;
        row::print(&rows);
        missed += rows.iter().filter(|row| !row.is_met()).count();
    }
    println!("missed: {missed}");
    Ok(ExitCode::from(u8::from(missed > 0)))
}

/// The family of that name, or `all`.
fn named(name: &str) -> Result<Vec<&'static Family>, WorldError> {
    if name == "all" {
        return Ok(FAMILIES.iter().collect());
    }
    let family = FAMILIES.iter().find(|family| family.name == name);
    let names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
    let unknown = || {
        format!(
            "--family is {name:?}, but must be all or one of {}",
            names.join(", ")
        )
    };
    Ok(vec![family.ok_or_else(unknown)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variation_is_a_valid_scenario() {
        // No seed: scenarios are checked, and nothing is run.
        let sweep = Sweep {
            first_seed: 1,
            seeds: 0,
            is_quick: false,
            is_recorded: false,
        };
        for family in FAMILIES {
            let rows = (family.run)(&sweep).unwrap();
            assert!(!rows.is_empty(), "{}", family.name);
        }
    }

    #[test]
    fn a_family_that_is_unknown_is_refused_with_the_names_of_all() {
        let error = named("shed").err().unwrap().to_string();
        assert!(error.contains("\"shed\", but must be all or one of few_requests, "));
        assert_eq!(named("all").unwrap().len(), FAMILIES.len());
    }
}
