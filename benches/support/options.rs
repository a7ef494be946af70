//! What the command line asks of a bench.

use std::time::Duration;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) quick: bool,
}

impl Options {
    /// Reads the command line; `None` when nothing is to be measured.
    ///
    /// Only `cargo bench` passes `--bench`. `cargo test` starts the same program, and its runners
    /// ask it for a list of tests: to both it has nothing to say.
    pub(crate) fn from_args() -> Option<Self> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let given = |flag: &str| args.iter().any(|arg| arg == flag);
        given("--bench").then(|| Self {
            quick: given("--quick"),
        })
    }

    /// `full`, cut down for a smoke run.
    pub(crate) fn rounds(self, full: usize) -> usize {
        if self.quick { 3 } else { full }
    }

    /// `full`, cut down for a smoke run.
    pub(crate) fn batch(self, full: Duration) -> Duration {
        if self.quick { full / 5 } else { full }
    }
}
