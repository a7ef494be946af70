//! Golden sentences of members.

use std::collections::BTreeSet;

use super::*;
use crate::event::reason::EjectionReason;
use crate::model::instance::Zone;
use crate::status::EjectionCounters;
use crate::status::EjectionStatus;

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn member(state: MemberState) -> MemberStatus {
    MemberStatus {
        instance: Instance::new("pay-1", ([10, 0, 0, 7], 80)),
        state,
        since: 34 * SECOND,
        in_flight: 0,
        picks: 0,
        failures: 0,
        failures_in_row: 0,
        last_failure: None,
        recent_requests: 0,
        recent_failures: 0,
        latency: None,
        error: None,
        redial_in: None,
        is_suspect: false,
        check: None,
        slow_start: None,
        is_new: false,
        overloaded_for: None,
        is_missing: false,
        ejection: None,
    }
}

pub(crate) fn status<const N: usize>(states: [MemberState; N]) -> Status {
    let is_usable = |state: &&MemberState| **state == MemberState::Usable;
    Status {
        target: Some("worker:http".parse().unwrap()),
        set_age: Some(40 * SECOND),
        discovery_error: None,
        is_provisional: false,
        doubted_for: None,
        subset: None,
        usable: states.iter().filter(is_usable).count(),
        panic_mode: false,
        ejection_mode: EjectionMode::On,
        ejections: EjectionCounters::default(),
        stalls: 0,
        ejection_cap: 5,
        next_trial_in: 0,
        max_in_flight: None,
        attempt_timeout: None,
        mean_latency: None,
        zone: None,
        zone_price: 2.0,
        ranks: vec![rank(0, 10, 10, 1.0)],
        members: states.map(member).into(),
    }
}

fn rank(rank: u8, announced_weight: u64, pickable_weight: u64, share: f64) -> RankStatus {
    RankStatus {
        rank,
        announced_weight,
        pickable_weight,
        share,
    }
}

pub(crate) fn ejection() -> EjectionStatus {
    EjectionStatus {
        reason: EjectionReason::FailuresInRow {
            failures: 3,
            threshold: 2,
            label: Some("503"),
        },
        ejections: 1,
        multiplier: 1,
        since: Duration::from_millis(1900),
        is_over: false,
        probation: None,
        remaining: Some(Duration::from_millis(3200)),
    }
}

/// Ten usable members with 100 requests each in the last 10 s, the first of which `change` changes.
fn first(change: impl FnOnce(&mut MemberStatus, &mut Status)) -> MemberExplanation {
    let mut status = status([MemberState::Usable; 10]);
    for member in &mut status.members {
        member.recent_requests = 100;
        member.in_flight = 1;
        member.latency = Some(Duration::from_millis(6));
    }
    status.mean_latency = Some(Duration::from_millis(6));
    let mut first = status.members.remove(0);
    change(&mut first, &mut status);
    status.members.insert(0, first);
    MemberExplanation::of(&status).remove(0)
}

fn low(member: &mut MemberStatus) {
    member.recent_requests = 40;
}

