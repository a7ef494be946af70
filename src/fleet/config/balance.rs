use std::num::NonZeroU32;
use std::time::Duration;

use super::bounds::{ConfigError, at_least, within};
use super::outlier::OutlierConfig;
use super::subset::Subset;
use crate::model::instance::Zone;

/// The default price of a zone.
const PRICE: f64 = 2.0;

/// How a balancer picks and dials, when it ejects, and how it treats doubtful sets. Valid by construction.
///
/// # Defaults
///
/// | Field | Default |
/// |---|---|
/// | [`load`](ConfigBuilder::load) | [`Load::latency`] |
/// | [`max_choices`](ConfigBuilder::max_choices) | 8 |
/// | [`max_in_flight`](ConfigBuilder::max_in_flight) | none |
/// | [`max_waiting`](ConfigBuilder::max_waiting) | none |
/// | [`outlier`](ConfigBuilder::outlier) | on, see [`OutlierConfig`] |
/// | [`slow_start`](ConfigBuilder::slow_start) | 5 s |
/// | [`slow_start_new`](ConfigBuilder::slow_start_new) | none |
/// | [`zone`](ConfigBuilder::zone) | none |
/// | [`zone_price`](ConfigBuilder::zone_price) | 2 |
/// | [`connect_timeout`](ConfigBuilder::connect_timeout) | 2 s |
/// | [`connect_concurrency`](ConfigBuilder::connect_concurrency) | 64 |
/// | [`connect_backoff`](ConfigBuilder::connect_backoff) | 100 ms doubling to 5 s, full jitter |
/// | [`unavailable_after`](ConfigBuilder::unavailable_after) | 3 s |
/// | [`shrink_grace`](ConfigBuilder::shrink_grace) | 30 s |
/// | [`subset`](ConfigBuilder::subset) | [`Subset::All`] |
///
/// With the `serde` feature it deserializes from a table of the same fields. Every field is optional; durations are written
/// `"5s"`. Unknown fields and values out of range are errors.
///
/// # Examples
///
/// ```
/// use rolecall::BalanceConfig;
/// use std::time::Duration;
///
/// let config = BalanceConfig::builder()
///     .max_in_flight(100)
///     .unavailable_after(Duration::from_secs(1))
///     .build()?;
/// assert_eq!(config.max_choices(), 8);
///
/// let error = BalanceConfig::builder().max_choices(1).build().unwrap_err();
/// assert_eq!(error.to_string(), "max_choices is 1, but must be within 2..=64");
/// # Ok::<(), rolecall::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ConfigBuilder"))]
pub struct BalanceConfig(ConfigBuilder);

/// How the load of a member is measured. A pick prefers the member with the lower load.
///
/// With the `serde` feature it is written `"latency"` or `"least-in-flight"`.
///
/// ```
/// use rolecall::{BalanceConfig, Load};
///
/// let config = BalanceConfig::builder().load(Load::least_in_flight()).build()?;
/// assert_eq!(config.load(), Load::least_in_flight());
/// assert_eq!(Load::default(), Load::latency());
/// # Ok::<(), rolecall::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Load(Measure);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
enum Measure {
    #[default]
    Latency,
    LeastInFlight,
}

impl Load {
    /// Mean latency times the requests in flight. The default.
    ///
    /// While there is little evidence about a member, its latency is pulled towards the fleet's mean.
    pub const fn latency() -> Self {
        Self(Measure::Latency)
    }

    /// The requests in flight alone. With ejection off, picks do not read a clock.
    pub const fn least_in_flight() -> Self {
        Self(Measure::LeastInFlight)
    }

    /// Whether latencies are part of the load.
    pub(crate) const fn is_latency(&self) -> bool {
        matches!(self.0, Measure::Latency)
    }
}

/// The wait between two dials of one instance.
///
/// Its upper bound doubles from `base` to `max`. Each wait is drawn uniformly between zero and this bound ("full jitter",
/// Brooker 2015).
///
/// With the `serde` feature it is a table of `base` and `max`, with durations written `"100ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Backoff {
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    base: Duration,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    max: Duration,
}

impl Backoff {
    /// Creates a backoff. `base` is the longest wait after the first failure, 1 ms to 1 h; `max` is the longest wait after
    /// any failure, `base` to 1 h.
    ///
    /// [`ConfigBuilder::build`] checks the ranges.
    pub const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max }
    }

    /// The longest wait after the first failure.
    pub const fn base(&self) -> Duration {
        self.base
    }

    /// The longest wait after any failure.
    pub const fn max(&self) -> Duration {
        self.max
    }
}

