//! The public suite, run on the backends of this crate, and what is true of a folder only.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test")]

mod bad_days;
mod changes;
mod child;
mod combined;
mod folder;
mod kills;
mod memory;
mod registry;
mod roles;
#[path = "../common/stalls.rs"]
mod stalls;
mod support;

use combined::{Combined, How};
use rolecall::discovery::conformance::{self, Subject};

/// Runs the suite; `skipped` are the checks that do not apply, so that none is skipped by mistake.
async fn conforms<S: Subject>(make: impl Fn() -> S, skipped: &[&str]) {
    let report = conformance::run(make).await;
    println!("{report}");
    report.assert_passed();
    let found: Vec<_> = report.skipped().map(|(check, _)| check).collect();
    assert_eq!(found, skipped, "{report}");
}

/// A registry lives and dies with the process.
const UNBREAKABLE: &[&str] = &[
    "the_last_good_answer_stays_and_news_follow",
    "an_outage_under_load_loses_nothing",
    "garbage_is_reported_and_harms_nobody",
    "a_crashed_registrant_is_gone_within_its_lease",
];

#[tokio::test]
async fn registry_conforms() {
    conforms(registry::Embedded::default, UNBREAKABLE).await;
}

#[tokio::test]
async fn a_shared_registry_conforms() {
    conforms(|| Combined::new(How::Shared), UNBREAKABLE).await;
}

#[tokio::test]
async fn a_cached_registry_conforms() {
    conforms(|| Combined::new(How::Cached), UNBREAKABLE).await;
}

#[tokio::test]
async fn a_registry_or_another_one_conforms() {
    conforms(|| Combined::new(How::Or), UNBREAKABLE).await;
}

#[tokio::test]
async fn two_merged_registries_conform() {
    conforms(|| Combined::new(How::Merged), UNBREAKABLE).await;
}

#[tokio::test]
async fn folder_conforms() {
    conforms(folder::InFolder::default, &[]).await;
}

#[tokio::test]
async fn roles_file_conforms() {
    let by_an_editor = [
        "a_taken_id_is_refused_and_its_holder_stays",
        "invalid_registrations_leave_no_trace",
        "hostile_ids_are_only_ids",
        "a_dropped_lease_deregisters",
        "a_dropped_registration_leaves_nothing",
        "a_crashed_registrant_is_gone_within_its_lease",
        "leases_go_on_in_another_runtime",
    ];
    conforms(roles::Roles::default, &by_an_editor).await;
}

#[tokio::test]
async fn from_changes_conforms() {
    let of_one_membership = [
        "an_unknown_role_is_an_error_until_it_appears",
        "an_unknown_endpoint_is_an_error_until_it_appears",
        "one_instance_has_several_endpoints",
        "a_taken_id_is_refused_and_its_holder_stays",
        "invalid_registrations_leave_no_trace",
        "hostile_ids_are_only_ids",
        "boundaries_are_kept_apart",
        "visibility_arrives_and_nothing_is_filtered",
        "peers_are_the_instances_of_one_boundary",
        "the_last_good_answer_stays_and_news_follow",
        "an_outage_under_load_loses_nothing",
        "a_dropped_lease_deregisters",
        "a_dropped_registration_leaves_nothing",
        "a_crashed_registrant_is_gone_within_its_lease",
        "leases_go_on_in_another_runtime",
    ];
    conforms(changes::OfChanges::default, &of_one_membership).await;
}

/// A backend that is wrong in one way has to fail.
#[tokio::test]
async fn the_suite_finds_what_is_wrong() {
    let report = conformance::run(registry::Forgetful::default).await;
    let failed: Vec<_> = report.failed().map(|(check, _)| check).collect();
    assert!(failed.contains(&"instances_come_and_go"), "{report}");
    assert!(report.passed().count() > 0, "{report}");
}
