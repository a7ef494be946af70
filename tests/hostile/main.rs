//! Every parser over hostile input for a second: its corpus in `fuzz/corpus`, and mutations of that by a seeded generator.
//!
//! `ROLECALL_SEED` chooses the mutations and `ROLECALL_SECONDS` the time. The long form is `cargo fuzz`: see CONTRIBUTING.

#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test, on real time"
)]

mod mutator;
mod targets;

use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use mutator::Mutator;

/// One input takes microseconds, or a round trip on the loopback.
const LONGEST: Duration = Duration::from_secs(10);

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|file| file.unwrap().path())
        .collect();
    files.sort_unstable();
    assert!(files.len() >= 3, "{}: a small corpus", folder.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn attacked(name: &str, target: fn(&[u8])) {
    let corpus = corpus(name);
    let seed = number("ROLECALL_SEED").unwrap_or(1);
    let time = Duration::from_secs(number("ROLECALL_SECONDS").unwrap_or(1));
    let mut mutator = Mutator::new(seed);
    let began = Instant::now();
    let mut runs = 0_u64;
    let mutations = std::iter::repeat_with(|| mutator.mutated(&corpus));
    for input in [Vec::new()]
        .into_iter()
        .chain(corpus.clone())
        .chain(mutations)
    {
        let is_of_corpus = runs <= u64::try_from(corpus.len()).unwrap();
        if !is_of_corpus && began.elapsed() >= time {
            break;
        }
        runs += 1;
        let asked = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            panic!(
                "{name}, seed {seed}, run {runs}: b\"{}\"",
                input.escape_ascii()
            );
        }
        let took = asked.elapsed();
        assert!(took < LONGEST, "{name}, seed {seed}, run {runs}: {took:?}");
    }
    println!("{name}: {runs} inputs");
}

macro_rules! attacks {
    ($($(#[$attribute:meta])* $name:ident,)*) => {$(
        $(#[$attribute])*
        #[test]
        fn $name() {
            attacked(stringify!($name), targets::$name);
        }
    )*};
}

attacks! {
    address,
    folder_entry,
    grpc_answer,
    grpc_timeout,
    http_answer,
    instance,
    name,
    networks,
    proxy_header,
    record,
    retry,
    roles_file,
    target,
    uri,
    #[cfg(feature = "dns")]
    dns_answer,
    #[cfg(feature = "kubernetes")]
    kubernetes_list,
}
