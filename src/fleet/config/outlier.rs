use std::time::Duration;

use super::bounds::{ConfigError, at_least, within};

/// Failures in a row that eject, where no number was set.
const FAILURES_IN_ROW: u32 = 5;
/// The same of a suspect.
const SUSPECT_FAILURES: u32 = 2;

/// When a member is an outlier, for how long it is ejected, and how many may be at once. Valid by construction.
///
/// # Defaults
///
/// | Field | Default |
/// |---|---|
/// | [`failures_in_row`](OutlierBuilder::failures_in_row) | 5, raised while others fail too |
/// | [`suspect_failures`](OutlierBuilder::suspect_failures) | 2, or `failures_in_row` if that was set |
/// | [`unanswered_after`](OutlierBuilder::unanswered_after) | 50 ms, raised to what the fleet's mean latency asks for |
/// | [`failure_percentage`](OutlierBuilder::failure_percentage) | 50 % within 10 s |
/// | [`request_volume`](OutlierBuilder::request_volume) | 10 within 10 s |
/// | [`base_ejection_time`](OutlierBuilder::base_ejection_time) | 10 s |
/// | [`max_ejection_time`](OutlierBuilder::max_ejection_time) | 60 s |
/// | [`max_ejection_percentage`](OutlierBuilder::max_ejection_percentage) | 50 % |
/// | [`shadow`](OutlierBuilder::shadow) | off |
///
/// With the `serde` feature it is read from a table of the same fields, every one optional.
///
/// # Examples
///
/// ```
/// use rolecall::{BalanceConfig, OutlierConfig};
///
/// let careful = OutlierConfig::builder().shadow(true).build()?;
/// let config = BalanceConfig::builder().outlier(careful).build()?;
/// assert!(config.outlier().is_some_and(|outlier| outlier.is_shadow()));
///
/// let error = OutlierConfig::builder().failure_percentage(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "outlier.failure_percentage is 0, but must be within 1..=100");
/// # Ok::<(), rolecall::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "OutlierBuilder"))]
pub struct OutlierConfig(OutlierBuilder);

impl OutlierConfig {
    /// The defaults, to be changed field by field.
    pub fn builder() -> OutlierBuilder {
        OutlierBuilder::default()
    }

    /// These values, to be changed field by field.
    pub fn to_builder(&self) -> OutlierBuilder {
        self.0.clone()
    }

    /// See [`OutlierBuilder::failures_in_row`].
    pub fn failures_in_row(&self) -> u32 {
        self.0.failures_in_row.unwrap_or(FAILURES_IN_ROW)
    }

    /// See [`OutlierBuilder::suspect_failures`].
    pub fn suspect_failures(&self) -> u32 {
        let own = self.0.suspect_failures.or(self.0.failures_in_row);
        own.unwrap_or(SUSPECT_FAILURES)
    }

    /// See [`OutlierBuilder::unanswered_after`].
    pub fn unanswered_after(&self) -> Duration {
        self.0.unanswered_after
    }

    /// See [`OutlierBuilder::failure_percentage`].
    pub fn failure_percentage(&self) -> u32 {
        self.0.failure_percentage
    }

    /// See [`OutlierBuilder::request_volume`].
    pub fn request_volume(&self) -> u32 {
        self.0.request_volume
    }

    /// See [`OutlierBuilder::base_ejection_time`].
    pub fn base_ejection_time(&self) -> Duration {
        self.0.base_ejection_time
    }

    /// See [`OutlierBuilder::max_ejection_time`].
    pub fn max_ejection_time(&self) -> Duration {
        self.0.max_ejection_time
    }

    /// See [`OutlierBuilder::max_ejection_percentage`].
    pub fn max_ejection_percentage(&self) -> u32 {
        self.0.max_ejection_percentage
    }

    /// See [`OutlierBuilder::shadow`].
    pub fn is_shadow(&self) -> bool {
        self.0.shadow
    }
}

impl TryFrom<OutlierBuilder> for OutlierConfig {
    type Error = ConfigError;

    fn try_from(builder: OutlierBuilder) -> Result<Self, ConfigError> {
        builder.build()
    }
}

/// Collects the fields of an [`OutlierConfig`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct OutlierBuilder {
    failures_in_row: Option<u32>,
    suspect_failures: Option<u32>,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    unanswered_after: Duration,
    failure_percentage: u32,
    request_volume: u32,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    base_ejection_time: Duration,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    max_ejection_time: Duration,
    max_ejection_percentage: u32,
    shadow: bool,
}

impl OutlierBuilder {
    /// The least failures in a row that eject, 1 to 1000. Default: 5.
    ///
    /// While the other members fail too, more are needed: enough that a fleet of equally bad members would see one false
    /// ejection per thousand 10 s windows. That is 9 where a fifth of a thousand requests fails, and 21 where half of them
    /// does. If all fail, nobody is ejected. Lower ejects sooner and sometimes wrongly; higher lets more requests fail first.
    pub fn failures_in_row(mut self, failures: u32) -> Self {
        self.failures_in_row = Some(failures);
        self
    }

