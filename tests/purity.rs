//! The fleet is pure: it knows no runtime, no clock and no global randomness.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

/// What no line of it may name.
const BANNED: &[&str] = &[
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
    "crate::service",
    "crate::http",
    "crate::grpc",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Code without its docs, its comments and its tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let shipped = text.split("#[cfg(test)]").next().unwrap_or(text);
    shipped
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn the_fleet_knows_no_runtime_no_clock_and_no_global_randomness() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fleet");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(
        files.len() > 10,
        "these are not the fleet's sources: {files:?}"
    );
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in code(&text) {
            for banned in BANNED {
                assert!(
                    !line.contains(banned),
                    "{}:{}: `{banned}` has no place in the fleet",
                    file.display(),
                    number + 1,
                );
            }
        }
    }
}

#[test]
fn fleet_and_discovery_do_not_know_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (folder, other) in [("fleet", "crate::discovery"), ("discovery", "crate::fleet")] {
        let mut files = Vec::new();
        sources(&root.join(folder), &mut files);
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let known = code(&text).find(|(_, line)| line.contains(other));
            assert!(known.is_none(), "{}: {known:?}", file.display());
        }
    }
}
