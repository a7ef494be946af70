use std::time::Duration;

use super::bounds::{ConfigError, at_least, within};

/// The default of `failures_in_row`.
const FAILURES_IN_ROW: u32 = 5;
/// The default of `suspect_failures`.
const SUSPECT_FAILURES: u32 = 2;

/// Configures which members are outliers, for how long they are ejected, and how many at once. Valid by construction.
///
/// # Defaults
///
/// | Field | Default |
/// |---|---|
/// | [`failures_in_row`](OutlierBuilder::failures_in_row) | 5, raised while other members fail too |
/// | [`suspect_failures`](OutlierBuilder::suspect_failures) | 2, or `failures_in_row` if that was set |
/// | [`unanswered_after`](OutlierBuilder::unanswered_after) | 50 ms, raised with the fleet's mean latency |
/// | [`failure_percentage`](OutlierBuilder::failure_percentage) | 50 % within 10 s |
/// | [`request_volume`](OutlierBuilder::request_volume) | 10 within 10 s |
/// | [`base_ejection_time`](OutlierBuilder::base_ejection_time) | 10 s |
/// | [`max_ejection_time`](OutlierBuilder::max_ejection_time) | 60 s |
/// | [`max_ejection_percentage`](OutlierBuilder::max_ejection_percentage) | 50 % |
/// | [`shadow`](OutlierBuilder::shadow) | off |
///
/// With the `serde` feature it can be deserialized from a table of the same fields, all optional.
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
    /// A builder that starts with the defaults.
    pub fn builder() -> OutlierBuilder {
        OutlierBuilder::default()
    }

    /// A builder that starts with the values of this configuration.
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

impl OutlierConfig {
    /// Every field by its name. The pattern makes a new field fail to compile here.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let OutlierBuilder {
            failures_in_row,
            suspect_failures,
            unanswered_after,
            failure_percentage,
            request_volume,
            base_ejection_time,
            max_ejection_time,
            max_ejection_percentage,
            shadow,
        } = &self.0;
        let number = |number: &Option<u32>| match number {
            Some(number) => number.to_string(),
            None => "default".into(),
        };
        vec![
            ("failures_in_row", number(failures_in_row)),
            ("suspect_failures", number(suspect_failures)),
            ("unanswered_after", format!("{unanswered_after:?}")),
            ("failure_percentage", failure_percentage.to_string()),
            ("request_volume", request_volume.to_string()),
            ("base_ejection_time", format!("{base_ejection_time:?}")),
            ("max_ejection_time", format!("{max_ejection_time:?}")),
            (
                "max_ejection_percentage",
                max_ejection_percentage.to_string(),
            ),
            ("shadow", shadow.to_string()),
        ]
    }
}

impl TryFrom<OutlierBuilder> for OutlierConfig {
    type Error = ConfigError;

    fn try_from(builder: OutlierBuilder) -> Result<Self, ConfigError> {
        builder.build()
    }
}

/// Builds an [`OutlierConfig`].
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
    /// Sets the least number of failures in a row that ejects a member, 1 to 1000. Default: 5.
    ///
    /// While other members fail too, more are needed: enough that a fleet of equally bad members would see one false
    /// ejection per thousand 10 s windows. Of a thousand requests that is 9 in a row if a fifth of them fails, and 21 if
    /// half of them fails. If all fail, no member is ejected.
    ///
    /// A lower value ejects sooner, and sometimes wrongly. A higher value lets more requests fail first.
    pub fn failures_in_row(mut self, failures: u32) -> Self {
        self.failures_in_row = Some(failures);
        self
    }

    /// Sets the least number of failures in a row that ejects a suspect, 1 to 1000. Default: 2, or
    /// [`failures_in_row`](Self::failures_in_row) if that was set.
    ///
    /// A suspect has failed, and has had too little traffic since to be judged: its trials are its only requests. With five
    /// failures, its ejection would take a minute.
    pub fn suspect_failures(mut self, failures: u32) -> Self {
        self.suspect_failures = Some(failures);
        self
    }

    /// Sets how long a caller must wait without an answer before its giving up counts as a failure, 1 ms to 1 h. Default: 50
    /// ms.
    ///
    /// A wait below 20 times the fleet's mean latency does not count, unless it reaches both a second and 8 times the mean.
    /// Nor does a wait during which the instance answered another request. If callers give up sooner than that, no member is
    /// ejected for not answering; load alone keeps requests away. Raise the value if callers hedge requests.
    pub fn unanswered_after(mut self, wait: Duration) -> Self {
        self.unanswered_after = wait;
        self
    }

    /// Sets the percentage of a member's requests within 10 s that must fail to eject it, 1 to 100. Default: 50.
    ///
    /// The failure rate must also be twice that of the other members, and chance must not explain it. Half of 10 requests
    /// are enough if one in a hundred of a thousand requests fails, and half of 30 if a tenth fails. With 100, only members
    /// that always fail are ejected by rate. Callers that gave up during one pause of the instance do not count.
    pub fn failure_percentage(mut self, percentage: u32) -> Self {
        self.failure_percentage = percentage;
        self
    }

    /// Sets the least number of a member's requests within 10 s for its failure rate to count, 1 to 1 000 000. Default: 10.
    ///
    /// The same number of successes, over at least `base_ejection_time`, also takes back one doubling of the member's next
    /// ejection. A lower value judges by chance. A higher value lets members with little traffic fail.
    pub fn request_volume(mut self, requests: u32) -> Self {
        self.request_volume = requests;
        self
    }

    /// Sets the longest time of a first ejection, 1 ms to 1 h. Default: 10 s.
    ///
    /// An ejection soon after another lasts twice as long, and each failed trial doubles it again; see
    /// [`EjectionStatus::multiplier`](crate::EjectionStatus::multiplier). Every ejection is shortened at random by up to a
    /// half, so that members ejected together do not return together. For more than 60 s, raise `max_ejection_time` too.
    pub fn base_ejection_time(mut self, time: Duration) -> Self {
        self.base_ejection_time = time;
        self
    }

    /// Sets the longest time of any ejection, `base_ejection_time` to 24 h. Default: 60 s.
    ///
    /// A recovered member may still be out for this long. If the cap keeps other failing members in play, it is put on
    /// probation after `base_ejection_time` instead. A lower value means more failed trials, at most one in 200 requests.
    pub fn max_ejection_time(mut self, time: Duration) -> Self {
        self.max_ejection_time = time;
        self
    }

    /// Sets the percentage of the eligible members that may be ejected at once, 1 to 100. Default: 50.
    ///
    /// Whatever the value, one of two or more members may be ejected, and the last one never is. An ejected member that
    /// loses its connection makes room for another ejection. If it connects again after its place was taken, it is put on
    /// probation at once.
    pub fn max_ejection_percentage(mut self, percentage: u32) -> Self {
        self.max_ejection_percentage = percentage;
        self
    }

    /// Sets whether outliers are only detected, counted and reported, without ejections and trials. Default: no.
    ///
    /// Load keeps requests away from a member that fails quickly. Without trials, such a member may never fail often enough
    /// to be reported.
    pub fn shadow(mut self, shadow: bool) -> Self {
        self.shadow = shadow;
        self
    }

    /// Checks every field and builds the configuration.
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