    /// The least failures in a row that eject a suspect, 1 to 1000. Default: 2, or
    /// [`failures_in_row`](Self::failures_in_row) if that was set.
    ///
    /// A suspect failed and gets too little traffic since to be judged; its trials are the only requests that go there. At the
    /// usual five it would take a minute to eject it.
    pub fn suspect_failures(mut self, failures: u32) -> Self {
        self.suspect_failures = Some(failures);
        self
    }

    /// How long a caller must have waited for nothing, before it went away, for that to count as a failure; 1 ms to 1 h.
    /// Default: 50 ms.
    ///
    /// Waits below 20 times the fleet's mean latency never count, unless they reach a second and 8 times it; nor do those
    /// during which the instance answered anybody. So where callers give up sooner than that, nobody is ejected for their
    /// silence, and load alone keeps requests away. Raise it where callers hedge.
    pub fn unanswered_after(mut self, wait: Duration) -> Self {
        self.unanswered_after = wait;
        self
    }

    /// The share of a member's requests within 10 s, in percent, that must have failed to eject it; 1 to 100. Default: 50.
    ///
    /// It must also be twice the failure rate of the others, and of so many requests that chance does not explain it:
    /// half of ten where one in a hundred of a thousand fails, and half of 30 where a tenth does. At 100 only members that fail
    /// always are ejected by rate. Callers that gave up in one pause of the instance are left out of it.
    pub fn failure_percentage(mut self, percentage: u32) -> Self {
        self.failure_percentage = percentage;
        self
    }

    /// The requests of a member within 10 s below which its failure rate says nothing, 1 to 1 000 000. Default: 10.
    ///
    /// As many good answers, and as much time as a first ejection, are also what lives down one ejection in a row. Lower
    /// judges by chance; higher lets members with little traffic fail.
    pub fn request_volume(mut self, requests: u32) -> Self {
        self.request_volume = requests;
        self
    }

    /// How long a first ejection lasts at most, 1 ms to 1 h. Default: 10 s.
    ///
    /// One that comes soon after another lasts twice as long, and each trial that fails doubles it again, see
    /// [`EjectionStatus::multiplier`](crate::EjectionStatus::multiplier). Each is shortened at random by up to a half, so that
    /// members ejected together do not return together. Beyond 60 s raise `max_ejection_time` too.
    pub fn base_ejection_time(mut self, time: Duration) -> Self {
        self.base_ejection_time = time;
        self
    }

    /// The longest ejection, `base_ejection_time` to 24 h. Default: 60 s.
    ///
    /// A member that is well again may be out for this long all the same, unless the cap keeps others that fail: then it is
    /// on probation after `base_ejection_time`. Shorter means more trials that fail, at most one in 200 requests.
    pub fn max_ejection_time(mut self, time: Duration) -> Self {
        self.max_ejection_time = time;
        self
    }

    /// The share of the eligible members, in percent, that may be ejected at once, 1 to 100. Default: 50.
    ///
    /// One of two or more may always be ejected, and the last one never is, whatever the share. One that loses its connection
    /// makes room for another; if it connects again with its place taken, it is on probation at once.
    pub fn max_ejection_percentage(mut self, percentage: u32) -> Self {
        self.max_ejection_percentage = percentage;
        self
    }

    /// Whether outliers are only detected, counted and told of, and nobody is ejected or tried. Default: no.
    ///
    /// A member that fails at once and that load keeps away from may then never fail often enough to be told of.
    pub fn shadow(mut self, shadow: bool) -> Self {
        self.shadow = shadow;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first field that is out of range, its value and the range.
    pub fn build(self) -> Result<OutlierConfig, ConfigError> {
        const MS: Duration = Duration::from_millis(1);
        const HOUR: Duration = Duration::from_secs(3600);
        let (base, max) = (self.base_ejection_time, self.max_ejection_time);
        if let Some(failures) = self.failures_in_row {
            within("outlier.failures_in_row", failures, 1, 1000)?;
        }
        if let Some(failures) = self.suspect_failures {
            within("outlier.suspect_failures", failures, 1, 1000)?;
        }
        within("outlier.unanswered_after", self.unanswered_after, MS, HOUR)?;
        within(
            "outlier.failure_percentage",
            self.failure_percentage,
            1,
            100,
        )?;
        within("outlier.request_volume", self.request_volume, 1, 1_000_000)?;
        within("outlier.base_ejection_time", base, MS, HOUR)?;
        let least = ("base_ejection_time", base);
        at_least("outlier.max_ejection_time", max, least, 24 * HOUR)?;
        within(
            "outlier.max_ejection_percentage",
            self.max_ejection_percentage,
            1,
            100,
        )?;
        Ok(OutlierConfig(self))
    }
}

impl Default for OutlierBuilder {
    fn default() -> Self {
        Self {
            failures_in_row: None,
            suspect_failures: None,
            unanswered_after: Duration::from_millis(50),
            failure_percentage: 50,
            request_volume: 10,
            base_ejection_time: Duration::from_secs(10),
            max_ejection_time: Duration::from_secs(60),
            max_ejection_percentage: 50,
            shadow: false,
        }
    }
}
