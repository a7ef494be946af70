//! The command line.

use std::env;
use std::path::PathBuf;

use crate::world::WorldError;

const USAGE: &str = "usage: lab [--quick] [--scenario NAME|FILE]... [--seed N] [--out DIR] [--probes]\n   or: lab [--quick] --family NAME|all... [--seed N] [--seeds N] [--record] [--probes]";

pub(crate) struct Options {
    pub(crate) quick: bool,
    /// Names of the default set, or files; none: the default set.
    pub(crate) scenarios: Vec<String>,
    /// Names of families, to be run instead.
    pub(crate) families: Vec<String>,
    pub(crate) seed: u64,
    /// How many seeds each variation of a family is run with.
    pub(crate) seeds: Option<u64>,
    /// Whether the figures that families compare with are written anew.
    pub(crate) record: bool,
    /// Whether it is said which rare branches of the rules were reached.
    pub(crate) probes: bool,
    pub(crate) out: PathBuf,
}

impl Options {
    pub(crate) fn from_args() -> Result<Self, WorldError> {
        let mut options = Self {
            quick: false,
            scenarios: Vec::new(),
            families: Vec::new(),
            seed: 1,
            seeds: None,
            record: false,
            probes: false,
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
                "--probes" => options.probes = true,
                "--record" => options.record = true,
                "--family" => options.families.push(value()?),
                "--out" => options.out = value()?.into(),
                "--seed" => options.seed = number(&arg, &value()?)?,
                "--seeds" => options.seeds = Some(number(&arg, &value()?)?.clamp(1, 10_000)),
                _ => return Err(format!("{arg} is unknown; {USAGE}").into()),
            }
        }
        Ok(options)
    }
}

fn number(option: &str, value: &str) -> Result<u64, String> {
    let parsed = value.parse();
    parsed.map_err(|_| format!("{option} is {value:?}, but must be a number"))
}
