//! What the command line asks for.

use rolecall::BoxError;

pub(crate) const HELP: &str = "\
Real servers break in every way, and no caller may notice more than the faults explain.

Usage: soak [--minutes M] [--seed N] [--plan] [--log]

  --minutes M  how long, 3 to 1440; default 3. A round is 3 minutes, the last 80 s without faults
  --seed N     the seed of the schedule and of the callers; default 1
  --plan       print the schedule of faults and exit
  --log        print every fault and every event when it happens
  --help       print this

Exits with 1 if a failure, an ejection or a share is not explained by the faults, or if anything is left behind.
";

pub(crate) struct Options {
    pub(crate) minutes: u64,
    pub(crate) seed: u64,
    pub(crate) plan: bool,
    pub(crate) log: bool,
}

pub(crate) enum Asked {
    Soak(Options),
    Help,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Asked, BoxError> {
        let mut options = Self {
            minutes: 3,
            seed: 1,
            plan: false,
            log: false,
        };
        while let Some(arg) = args.next() {
            let mut number = || -> Result<u64, BoxError> {
                let value = args.next();
                let value = value.ok_or_else(|| format!("{arg}: expected a number"))?;
                let parsed = value.parse();
                Ok(parsed.map_err(|_| format!("{arg}: expected a number, found {value:?}"))?)
            };
            match arg.as_str() {
                "--minutes" => options.minutes = number()?,
                "--seed" => options.seed = number()?,
                "--plan" => options.plan = true,
                "--log" => options.log = true,
                "--help" => return Ok(Asked::Help),
                _ => return Err(format!("unknown option {arg:?}; --help lists them").into()),
            }
        }
        if !(3..=1440).contains(&options.minutes) {
            let minutes = options.minutes;
            return Err(format!("--minutes: expected 3 to 1440, found {minutes}").into());
        }
        Ok(Asked::Soak(options))
    }
}
