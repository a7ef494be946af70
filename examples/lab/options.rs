//! The command line.

use std::env;
use std::path::PathBuf;

use crate::world::WorldError;

const USAGE: &str = "usage: lab [--quick] [--scenario NAME|FILE]... [--seed N] [--out DIR]";

pub(crate) struct Options {
    pub(crate) quick: bool,
    /// Names of the default set, or files; none: the default set.
    pub(crate) scenarios: Vec<String>,
    pub(crate) seed: u64,
    pub(crate) out: PathBuf,
}

impl Options {
    pub(crate) fn from_args() -> Result<Self, WorldError> {
        let mut options = Self {
            quick: false,
            scenarios: Vec::new(),
            seed: 1,
            out: PathBuf::from("target/lab"),
        };
        let mut args = env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || {
                args.next()
                    .ok_or_else(|| format!("{arg} needs a value; {USAGE}"))
            };
            match arg.as_str() {
                "--quick" => options.quick = true,
                "--scenario" => options.scenarios.push(value()?),
                "--out" => options.out = value()?.into(),
                "--seed" => {
                    let seed = value()?;
                    let parsed = seed.parse();
                    options.seed =
                        parsed.map_err(|_| format!("--seed is {seed:?}, but must be a number"))?;
                }
                _ => return Err(format!("{arg} is unknown; {USAGE}").into()),
            }
        }
        Ok(options)
    }
}
