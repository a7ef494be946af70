//! What the command line asks for.

use std::time::Duration;

use rolecall::BoxError;

use crate::contestants::Contestant;
use crate::fault::Fault;
use crate::trial::Times;

pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) runs: u64,
    pub(crate) tell_events: bool,
    pub(crate) faults: Vec<Fault>,
    pub(crate) contestants: Vec<Contestant>,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, BoxError> {
        let mut options = Self {
            quick: false,
            runs: 1,
            tell_events: false,
            faults: Vec::new(),
            contestants: Vec::new(),
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => options.quick = true,
                "--events" => options.tell_events = true,
                "--runs" => options.runs = args.next().ok_or("--runs needs a number")?.parse()?,
                name => {
                    let faults = Fault::ALL.into_iter().filter(|it| it.name() == name);
                    let contestants = Contestant::ALL.into_iter().filter(|it| it.name() == name);
                    let known = options.faults.len() + options.contestants.len();
                    options.faults.extend(faults);
                    options.contestants.extend(contestants);
                    if options.faults.len() + options.contestants.len() == known {
                        return Err(format!("'{name}' is no option, fault or balancer").into());
                    }
                }
            }
        }
        if options.runs == 0 {
            return Err("--runs is at least 1".into());
        }
        if options.faults.is_empty() {
            options.faults = Fault::ALL.into();
        }
        if options.contestants.is_empty() {
            options.contestants = if options.quick {
                vec![Contestant::Rolecall]
            } else {
                Contestant::ALL.into()
            };
            options.contestants.retain(|it| it.takes_part());
        }
        Ok(options)
    }

    pub(crate) fn times(&self) -> Times {
        let tenths = |tenths: u64| Duration::from_millis(100 * tenths);
        if self.quick {
            Times {
                warm_up: tenths(5),
                before: tenths(10),
                fault: tenths(30),
                heal: Duration::ZERO,
                settled: Duration::ZERO,
            }
        } else {
            Times {
                warm_up: tenths(20),
                before: tenths(50),
                fault: tenths(100),
                heal: tenths(200),
                settled: tenths(30),
            }
        }
    }
}