/// A member for each reason, whatever else it may have, and the golden sentence. The matches make a new reason, a new
/// state and a new cause of sparing fail to compile here.
fn goldens() -> Vec<(MemberExplanation, &'static str)> {
    vec![
        (first(|_, _| {}), "takes 10 % of requests, fair is 10 %"),
        (
            first(|m, _| {
                (m.state, m.since) = (MemberState::Disconnected, 12 * SECOND);
                m.error = Some("refused (111): Connection refused".into());
                m.redial_in = Some(SECOND / 2);
            }),
            "gets no requests: not connected for 12 s, the last dial failed: refused (111): Connection refused; dialled \
             again in 500 ms",
        ),
        (
            first(|m, _| (m.state, m.since) = (MemberState::Connecting, SECOND / 2)),
            "gets no requests: being dialled, without connection for 500 ms",
        ),
        (
            first(|m, _| (m.state, m.in_flight) = (MemberState::Draining, 3)),
            "gets no requests: it drains, 3 in flight to finish",
        ),
        (
            first(|m, _| m.state = MemberState::Weightless),
            "gets no requests: its weight is 0",
        ),
        (
            first(|m, _| m.state = MemberState::Busy),
            "gets no requests: it says that it is busy, and others are available",
        ),
        (
            first(|m, status| {
                m.instance = m.instance.clone().with_rank(1);
                status.ranks = vec![rank(0, 10, 9, 1.0), rank(1, 1, 1, 0.0)];
            }),
            "gets no requests: it is a backup, and 90 % of the weight of rank 0 is usable",
        ),
        (
            first(|m, status| {
                let zone = |zone| Zone::new(zone).unwrap();
                (status.zone, status.zone_price) = (Some(zone("EU-1a")), 2.5);
                for near in &mut status.members {
                    near.instance = near.instance.clone().with_zone(zone("eu-1a"));
                }
                (m.instance, m.recent_requests) = (m.instance.clone().with_zone(zone("eu-1b")), 3);
            }),
            "takes 0.3 % of requests, fair is 0 %: in another zone: eu-1b gets requests while EU-1a costs more than 2.5 times \
             as much",
        ),
        (
            first(|m, _| {
                (m.is_new, m.slow_start, m.since) = (true, Some(0.4), 3 * SECOND);
                m.recent_requests = 40;
            }),
            "takes 4.3 % of requests, fair is 10 %: new for 3 s, slow start gives it 40 % of its share",
        ),
        (
            first(|m, status| {
                (m.instance, m.recent_requests) = (m.instance.clone().with_rank(1), 0);
                status.ranks = vec![rank(0, 10, 6, 6.0 / 7.0), rank(1, 1, 1, 1.0 / 7.0)];
                m.since = SECOND;
            }),
            "takes 0 % of requests, fair is 14 %: connected for 1 s, while the figures span 10 s",
        ),
        (
            first(|m, _| (m.state, m.ejection) = (MemberState::Ejected, Some(ejection()))),
            "gets no requests: ejected 1.9 s ago, 3.2 s to go: 3 failures in a row, the last: 503 (threshold 2)",
        ),
        (
            first(|m, s| {
                (m.state, m.ejection) = (MemberState::Ejected, Some(ejection()));
                s.panic_mode = true;
            }),
            "takes 10 % of requests, fair is 10 %: picked anyway, since all are out; ejected 1.9 s ago, 3.2 s to go: \
             3 failures in a row, the last: 503 (threshold 2)",
        ),
        (
            first(|m, s| {
                let mut ejection = ejection();
                (ejection.remaining, ejection.probation) = (None, Some(3 * SECOND));
                (m.state, m.ejection) = (MemberState::Probation, Some(ejection));
                s.next_trial_in = 12;
            }),
            "gets no requests: ejected 1.9 s ago, on probation for 3 s: 3 failures in a row, the last: 503 (threshold 2); \
             its trial comes within 12 requests",
        ),
        (
            first(|m, _| {
                low(m);
                m.slow_start = Some(0.32);
                let mut ejection = ejection();
                (ejection.is_over, ejection.since) = (true, Duration::from_millis(1200));
                m.ejection = Some(ejection);
            }),
            "takes 4.3 % of requests, fair is 10 %: back for 1.2 s, slow start gives it 32 % of its share",
        ),
        (
            first(|m, _| {
                low(m);
                m.overloaded_for = Some(SECOND * 4 / 5);
            }),
            "takes 4.3 % of requests, fair is 10 %: it said that it is overloaded, which counts for 800 ms more",
        ),
        (
            first(|m, s| {
                low(m);
                (m.in_flight, s.max_in_flight) = (8, Some(8));
            }),
            "takes 4.3 % of requests, fair is 10 %: it is at its limit of 8 in flight",
        ),
        (
            first(|m, _| {
                low(m);
                m.since = 3 * SECOND;
            }),
            "takes 4.3 % of requests, fair is 10 %: connected for 3 s, while the figures span 10 s",
        ),
        (
            first(|m, _| {
                low(m);
                (m.latency, m.in_flight) = (Some(Duration::from_millis(18)), 3);
            }),
            "takes 4.3 % of requests, fair is 10 %: 18 ms × 4 (3 in flight and the next request) against the fleet's \
             6 ms × 2.2",
        ),
        (
            first(|m, s| {
                low(m);
                (m.latency, m.in_flight, s.mean_latency) = (None, 3, None);
            }),
            "takes 4.3 % of requests, fair is 10 %: 3 in flight against the fleet's 1.2",
        ),
        (
            first(|m, _| {
                low(m);
                (m.latency, m.in_flight) = (Some(Duration::from_millis(18)), 0);
                (m.recent_failures, m.last_failure) = (4, Some("503"));
            }),
            "takes 4.3 % of requests, fair is 10 %: 18 ms × 1 (0 in flight and the next request) against the fleet's \
             6 ms × 1.9; 4 of 40 failed, the last: 503, each of which counts as 20 times the mean latency",
        ),
        (
            first(|m, _| low(m)),
            "takes 4.3 % of requests, fair is 10 %: its load is now that of the others, and was higher within 10 s",
        ),
        (
            first(|m, _| {
                (m.is_suspect, m.failures_in_row, m.last_failure) = (true, 1, Some("503"));
            }),
            "takes 10 % of requests, fair is 10 %: suspect after 1 failure in a row, the last: 503; a trial decides",
        ),
        (
            first(|m, _| m.is_suspect = true),
            "takes 10 % of requests, fair is 10 %: suspect, since it answered late; a trial decides",
        ),
        (
            first(|m, s| (m.recent_failures, s.ejection_mode) = (40, EjectionMode::Off)),
            "takes 10 % of requests, fair is 10 %: not ejected though 40 of 100 failed: ejection is off",
        ),
        (
            first(|m, s| (m.recent_failures, s.ejection_mode) = (40, EjectionMode::Shadow)),
            "takes 10 % of requests, fair is 10 %: not ejected though 40 of 100 failed: ejection is in shadow",
        ),
        (
            first(|m, s| (m.recent_failures, s.ejection_cap) = (40, 0)),
            "takes 10 % of requests, fair is 10 %: not ejected though 40 of 100 failed: the only connected instance is \
             never ejected",
        ),
        (
            first(|m, s| {
                m.recent_failures = 40;
                for other in &mut s.members {
                    other.recent_failures = 31;
                }
            }),
            "takes 10 % of requests, fair is 10 %: not ejected though 40 of 100 failed: 31 % of the others' \
             requests fail too",
        ),
        (
            first(|m, s| {
                m.recent_failures = 40;
                s.ejection_cap = 1;
                s.members[0].state = MemberState::Ejected;
            }),
            "takes 11 % of requests, fair is 11 %: not ejected though 40 of 100 failed: 1 out already, which is the ejection \
             cap",
        ),
        (
            first(|m, _| (m.recent_failures, m.failures_in_row) = (2, 2)),
            "takes 10 % of requests, fair is 10 %: not ejected though 2 of 100 failed: that is below the thresholds",
        ),
        (
            first(|m, s| {
                m.is_missing = true;
                s.doubted_for = Some(12 * SECOND);
            }),
            "takes 10 % of requests, fair is 10 %: discovery's newest answer lacks it; it is kept for 12 s more",
        ),
    ]
}

