//! Gauges by the zones of instances.
//!
//! Zones are few and stay, unlike instances. Their number is limited all the same, because a series cannot be removed.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{Gauge, Label, gauge};

use crate::model::instance::Zone;
use crate::status::{MemberState, Status};

pub(super) const USABLE: &str = "rolecall_zone_usable";
pub(super) const REQUESTS: &str = "rolecall_zone_requests";

/// How many zones have series of their own. Three to ten are usual.
const MAX_ZONES: usize = 16;
/// The time that a member's recent requests span.
const WINDOW: Duration = Duration::from_secs(10);

pub(super) struct Zones {
    labels: Vec<Label>,
    known: BTreeMap<Zone, Series>,
    /// All zones beyond the limit.
    other: Option<Series>,
}

struct Series {
    usable: Gauge,
    requests: Gauge,
    sums: Sums,
}

#[derive(Default)]
struct Sums {
    usable: u32,
    requests: u32,
}

impl Zones {
    pub(super) fn new(labels: Vec<Label>) -> Self {
        Self {
            labels,
            known: BTreeMap::new(),
            other: None,
        }
    }

    pub(super) fn set(&mut self, status: &Status) {
        for member in &status.members {
            let Some(zone) = member.instance.zone() else {
                continue;
            };
            let sums = &mut self.series(zone).sums;
            sums.usable += u32::from(member.state == MemberState::Usable);
            sums.requests = sums.requests.saturating_add(member.recent_requests);
        }
        for series in self.all_series() {
            let Sums { usable, requests } = std::mem::take(&mut series.sums);
            series.usable.set(usable);
            series
                .requests
                .set(f64::from(requests) / WINDOW.as_secs_f64());
        }
    }

    /// The balancer has ended.
    pub(super) fn end(&mut self) {
        for series in self.all_series() {
            series.usable.set(f64::NAN);
            series.requests.set(0.0);
        }
    }

    fn series(&mut self, zone: &Zone) -> &mut Series {
        let Self {
            labels,
            known,
            other,
        } = self;
        if known.len() < MAX_ZONES && !known.contains_key(zone) {
            known.insert(zone.clone(), Series::new(labels, zone.as_str()));
        }
        match known.get_mut(zone) {
            Some(series) => series,
            None => other.get_or_insert_with(|| Series::new(labels, "other")),
        }
    }

    fn all_series(&mut self) -> impl Iterator<Item = &mut Series> {
        self.known.values_mut().chain(&mut self.other)
    }
}

impl Series {
    fn new(labels: &[Label], zone: &str) -> Self {
        let mut labels = labels.to_vec();
        labels.push(Label::new("zone", zone.to_owned()));
        Self {
            usable: gauge!(USABLE, labels.clone()),
            requests: gauge!(REQUESTS, labels),
            sums: Sums::default(),
        }
    }
}