impl BalanceConfig {
    /// Returns a builder with the defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Returns a builder with these values.
    pub fn to_builder(&self) -> ConfigBuilder {
        self.0.clone()
    }

    /// See [`ConfigBuilder::load`].
    pub fn load(&self) -> Load {
        self.0.load.clone()
    }

    /// See [`ConfigBuilder::max_choices`].
    pub fn max_choices(&self) -> u32 {
        self.0.max_choices
    }

    /// See [`ConfigBuilder::max_in_flight`].
    pub fn max_in_flight(&self) -> Option<NonZeroU32> {
        self.0.max_in_flight.and_then(NonZeroU32::new)
    }

    /// See [`ConfigBuilder::max_waiting`].
    pub fn max_waiting(&self) -> Option<NonZeroU32> {
        self.0.max_waiting.and_then(NonZeroU32::new)
    }

    /// See [`ConfigBuilder::outlier`].
    pub fn outlier(&self) -> Option<&OutlierConfig> {
        self.0.outlier.as_ref()
    }

    /// See [`ConfigBuilder::slow_start`].
    pub fn slow_start(&self) -> Duration {
        self.0.slow_start
    }

    /// See [`ConfigBuilder::slow_start_new`].
    pub fn slow_start_new(&self) -> Option<Duration> {
        self.0.slow_start_new
    }

    /// See [`ConfigBuilder::zone`].
    pub fn zone(&self) -> Option<&Zone> {
        self.0.zone.as_ref()
    }

    /// See [`ConfigBuilder::zone_price`].
    pub fn zone_price(&self) -> f64 {
        self.0.zone_price
    }

    /// See [`ConfigBuilder::connect_timeout`].
    pub fn connect_timeout(&self) -> Duration {
        self.0.connect_timeout
    }

    /// See [`ConfigBuilder::connect_concurrency`].
    pub fn connect_concurrency(&self) -> usize {
        self.0.connect_concurrency
    }

    /// See [`ConfigBuilder::connect_backoff`].
    pub fn connect_backoff(&self) -> Backoff {
        self.0.connect_backoff
    }

    /// See [`ConfigBuilder::unavailable_after`].
    pub fn unavailable_after(&self) -> Duration {
        self.0.unavailable_after
    }

    /// See [`ConfigBuilder::shrink_grace`].
    pub fn shrink_grace(&self) -> Duration {
        self.0.shrink_grace
    }

    /// See [`ConfigBuilder::subset`].
    pub fn subset(&self) -> &Subset {
        &self.0.subset
    }
}

impl BalanceConfig {
    /// The fields in which `other` differs, with both values: `"shrink_grace from 30s to 5s"`. Empty if there are none.
    pub(crate) fn changes_to(&self, other: &Self) -> String {
        let (before, after) = (self.fields(), other.fields());
        let pairs = before.into_iter().zip(after);
        let changes = pairs.filter(|((_, before), (_, after))| before != after);
        let changes =
            changes.map(|((name, before), (_, after))| format!("{name} from {before} to {after}"));
        changes.collect::<Vec<_>>().join(", ")
    }

    /// Every field by its name. The pattern makes a new field fail to compile here.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let ConfigBuilder {
            load,
            max_choices,
            max_in_flight,
            max_waiting,
            outlier,
            slow_start,
            slow_start_new,
            zone,
            zone_price,
            connect_timeout,
            connect_concurrency,
            connect_backoff,
            unavailable_after,
            shrink_grace,
            subset,
        } = &self.0;
        let limit = |limit: &Option<u32>| match limit {
            Some(limit) => limit.to_string(),
            None => "none".into(),
        };
        let Backoff { base, max } = connect_backoff;
        let load = if load.is_latency() {
            "latency"
        } else {
            "least-in-flight"
        };
        let subset_text = match subset {
            Subset::All => "all".into(),
            Subset::Fixed { size, key } => format!("{size} by {key:?}"),
        };
        let switch = if outlier.is_some() { "on" } else { "off" };
        let mut fields = vec![
            ("load", load.into()),
            ("max_choices", max_choices.to_string()),
            ("max_in_flight", limit(max_in_flight)),
            ("max_waiting", limit(max_waiting)),
            ("outlier", switch.into()),
            ("slow_start", format!("{slow_start:?}")),
            (
                "slow_start_new",
                slow_start_new.map_or("none".into(), |time| format!("{time:?}")),
            ),
            (
                "zone",
                zone.as_ref().map_or("none".into(), ToString::to_string),
            ),
            ("zone_price", zone_price.to_string()),
            ("connect_timeout", format!("{connect_timeout:?}")),
            ("connect_concurrency", connect_concurrency.to_string()),
            ("connect_backoff.base", format!("{base:?}")),
            ("connect_backoff.max", format!("{max:?}")),
            ("unavailable_after", format!("{unavailable_after:?}")),
            ("shrink_grace", format!("{shrink_grace:?}")),
            ("subset", subset_text),
        ];
        fields.extend(outlier.clone().unwrap_or_default().fields());
        fields
    }
}

