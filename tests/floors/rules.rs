//! The rules for arrows between files.

use std::collections::BTreeSet;

use crate::modules::{Arrow, Arrows, Edges, cycles, shortest_cycle};

/// The modules of the crate root from the lowest floor to the highest. A module knows only those on lower floors.
const FLOORS: &[&[&str]] = &[
    &["runtime"],
    &["model"],
    REPORTS,
    // Neither knows the other.
    &["fleet", "discovery"],
    &["balance"],
    &["http", "guard"],
    &["grpc"],
    &["worker", "retry", "metrics", "console"],
];

/// What people read: the only floor whose modules may know each other.
const REPORTS: &[&str] = &["status", "event", "error", "explain"];

/// Modules without a floor: the crate root re-exports, and the guide is prose.
const EXEMPT: &[&str] = &["lib", "guide"];

/// Cycles that still exist, of files or of modules of the crate root, and the issue that removes them. A name that is in no
/// cycle any more must be removed from its list. Never add one.
#[rustfmt::skip]
pub(crate) const KNOWN_CYCLES: &[(u32, &[&str])] = &[
];

/// The module of the crate root that a file belongs to.
fn module(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Modules without a floor, and arrows that do not point down.
pub(crate) fn upward_faults<'a>(
    files: impl Iterator<Item = &'a str>,
    arrows: &Arrows,
) -> Vec<String> {
    let modules: BTreeSet<_> = files.map(module).collect();
    let unplaced = modules
        .iter()
        .filter(|name| !EXEMPT.contains(name) && floor(name).is_none())
        .map(|name| format!("the module `{name}` has no floor in tests/floors/rules.rs"));
    let faults = arrows.arrows.iter().filter_map(|arrow| {
        let (low, high) = (module(&arrow.from), module(&arrow.to));
        if low == high || EXEMPT.contains(&low) {
            return None;
        }
        if EXEMPT.contains(&high) {
            return Some(format!("{arrow}: nothing depends on `{high}`"));
        }
        let (from, to) = (floor(low)?, floor(high)?);
        if from > to || (from == to && FLOORS[from] == REPORTS) {
            None
        } else if from == to {
            Some(format!(
                "{arrow}: `{low}` and `{high}` are neighbours on floor {from} and must not know each other"
            ))
        } else {
            Some(format!(
                "{arrow}: `{low}` on floor {from} must not know `{high}` on floor {to}"
            ))
        }
    });
    unplaced.chain(faults).collect()
}

pub(crate) fn through_root(arrows: &Arrows) -> Vec<String> {
    arrows
        .through_root
        .iter()
        .filter(|(file, ..)| !EXEMPT.contains(&module(file)))
        .map(|(file, line, path)| {
            format!(
                "src/{file}:{line}: `{path}` goes through the crate root; import it from where it is defined"
            )
        })
        .collect()
}

/// Cycles that are not known, and known names that are in no cycle.
pub(crate) fn cycle_faults(arrows: &Arrows, known: &[(u32, &[&str])]) -> Vec<String> {
    let arrows: Vec<&Arrow> = arrows
        .arrows
        .iter()
        .filter(|arrow| !EXEMPT.contains(&module(&arrow.from)))
        .collect();
    let files: Edges = arrows
        .iter()
        .map(|arrow| (arrow.from.as_str(), arrow.to.as_str()))
        .collect();
    let modules: Edges = files
        .iter()
        .map(|&(from, to)| (module(from), module(to)))
        .filter(|(from, to)| from != to)
        .collect();
    let mut faults = Vec::new();
    let mut in_cycle = BTreeSet::new();
    for edges in [&files, &modules] {
        for cycle in cycles(edges) {
            in_cycle.extend(cycle.iter().copied());
            let is_known = known
                .iter()
                .any(|(_, known)| cycle.iter().all(|name| known.contains(name)));
            if !is_known {
                faults.push(describe(edges, &cycle, &arrows));
            }
        }
    }
    for (issue, names) in known {
        let gone = names.iter().filter(|name| !in_cycle.contains(*name));
        faults.extend(gone.map(|name| {
            format!("{name} is in no cycle any more: remove it from KNOWN_CYCLES (issue {issue})")
        }));
    }
    faults
}

/// The cycle, and the arrows of its shortest part.
fn describe(edges: &Edges, cycle: &BTreeSet<&str>, arrows: &[&Arrow]) -> String {
    let names: Vec<_> = cycle.iter().copied().collect();
    let mut text = format!(
        "a cycle of {}: {}; the shortest way round:",
        names.len(),
        names.join(", ")
    );
    for pair in shortest_cycle(edges, cycle).windows(2) {
        let is_step = |from: &str, to: &str| from == pair[0] && to == pair[1];
        let step = arrows.iter().find(|arrow| {
            is_step(&arrow.from, &arrow.to) || is_step(module(&arrow.from), module(&arrow.to))
        });
        if let Some(arrow) = step {
            text.push_str(&format!("\n    {arrow}"));
        }
    }
    text
}
