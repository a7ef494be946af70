//! The floors of the crate: arrows between modules point down, in no cycle, and a name is imported from where it is
//! defined. The fleet is pure.
//!
//! An arrow is an import or a path in the code of `src`, tests left out. Modules that only re-export are followed to the file
//! that defines the name.

#![expect(clippy::unwrap_used, reason = "a test")]

mod modules;
mod reading;
mod rules;
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use crate::modules::{Arrows, Modules};
use crate::rules::{KNOWN_CYCLES, cycle_faults, through_root, upward_faults};

/// What no line of the fleet may name: it knows no runtime, no clock and no global randomness.
const IMPURE: &[&str] = &[
    "tokio",
    "tower_",
    "futures_",
    "tracing",
    "Instant::now",
    "SystemTime",
    ".elapsed()",
    "thread::sleep",
    "rand::rng(",
    "rand::make_rng",
    "rand::random",
    "RandomState",
    "std::net",
    "std::fs",
    "std::env",
];

static MODULES: LazyLock<Modules> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    collect(&root, &root, &mut files);
    Modules::read(&files).unwrap()
});

static ARROWS: LazyLock<Arrows> = LazyLock::new(|| MODULES.arrows());

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let name = path.strip_prefix(root).unwrap();
            let name = name.to_str().unwrap().replace('\\', "/");
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_path_leads_to_a_definition() {
    assert!(MODULES.files().len() > 100, "this is not the whole crate");
    let unknown: Vec<_> = ARROWS
        .unknown
        .iter()
        .map(|(file, line, path)| {
            format!("src/{file}:{line}: no module defines `{path}`, or the reader overlooks it")
        })
        .collect();
    none(&unknown);
}

#[test]
fn arrows_point_down() {
    none(&upward_faults(MODULES.files().into_keys(), &ARROWS));
}

#[test]
fn nothing_is_imported_through_the_crate_root() {
    none(&through_root(&ARROWS));
}

#[test]
fn no_cycle_is_new_and_every_known_one_exists() {
    none(&cycle_faults(&ARROWS, KNOWN_CYCLES));
}

#[test]
fn the_fleet_knows_no_runtime_no_clock_and_no_global_randomness() {
    let sources = MODULES.files();
    let fleet = sources
        .iter()
        .filter(|(file, _)| file.starts_with("fleet/"));
    let mut files = 0;
    let mut faults = Vec::new();
    for (file, lines) in fleet {
        files += 1;
        for (line, code) in *lines {
            let impure = IMPURE.iter().filter(|impure| code.contains(**impure));
            faults.extend(
                impure.map(|name| format!("src/{file}:{line}: `{name}` has no place in the fleet")),
            );
        }
    }
    assert!(files > 10, "these {files} files are not the fleet");
    none(&faults);
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