impl TryFrom<ConfigBuilder> for BalanceConfig {
    type Error = ConfigError;

    fn try_from(builder: ConfigBuilder) -> Result<Self, ConfigError> {
        builder.build()
    }
}

/// Builds a [`BalanceConfig`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct ConfigBuilder {
    load: Load,
    max_choices: u32,
    max_in_flight: Option<u32>,
    max_waiting: Option<u32>,
    #[cfg_attr(feature = "serde", serde(deserialize_with = "switch::deserialize"))]
    outlier: Option<OutlierConfig>,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    slow_start: Duration,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    slow_start_new: Option<Duration>,
    zone: Option<Zone>,
    zone_price: f64,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    connect_timeout: Duration,
    connect_concurrency: usize,
    connect_backoff: Backoff,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    unavailable_after: Duration,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    shrink_grace: Duration,
    subset: Subset,
}

impl ConfigBuilder {
    /// How the load of a member is measured. Default: [`Load::latency`].
    pub fn load(mut self, load: Load) -> Self {
        self.load = load;
        self
    }

    /// The most members that one pick compares, 2 to 64. Default: 8.
    ///
    /// A pick draws two members. It draws more only while the best one is poor compared with recent picks. 2 is the classic
    /// power of two choices (Mitzenmacher 2001).
    pub fn max_choices(mut self, max_choices: u32) -> Self {
        self.max_choices = max_choices;
        self
    }

    /// The most requests in flight to one instance, 1 to 1 000 000, or `None`. Default: none.
    ///
    /// If all usable members are at this limit, calls fail at once with [`Saturated`](crate::ErrorKind::Saturated).
    pub fn max_in_flight(mut self, max_in_flight: impl Into<Option<u32>>) -> Self {
        self.max_in_flight = max_in_flight.into();
        self
    }

    /// The most calls of one balancer that may wait, 1 to 1 000 000, or `None`. Default: none.
    ///
    /// A call waits while no instance is usable, while the services of the picked instances are not ready, and after an
    /// instance returned it unsent. A further call fails at once with [`Saturated`](crate::ErrorKind::Saturated). Each
    /// waiting call keeps its request in memory.
    pub fn max_waiting(mut self, max_waiting: impl Into<Option<u32>>) -> Self {
        self.max_waiting = max_waiting.into();
        self
    }

    /// When members are ejected and how they return, or `None` for never. Default: on, see [`OutlierConfig`].
    ///
    /// In a file it is a table, or `false`. If it is switched off while the balancer runs, all members that a rule ejected
    /// return at once.
    pub fn outlier(mut self, outlier: impl Into<Option<OutlierConfig>>) -> Self {
        self.outlier = outlier.into();
        self
    }

    /// How long a returned member takes to ramp from a tenth of its sampling weight to all of it, 0 (at once) to 1 h.
    /// Default: 5 s.
    pub fn slow_start(mut self, time: Duration) -> Self {
        self.slow_start = time;
        self
    }

    /// How long a new member takes to ramp from a tenth of its sampling weight to all of it, 1 ms to 1 h, or `None` (at once).
    /// Default: none.
    ///
    /// For instances that start cold. The time counts from the member's first connection. While more than half of the eligible
    /// weight is new, nothing is ramped: at the start of the balancer, and when a whole fleet is replaced at once.
    pub fn slow_start_new(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.slow_start_new = time.into();
        self
    }

    /// The zone of this caller, or `None` for no preference. Default: none.
    ///
    /// Requests stay in this zone while that costs little: see [`zone_price`](Self::zone_price). Case does not matter.
    /// Instances that announce no zone count as being in this one.
    pub fn zone(mut self, zone: impl Into<Option<Zone>>) -> Self {
        self.zone = zone.into();
        self
    }