#[test]
fn each_sentence_is_as_in_the_golden_list() {
    for (explained, golden) in goldens() {
        let told = explained.to_string();
        assert_eq!(told, format!("pay-1 (10.0.0.7:80) {golden}"));
    }
}

/// Names all reasons. A reason without a row does not compile, and a row without a golden sentence fails the test below.
macro_rules! kinds {
    ($($kind:pat => $name:literal,)*) => {
        const KINDS: &[&str] = &[$($name),*];

        fn kind(reason: &ShareReason) -> &'static str {
            match reason {
                $($kind => $name,)*
            }
        }
    };
}

kinds! {
    ShareReason::Disconnected { .. } => "disconnected",
    ShareReason::Connecting { .. } => "connecting",
    ShareReason::Draining { .. } => "draining",
    ShareReason::ZeroWeight => "zero weight",
    ShareReason::Backup { .. } => "backup",
    ShareReason::OtherZone { .. } => "other zone",
    ShareReason::Busy => "busy",
    ShareReason::Ejected { .. } => "ejected",
    ShareReason::Probation { .. } => "probation",
    ShareReason::SlowStart { .. } => "slow start",
    ShareReason::Overloaded { .. } => "overloaded",
    ShareReason::Full { .. } => "full",
    ShareReason::NewlyConnected { .. } => "newly connected",
    ShareReason::HigherLoad { .. } => "higher load",
    ShareReason::Failures { .. } => "failures",
    ShareReason::LoadWasHigher => "load was higher",
    ShareReason::Suspect { .. } => "suspect",
    ShareReason::Missing { .. } => "missing",
    ShareReason::NotEjected { because: Spared::Off, .. } => "not ejected: off",
    ShareReason::NotEjected { because: Spared::Shadow, .. } => "not ejected: shadow",
    ShareReason::NotEjected { because: Spared::OnlyMember, .. } => "not ejected: only member",
    ShareReason::NotEjected { because: Spared::OthersFail { .. }, .. } => "not ejected: others fail",
    ShareReason::NotEjected { because: Spared::Cap { .. }, .. } => "not ejected: cap",
    ShareReason::NotEjected { because: Spared::BelowThresholds, .. } => "not ejected: below",
}

