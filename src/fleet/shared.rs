//! The parts of a fleet that picks and verdicts use, apart from its members.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::config::outlier::OutlierConfig;
use super::measures::pool::Pool;
use super::measures::stall::StallDetector;
use super::members::member::{CountedRef, Member, MemberRef, Record};
use super::rules::outlier::Evidence;
use super::rules::overload::AnyOverload;
use super::rules::trial::{Bucket, Token, TrialEnd};
use super::time::nanos;

pub(crate) struct Shared {
    epoch: Instant,
    pub(crate) pool: Pool,
    pub(crate) stalls: StallDetector,
    pub(crate) tokens: Bucket,
    pub(crate) overload: AnyOverload,
    /// The rules for outliers, unless ejection is switched off.
    pub(crate) outlier: ArcSwapOption<OutlierConfig>,
    measures_latency: AtomicBool,
    is_timed: AtomicBool,
    /// Whether a member failed since the last search for suspects.
    suspicion: AtomicBool,
    reports: Weak<dyn Reports>,
}

/// Receives reports about members. Implemented by the fleet, which changes their standing.
pub(crate) trait Reports: Send + Sync {
    /// Returns whether the next deadline moved earlier.
    fn report(&self, member: &Record, report: Report, now: u64) -> bool;
}

/// What the end of a pick reports, apart from measurements.
pub(crate) enum Report {
    /// Its connection is lost.
    Lost,
    /// The member fails so often that it may be an outlier.
    LooksBad { evidence: Evidence, picked_at: u64 },
    /// A trial ended.
    Tried { trial: Token, end: TrialEnd },
}

/// The payload of a member: the state shared with its fleet, and the service that a pick hands out.
pub(crate) struct Bound<S> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) service: S,
}

/// A member of a fleet, whatever its service is.
pub(crate) trait InFleet {
    /// What is known of the member, and of its fleet. One method, so that the end of a pick calls it once through a vtable.
    fn parts(&self) -> (&Record, &Shared);

    fn record(&self) -> &Record {
        self.parts().0
    }

    fn shared(&self) -> &Shared {
        self.parts().1
    }
}

impl Shared {
    pub(crate) fn new(
        epoch: Instant,
        outlier: Option<OutlierConfig>,
        measures_latency: bool,
        reports: Weak<dyn Reports>,
    ) -> Self {
        Self {
            epoch,
            pool: Pool::new(),
            stalls: StallDetector::new(),
            tokens: Bucket::new(),
            overload: AnyOverload::default(),
            outlier: ArcSwapOption::from_pointee(outlier),
            measures_latency: AtomicBool::new(measures_latency),
            is_timed: AtomicBool::new(true),
            suspicion: AtomicBool::new(false),
            reports,
        }
    }

    /// When the fleet was created.
    pub(crate) fn epoch(&self) -> Instant {
        self.epoch
    }

    /// Nanoseconds since the fleet was created. Earlier instants count as zero.
    pub(crate) fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }

    pub(crate) fn instant(&self, moment: u64) -> Instant {
        self.epoch
            .checked_add(Duration::from_nanos(moment))
            .unwrap_or(self.epoch)
    }

    pub(crate) fn measures_latency(&self) -> bool {
        self.measures_latency.load(Relaxed)
    }

    pub(crate) fn set_measures_latency(&self, measures: bool) {
        self.measures_latency.store(measures, Relaxed);
    }

    /// Whether picks and verdicts have timestamps.
    pub(crate) fn is_timed(&self) -> bool {
        self.is_timed.load(Relaxed)
    }

    pub(crate) fn set_timed(&self, is_timed: bool) {
        self.is_timed.store(is_timed, Relaxed);
    }

    pub(crate) fn reads_clock(&self) -> bool {
        self.is_timed() || self.overload.is_on()
    }

    /// Notes that a member failed, so that the next tick searches for suspects.
    pub(crate) fn suspect(&self) {
        if !self.suspicion.load(Relaxed) {
            self.suspicion.store(true, Relaxed);
        }
    }

    pub(crate) fn take_suspicion(&self) -> bool {
        self.suspicion.swap(false, Relaxed)
    }

    pub(crate) fn report(&self, member: &Record, report: Report, now: u64) -> bool {
        self.reports
            .upgrade()
            .is_some_and(|fleet| fleet.report(member, report, now))
    }
}

impl<S> Member<Bound<S>> {
    pub(crate) fn service(&self) -> &S {
        &self.payload().service
    }
}

impl<S> InFleet for Member<Bound<S>> {
    fn parts(&self) -> (&Record, &Shared) {
        (self, &self.payload().shared)
    }
}

impl<S> InFleet for CountedRef<Bound<S>> {
    fn parts(&self) -> (&Record, &Shared) {
        (**self).parts()
    }
}

impl<S> InFleet for MemberRef<Bound<S>> {
    fn parts(&self) -> (&Record, &Shared) {
        (**self).parts()
    }
}

impl<T: InFleet + ?Sized> InFleet for Arc<T> {
    fn parts(&self) -> (&Record, &Shared) {
        (**self).parts()
    }
}
