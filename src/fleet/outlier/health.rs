//! Where a member stands, why it was ejected, for how long, and how often.
//!
//! ```text
//!            a rule fired, or ejected by hand               its time is over
//!   in play ──────────────────────────────────▶ ejected ──────────────────▶ on probation
//!      ▲                                            ▲                             │
//!      │ slow start is over                         └──────── trial failed ───────┤
//!  returning ◀─────────────────────── trial succeeded, or restored by hand ───────┘
//! ```
//!
//! Ejected members and those on probation are *out*: not drawn but in panic mode, and judged by nothing but a trial.
//!
//! Each ejection, and each trial that fails, doubles the time of the next, up to `max_ejection_time`; the multiplier does not
//! grow beyond that. A member is on probation before its time if it has another address, or if the cap keeps another outlier.

use std::time::Duration;

use super::super::rng::{Rng, unit};
use super::super::slot::nanos;
use super::OutlierConfig;
use crate::event::EjectionReason;
use crate::model::instance::Instance;
use crate::status::EjectionStatus;

#[derive(Debug)]
pub(in super::super) struct Health {
    standing: Standing,
    reason: EjectionReason,
    /// Ejections and failed trials in a row, less what it has worked off: doubles the time of the next one.
    multiplier: u32,
    ejections: u64,
    /// The instance as it was when it was ejected.
    instance: Option<Instance>,
    since: u64,
    /// When a rule ejected it, or a trial failed since.
    tried_at: u64,
    /// Successes ever, when it returned.
    successes: u64,
    /// Trials as a suspect since its last success.
    suspected: u32,
    /// Nanoseconds that its trials waited in silence until their callers went away, since the last verdict of one.
    silence: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Standing {
    InPlay,
    Ejected { until: u64 },
    Probation { since: u64 },
    Returning { since: u64 },
}

impl Health {
    pub(in super::super) fn new() -> Self {
        Self {
            standing: Standing::InPlay,
            reason: EjectionReason::Manual,
            multiplier: 0,
            ejections: 0,
            instance: None,
            since: 0,
            tried_at: 0,
            successes: 0,
            suspected: 0,
            silence: 0,
        }
    }

    pub(in super::super) fn standing(&self) -> Standing {
        self.standing
    }

    pub(in super::super) fn is_out(&self) -> bool {
        matches!(
            self.standing,
            Standing::Ejected { .. } | Standing::Probation { .. }
        )
    }

    /// Whether it is ejected for what it did at another address.
    pub(in super::super) fn is_ejected_from_elsewhere(&self, instance: &Instance) -> bool {
        let moved = |then: &Instance| then.addr() != instance.addr();
        matches!(self.standing, Standing::Ejected { .. })
            && self.instance.as_ref().is_some_and(moved)
    }

    pub(in super::super) fn is_ejected_by_hand(&self) -> bool {
        self.is_out() && self.reason == EjectionReason::Manual
    }

    /// While it is ejected, and not by hand: when it was, or when a trial failed since.
    pub(in super::super) fn ejected_by_rule_at(&self) -> Option<u64> {
        let is_ejected = matches!(self.standing, Standing::Ejected { .. });
        (is_ejected && self.reason != EjectionReason::Manual).then_some(self.tried_at)
    }

    /// A rule fired. `successes`: how many it had ever. Returns for how long it is out.
    pub(in super::super) fn eject(
        &mut self,
        reason: EjectionReason,
        instance: &Instance,
        successes: u64,
        config: &OutlierConfig,
        rng: &mut (impl Rng + ?Sized),
        now: u64,
    ) -> u64 {
        self.decay_multiplier(successes, config, now);
        self.reason = reason;
        self.ejections += 1;
        self.since = now;
        self.extend(instance, config, rng, now)
    }

    /// A person ejected it, who may have been out already.
    pub(in super::super) fn eject_by_hand(
        &mut self,
        instance: &Instance,
        successes: u64,
        time: u64,
        config: &OutlierConfig,
        now: u64,
    ) {
        if !self.is_out() {
            self.decay_multiplier(successes, config, now);
            self.ejections += 1;
            self.since = now;
        }
        self.instance = Some(instance.clone());
        self.reason = EjectionReason::Manual;
        self.standing = Standing::Ejected {
            until: now.saturating_add(time),
        };
    }

    /// Its trial failed. Returns for how much longer it is out.
    pub(in super::super) fn extend(
        &mut self,
        instance: &Instance,
        config: &OutlierConfig,
        rng: &mut (impl Rng + ?Sized),
        now: u64,
    ) -> u64 {
        self.instance = Some(instance.clone());
        self.tried_at = now;
        let (base, max) = (config.base_ejection_time(), config.max_ejection_time());
        let doubled = |times: u32| nanos(base).saturating_mul(1 << times.min(63));
        let longest = doubled(self.multiplier).min(nanos(max));
        // As soon as it lasts as long as it may, there is nothing to double.
        if self.multiplier == 0 || doubled(self.multiplier - 1) < nanos(max) {
            self.multiplier += 1;
        }
        let time = (longest as f64 * (0.5 + unit(rng) / 2.0)) as u64;
        let until = now.saturating_add(time);
        self.standing = Standing::Ejected { until };
        time
    }

    /// Its time is over, or it has another address: a trial decides.
    pub(in super::super) fn begin_probation(&mut self, now: u64) {
        self.silence = 0;
        self.standing = Standing::Probation { since: now };
    }

    /// Its slow start is over.
    pub(in super::super) fn end_slow_start(&mut self) {
        if matches!(self.standing, Standing::Returning { .. }) {
            self.standing = Standing::InPlay;
        }
    }