#[test]
fn every_reason_has_a_golden_sentence() {
    let goldens = goldens();
    let reasons = goldens.iter().flat_map(|(explained, _)| &explained.reasons);
    let told: BTreeSet<_> = reasons.map(kind).collect();
    assert_eq!(told, BTreeSet::from_iter(KINDS.iter().copied()));
    assert_eq!(told.len(), KINDS.len(), "each name is there once");
}

#[test]
fn every_state_that_gets_no_requests_says_why() {
    for state in [
        MemberState::Busy,
        MemberState::Weightless,
        MemberState::Ejected,
        MemberState::Probation,
        MemberState::Draining,
        MemberState::Connecting,
        MemberState::Disconnected,
    ] {
        let explained = first(|member, _| {
            (member.state, member.ejection) = (state, Some(ejection()));
        });
        assert!(!explained.is_picked && explained.fair == 0.0, "{state}");
        assert_eq!(explained.reasons.len(), 1, "{state}: {explained}");
    }
}

#[test]
fn a_share_that_chance_explains_needs_no_reason() {
    let few = first(|member, status| {
        member.recent_requests = 1;
        for other in &mut status.members {
            other.recent_requests = 3;
        }
    });
    assert!(few.reasons.is_empty(), "{few}");
}

#[test]
fn fair_follows_the_weights() {
    let heavy = first(|member, _| {
        member.instance = member.instance.clone().with_weight(11);
    });
    assert!((heavy.fair - 0.55).abs() < 1e-9, "{heavy}");
}

#[test]
fn a_heavy_member_with_requests_by_its_weight_has_no_higher_load() {
    let heavy = first(|member, _| {
        member.instance = member.instance.clone().with_weight(10);
        (member.in_flight, member.recent_requests) = (10, 600);
    });
    assert_eq!(heavy.reasons, [ShareReason::LoadWasHigher], "{heavy}");
}

#[test]
fn others_that_hardly_fail_excuse_nobody() {
    let lone = first(|member, status| {
        (member.recent_requests, member.failures_in_row) = (0, 2);
        status.members[0].recent_requests = 1000;
        status.members[0].recent_failures = 1;
    });
    let told = lone.to_string();
    assert!(
        told.ends_with("not ejected though 2 of 2 failed: that is below the thresholds"),
        "{told}"
    );
}

#[test]
fn without_requests_there_is_no_share() {
    let status = status([MemberState::Usable]);
    let told = MemberExplanation::of(&status)[0].to_string();
    assert_eq!(told, "pay-1 (10.0.0.7:80) is usable");
}