    /// How many times as much a request may cost in the caller's own zone as in another one before it leaves, 1 to 1000.
    /// Default: 2. Without a [`zone`](Self::zone) it has no effect.
    ///
    /// Cost is latency times requests in flight. At 1, requests go wherever they cost less. There is no price at which they
    /// stay in a zone that has no pickable member.
    pub fn zone_price(mut self, price: f64) -> Self {
        self.zone_price = price;
        self
    }

    /// How long a dial may take before it fails, 1 ms to 1 h. Default: 2 s.
    ///
    /// This is the only timeout of a dial.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The most dials in progress at once, 1 to 65 536; further ones are queued. Default: 64.
    ///
    /// Instances that were never dialled come first, then those whose last dial failed or whose connection was lost. The
    /// order within each group is random. While no member is usable, a dial that takes longer than 250 ms no longer counts,
    /// until eight times as many are in progress (512 by default). So hundreds of dead addresses hide a few live ones for
    /// only a second or two.
    pub fn connect_concurrency(mut self, dials: usize) -> Self {
        self.connect_concurrency = dials;
        self
    }

    /// The wait between dials of one instance. Default: 100 ms doubling to 5 s.
    ///
    /// While no member is usable, no wait is longer than 500 ms.
    pub fn connect_backoff(mut self, backoff: Backoff) -> Self {
        self.connect_backoff = backoff;
        self
    }

    /// How long calls wait while no member is usable, 0 to 1 h, before all of them fail at once. Default: 3 s.
    pub fn unavailable_after(mut self, wait: Duration) -> Self {
        self.unavailable_after = wait;
        self
    }

    /// How long instances missing from a doubtful set are kept, 0 (not at all) to 24 h. Default: 30 s.
    ///
    /// A set that is not [`confirmed`](crate::InstanceSet::confirmed) is doubtful if it is empty, or if it is less than half
    /// the size of the known set and lacks at least three instances. Its new instances are used at once.
    pub fn shrink_grace(mut self, grace: Duration) -> Self {
        self.shrink_grace = grace;
        self
    }

    /// Which instances of the target are dialled. Default: [`Subset::All`].
    ///
    /// A change while the balancer runs takes effect with the next answer of discovery.
    pub fn subset(mut self, subset: Subset) -> Self {
        self.subset = subset;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first field that is out of range, its value and the range.
    pub fn build(self) -> Result<BalanceConfig, ConfigError> {
        const MS: Duration = Duration::from_millis(1);
        const HOUR: Duration = Duration::from_secs(3600);
        within("max_choices", self.max_choices, 2, 64)?;
        if let Some(cap) = self.max_in_flight {
            within("max_in_flight", cap, 1, 1_000_000)?;
        }
        if let Some(limit) = self.max_waiting {
            within("max_waiting", limit, 1, 1_000_000)?;
        }
        within("slow_start", self.slow_start, Duration::ZERO, HOUR)?;
        if let Some(time) = self.slow_start_new {
            within("slow_start_new", time, MS, HOUR)?;
        }
        within("zone_price", self.zone_price, 1.0, 1000.0)?;
        within("connect_timeout", self.connect_timeout, MS, HOUR)?;
        within("connect_concurrency", self.connect_concurrency, 1, 65_536)?;
        let Backoff { base, max } = self.connect_backoff;
        within("connect_backoff.base", base, MS, HOUR)?;
        at_least("connect_backoff.max", max, ("base", base), HOUR)?;
        within(
            "unavailable_after",
            self.unavailable_after,
            Duration::ZERO,
            HOUR,
        )?;
        within("shrink_grace", self.shrink_grace, Duration::ZERO, 24 * HOUR)?;
        if let Subset::Fixed { size, key } = &self.subset {
            within("subset.size", *size, 1, 65_536)?;
            within("the length of subset.key", key.len(), 1, 1024)?;
        }
        Ok(BalanceConfig(self))
    }
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self {
            load: Load::latency(),
            max_choices: 8,
            max_in_flight: None,
            max_waiting: None,
            outlier: Some(OutlierConfig::default()),
            slow_start: Duration::from_secs(5),
            slow_start_new: None,
            zone: None,
            zone_price: PRICE,
            connect_timeout: Duration::from_secs(2),
            connect_concurrency: 64,
            connect_backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            unavailable_after: Duration::from_secs(3),
            shrink_grace: Duration::from_secs(30),
            subset: Subset::All,
        }
    }
}

/// Deserializes a table, or `false` for off.
#[cfg(feature = "serde")]
mod switch {
    use std::fmt;
    use std::marker::PhantomData;

    use serde::de::value::MapAccessDeserializer;
    use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

    pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: Deserialize<'de> + Default,
    {
        deserializer.deserialize_any(Switch(PhantomData))
    }

    struct Switch<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for Switch<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table, or false")
        }

        fn visit_bool<E: Error>(self, on: bool) -> Result<Option<T>, E> {
            Ok(on.then(T::default))
        }

        fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(table)).map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_name_the_fields_that_differ_with_both_values() {
        let before = BalanceConfig::default();
        let outlier = OutlierConfig::builder().shadow(true).build().unwrap();
        let builder = before.to_builder().outlier(outlier);
        let after = builder
            .shrink_grace(Duration::from_secs(5))
            .build()
            .unwrap();
        let changes = before.changes_to(&after);
        assert_eq!(
            changes,
            "shrink_grace from 30s to 5s, shadow from false to true"
        );
        assert_eq!(before.changes_to(&before), "");
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(
            BalanceConfig::builder().build(),
            Ok(BalanceConfig::default())
        );
    }

    #[test]
    fn error_names_field_out_of_range_with_value_and_range() {
        let zero = Duration::ZERO;
        let cases = [
            (BalanceConfig::builder().max_choices(65), "max_choices"),
            (BalanceConfig::builder().max_in_flight(0), "max_in_flight"),
            (BalanceConfig::builder().max_waiting(0), "max_waiting"),
            (
                BalanceConfig::builder().max_waiting(1_000_001),
                "max_waiting",
            ),
            (
                BalanceConfig::builder().connect_timeout(zero),
                "connect_timeout",
            ),
            (
                BalanceConfig::builder().slow_start(Duration::MAX),
                "slow_start",
            ),
            (
                BalanceConfig::builder().slow_start_new(zero),
                "slow_start_new",
            ),
            (BalanceConfig::builder().zone_price(0.9), "zone_price"),
            (BalanceConfig::builder().zone_price(f64::NAN), "zone_price"),
            (
                BalanceConfig::builder().connect_concurrency(0),
                "connect_concurrency",
            ),
            (
                BalanceConfig::builder().shrink_grace(Duration::MAX),
                "shrink_grace",
            ),
            (
                BalanceConfig::builder()
                    .connect_backoff(Backoff::new(Duration::from_secs(2), Duration::from_secs(1))),
                "connect_backoff.max",
            ),
        ];
        let outlier = |max| OutlierConfig::builder().max_ejection_time(max);
        let error = outlier(Duration::from_secs(9)).build().unwrap_err();
        assert_eq!(
            error.to_string(),
            "outlier.max_ejection_time is 9s, but must be within 10s (base_ejection_time)..=86400s"
        );
        for (builder, field) in cases {
            let error = builder.build().unwrap_err();
            assert_eq!(error.field(), field);
            assert!(error.to_string().contains("must be within"), "{error}");
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn file_with_text_durations_is_parsed_and_validated() {
        let read = |text| toml::from_str::<BalanceConfig>(text);
        let zoned = read("zone = 'eu-1a'\nzone_price = 3.5\nslow_start_new = '1m'").unwrap();
        assert_eq!(zoned.zone().unwrap().as_str(), "eu-1a");
        assert_eq!(zoned.zone_price(), 3.5);
        assert_eq!(zoned.slow_start_new(), Some(Duration::from_secs(60)));
        assert!(read("zone = ''").is_err());
        let config = read("load = 'least-in-flight'\nunavailable_after = '1s 500ms'").unwrap();
        assert_eq!(config.load(), Load::least_in_flight());
        assert_eq!(config.unavailable_after(), Duration::from_millis(1500));
        assert!(
            read("max_choices = 1")
                .unwrap_err()
                .to_string()
                .contains("max_choices is 1")
        );
        assert_eq!(config.outlier(), Some(&OutlierConfig::default()));
        assert_eq!(read("outlier = false").unwrap().outlier(), None);
        let shadow = read("[outlier]\nshadow = true").unwrap();
        assert!(shadow.outlier().is_some_and(OutlierConfig::is_shadow));
        for (text, error) in [
            (
                "[outlier]\nfailures_in_row = 0",
                "outlier.failures_in_row is 0",
            ),
            ("[outlier]\nfailure = 5", "failure"),
            ("outlier = 5", "a table, or false"),
        ] {
            assert!(
                read(text).unwrap_err().to_string().contains(error),
                "{text}"
            );
        }
        assert!(
            read("max_choice = 2")
                .unwrap_err()
                .to_string()
                .contains("max_choice")
        );
    }
}