    /// No rule ejects any more: what led to its ejections is forgotten.
    pub(in super::super) fn forget_multiplier(&mut self) {
        self.multiplier = 0;
    }

    /// It is back in play, in slow start. Returns how long it was out.
    pub(in super::super) fn return_to_play(&mut self, successes: u64, now: u64) -> u64 {
        let out = now.saturating_sub(self.since);
        self.standing = Standing::Returning { since: now };
        // An ejection by hand alone leaves it at nothing.
        self.multiplier = self
            .multiplier
            .saturating_sub(1)
            .max(self.multiplier.min(1));
        self.since = now;
        self.successes = successes;
        self.suspected = 0;
        self.silence = 0;
        out
    }

    fn decay_multiplier(&mut self, successes: u64, config: &OutlierConfig, now: u64) {
        self.multiplier = self.decayed_multiplier(successes, config, now);
    }

    /// The multiplier less evidence of health since its return, in steps: both time and answers.
    fn decayed_multiplier(&self, successes: u64, config: &OutlierConfig, now: u64) -> u32 {
        let base = nanos(config.base_ejection_time()).max(1);
        let by_time = now.saturating_sub(self.since) / base;
        let answers = successes.saturating_sub(self.successes);
        let by_answers = answers / u64::from(config.request_volume());
        let steps = u32::try_from(by_time.min(by_answers)).unwrap_or(u32::MAX);
        self.multiplier.saturating_sub(steps)
    }

    /// The caller of a trial went away without an answer, too early to tell. Returns for how long its trials were silent by
    /// now, all together.
    ///
    /// Callers that are less patient than a trial would else go to a hung member one after another, for as long as it
    /// hangs.
    pub(in super::super) fn adds_silence(&mut self, waited: u64) -> u64 {
        self.silence = self.silence.saturating_add(waited);
        self.silence
    }

    pub(in super::super) fn suspected(&self) -> u32 {
        self.suspected
    }

    /// It was tried as a suspect, and not cleared.
    pub(in super::super) fn stays_suspect(&mut self) {
        self.suspected = self.suspected.saturating_add(1);
        self.silence = 0;
    }

    pub(in super::super) fn clear_suspicion(&mut self) {
        self.suspected = 0;
        self.silence = 0;
    }

    /// Its last ejection, for people. `successes`: how many it had ever.
    pub(in super::super) fn status(
        &self,
        successes: u64,
        config: &OutlierConfig,
        now: u64,
    ) -> Option<EjectionStatus> {
        let past = Duration::from_nanos(now.saturating_sub(self.since));
        let (is_over, remaining) = match self.standing {
            Standing::InPlay | Standing::Returning { .. } => (true, None),
            Standing::Ejected { until } => {
                (false, Some(Duration::from_nanos(until.saturating_sub(now))))
            }
            Standing::Probation { .. } => (false, None),
        };
        (self.ejections > 0).then_some(EjectionStatus {
            reason: self.reason,
            ejections: self.ejections,
            multiplier: if is_over {
                self.decayed_multiplier(successes, config, now)
            } else {
                self.multiplier
            },
            since: past,
            is_over,
            remaining,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};

    const S: u64 = 1_000_000_000;
    const REASON: EjectionReason = EjectionReason::FailuresInRow {
        failures: 5,
        threshold: 5,
        label: None,
    };

    fn instance() -> Instance {
        Instance::new("a", ([127, 0, 0, 1], 80).into())
    }

    fn rng() -> SmallRng {
        SmallRng::seed_from_u64(3)
    }

    #[test]
    fn the_time_doubles_to_its_ceiling_and_is_shortened_by_up_to_half() {
        let config = OutlierConfig::default();
        let mut rng = rng();
        let mut health = Health::new();
        let mut longest = [10, 20, 40, 60, 60, 60].into_iter();
        let mut time = health.eject(REASON, &instance(), 0, &config, &mut rng, 0);
        for longest in longest.by_ref() {
            assert!(time >= longest * S / 2 && time <= longest * S, "{time}");
            time = health.extend(&instance(), &config, &mut rng, 0);
        }
    }

    #[test]
    fn the_jitter_fills_its_range() {
        let config = OutlierConfig::default();
        let mut rng = rng();
        let times: Vec<u64> = (0..1000)
            .map(|_| Health::new().eject(REASON, &instance(), 0, &config, &mut rng, 0))
            .collect();
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(*least >= 5 * S && *least < 5 * S + S / 20);
        assert!(*most <= 10 * S && *most > 10 * S - S / 20);
    }

    #[test]
    fn the_multiplier_falls_with_time_and_answers_and_not_with_one_of_them() {
        let config = OutlierConfig::default();
        let again = |successes, seconds| {
            let mut health = Health::new();
            let mut rng = rng();
            health.eject(REASON, &instance(), 0, &config, &mut rng, 0);
            for _ in 0..3 {
                health.extend(&instance(), &config, &mut rng, 0);
            }
            health.return_to_play(0, 0);
            health.eject(
                REASON,
                &instance(),
                successes,
                &config,
                &mut rng,
                seconds * S,
            );
            health.multiplier
        };
        assert_eq!(again(0, 0), 4, "three, after its return, and this one");
        assert_eq!(again(0, 3600), 4, "an idle hour is no evidence");
        assert_eq!(again(1_000_000, 5), 4, "nor are many answers at once");
        assert_eq!(again(20, 3600), 2);
        assert_eq!(again(1_000_000, 3600), 1, "as if it were the first");
    }
}
