//! What befalls servers, and discovery.

use std::time::Duration;

use serde::Deserialize;

/// Something that befalls servers for a while.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) servers: Vec<String>,
    #[serde(default, with = "humantime_serde")]
    pub(crate) from: Duration,
    #[serde(default, with = "humantime_serde")]
    pub(crate) until: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    pub(crate) stagger: Duration,
    pub(crate) effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Effect {
    Slow(f64),
    Antagonist(Antagonist),
    Fail(Fail),
    Hang,
    Down,
    Unannounced,
    Draining,
}

/// A neighbour that takes most of the machine in bursts.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Antagonist {
    pub(crate) slow: f64,
    #[serde(with = "humantime_serde")]
    pub(crate) on: Duration,
    #[serde(with = "humantime_serde")]
    pub(crate) off: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fail {
    pub(crate) share: f64,
    pub(crate) at_once: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Discovery {
    #[serde(with = "humantime_serde")]
    pub(crate) delay: Duration,
    pub(crate) outages: Vec<Outage>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outage {
    #[serde(with = "humantime_serde")]
    pub(crate) from: Duration,
    #[serde(with = "humantime_serde")]
    pub(crate) until: Duration,
    #[serde(default)]
    pub(crate) answer: Answer,
}

/// What discovery says during an outage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    #[default]
    Nothing,
    /// A successful answer without any instance.
    Empty,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(200),
            outages: Vec::new(),
        }
    }
}
