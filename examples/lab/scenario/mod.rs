//! A scenario: servers, their callers and what befalls them, read from a TOML file.
//!
//! `scenarios/README.md` says what each field means.

mod check;
mod misfortune;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub(crate) use self::misfortune::{Answer, Discovery, Effect, Fail, Fault};

/// The scenarios run by default, in this order; each is a file in `examples/lab/scenarios`.
pub(crate) const DEFAULT_SET: &[&str] = &[
    "homogeneous_05",
    "homogeneous_70",
    "homogeneous_85",
    "homogeneous_95",
    "lognormal_sharing_70",
    "bimodal_85",
    "half_2x_slower",
    "half_4x_slower",
    "one_slow",
    "three_slow",
    "antagonist",
    "weights",
    "many_clients",
    "cold_newcomer",
    "rolling_restart",
    "discovery_outage",
    "failer_2",
    "failer_3",
    "failer_10",
    "failer_100",
    "flaky",
    "hanging",
    "recovering",
    "overload",
    "total_outage",
];

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// The file's name without its ending.
    #[serde(skip)]
    pub(crate) name: String,
    pub(crate) title: String,
    /// Whether it is part of `--quick`.
    #[serde(default)]
    pub(crate) quick: bool,
    #[serde(with = "humantime_serde")]
    pub(crate) duration: Duration,
    #[serde(with = "humantime_serde")]
    pub(crate) measure_from: Duration,
    #[serde(with = "humantime_serde")]
    pub(crate) timeout: Duration,
    /// Whether it is recorded what the first client thinks of the servers.
    #[serde(default = "yes")]
    pub(crate) states: bool,
    pub(crate) clients: Clients,
    #[serde(default)]
    pub(crate) network: Network,
    pub(crate) service: Service,
    pub(crate) servers: Vec<Group>,
    #[serde(default)]
    pub(crate) faults: Vec<Fault>,
    #[serde(default)]
    pub(crate) discovery: Discovery,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Clients {
    pub(crate) count: usize,
    pub(crate) load: Option<f64>,
    pub(crate) requests_per_second: Option<f64>,
    /// Further attempts, each at another server, after one that failed or timed out.
    #[serde(default)]
    pub(crate) retries: usize,
    /// The zones of the clients, in turn.
    #[serde(default)]
    pub(crate) zones: Vec<String>,
}

impl Clients {
    pub(crate) fn zone(&self, client: usize) -> Option<&str> {
        let zone = self.zones.get(client % self.zones.len().max(1))?;
        Some(zone)
    }
}

/// Each way takes `delay` and an exponential part of mean `jitter`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Network {
    #[serde(with = "humantime_serde")]
    pub(crate) delay: Duration,
    #[serde(with = "humantime_serde")]
    pub(crate) jitter: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    #[serde(with = "humantime_serde")]
    pub(crate) mean: Duration,
    pub(crate) shape: Shape,
}

/// How service times spread round their mean.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Shape {
    Exponential,
    Lognormal { sigma: f64 },
    Bimodal { long_share: f64, long_factor: f64 },
}

/// Servers that are alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) count: usize,
    #[serde(default = "four")]
    pub(crate) slots: usize,
    #[serde(default)]
    pub(crate) queue: Queue,
    pub(crate) queue_limit: Option<usize>,
    #[serde(default)]
    pub(crate) refusal: Refusal,
    #[serde(default = "one")]
    pub(crate) slow: f64,
    #[serde(default = "one_weight")]
    pub(crate) weight: u16,
    pub(crate) zone: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Queue {
    /// A slot serves one request at a time; the others wait in order.
    #[default]
    Fifo,
    /// All are served at once and share the slots.
    Sharing,
}

/// What a server answers that has no room in its queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    /// That it is overloaded, in a way that balancers understand.
    #[default]
    Overloaded,
    /// A plain error, such as status 503.
    Failure,
}

/// A scenario that cannot be run: names the file and the field.
#[derive(Debug)]
pub(crate) struct ScenarioError {
    file: PathBuf,
    what: String,
}

impl Scenario {
    /// A scenario of the default set by its name, or any by its file.
    pub(crate) fn find(name_or_file: &str) -> Result<Self, ScenarioError> {
        if name_or_file.ends_with(".toml") {
            return Self::read(Path::new(name_or_file));
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/lab/scenarios");
        Self::read(&folder.join(format!("{name_or_file}.toml")))
    }

    fn read(file: &Path) -> Result<Self, ScenarioError> {
        let error = |what: String| ScenarioError {
            file: file.to_owned(),
            what,
        };
        let text = fs::read_to_string(file).map_err(|cause| {
            error(format!(
                "{cause}; a scenario is a .toml file, or one of {}",
                DEFAULT_SET.join(", ")
            ))
        })?;
        let stem = file.file_stem().unwrap_or_default();
        Self::parse(&stem.to_string_lossy(), &text).map_err(error)
    }

    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut scenario: Self = toml::from_str(text).map_err(|cause| cause.to_string())?;
        scenario.name = name.to_owned();
        scenario.check()?;
        Ok(scenario)
    }

    /// Every server's name and group; a server is known by its place here.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (String, &Group)> {
        self.servers.iter().flat_map(|group| {
            (1..=group.count).map(move |number| (format!("{}-{number}", group.name), group))
        })
    }

    /// The servers that a fault names, by a group's name or their own.
    pub(crate) fn afflicted(&self, fault: &Fault) -> Vec<usize> {
        let named = |name: &str, group: &Group| {
            let by = |given: &String| *given == group.name || given == name;
            fault.servers.iter().any(by)
        };
        self.servers()
            .enumerate()
            .filter(|(_, (name, group))| named(name, group))
            .map(|(server, _)| server)
            .collect()
    }

    /// Requests per second of all clients together.
    pub(crate) fn rate(&self) -> f64 {
        let clients = &self.clients;
        clients.requests_per_second.unwrap_or_else(|| {
            let absent: Vec<_> = self
                .faults
                .iter()
                .filter(|fault| fault.effect == Effect::Unannounced && fault.from.is_zero())
                .flat_map(|fault| self.afflicted(fault))
                .collect();
            let capacity: f64 = self
                .servers()
                .enumerate()
                .filter(|(server, _)| !absent.contains(server))
                .map(|(_, (_, group))| group.slots as f64 / group.slow)
                .sum();
            clients.load.unwrap_or(0.0) * capacity / self.service.mean.as_secs_f64()
        })
    }

    /// Whether requests fail through the doing of a server.
    pub(crate) fn has_failing_servers(&self) -> bool {
        let fails = |effect| matches!(effect, Effect::Fail(_) | Effect::Hang | Effect::Down);
        self.faults.iter().any(|fault| fails(fault.effect))
            || self.servers.iter().any(|group| group.queue_limit.is_some())
    }
}

impl Default for Network {
    fn default() -> Self {
        Self {
            delay: Duration::from_micros(200),
            jitter: Duration::from_micros(50),
        }
    }
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

fn one_weight() -> u16 {
    1
}

fn four() -> usize {
    4
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what.trim_end())
    }
}

impl std::error::Error for ScenarioError {}
