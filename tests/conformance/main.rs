//! What every backend has to do, whatever it is made of: one suite, run against each through a [`Subject`](subject::Subject).
//!
//! A new backend brings a `Subject` and one line of [`conformance!`]; what it cannot be made to suffer, it says, and those
//! tests pass by saying so.

#![expect(clippy::unwrap_used, reason = "a test")]

mod answers;
mod boundaries;
mod changes;
mod child;
mod endings;
mod folder;
mod kills;
mod load;
mod outage;
mod registry;
mod roles;
#[path = "../common/stalls.rs"]
mod stalls;
mod subject;

/// One module of tests for a backend: `$make` sets up a fresh subject for each. With a list it is those of the suite that
/// apply.
macro_rules! conformance {
    ($name:ident, $make:expr) => {
        mod $name {
            conformance!(@tests $make;
                answers::an_unknown_role_is_an_error_until_it_appears,
                answers::the_first_answer_is_the_whole_set_and_confirmed,
                answers::an_empty_role_is_an_empty_confirmed_set,
                answers::an_unknown_endpoint_lists_the_known_ones,
                answers::watches_of_two_handles_agree,
                changes::instances_come_and_go,
                changes::what_an_instance_says_of_itself_arrives,
                changes::one_instance_has_several_endpoints,
                changes::a_changed_instance_leaves_the_others_as_they_are,
                changes::a_drain_is_seen_before_the_end,
                changes::a_taken_id_is_refused_and_its_holder_stays,
                changes::invalid_registrations_leave_no_trace,
                changes::hostile_ids_are_only_ids,
                boundaries::boundaries_are_kept_apart,
                boundaries::who_may_see_an_instance_arrives_and_nothing_is_filtered,
                boundaries::peers_are_the_instances_of_one_boundary,
                load::ten_thousand_instances,
                load::the_last_of_many_changes_wins,
                outage::the_last_good_answer_stays_and_news_follow,
                outage::an_outage_under_load_loses_nothing,
                outage::garbage_is_reported_and_harms_nobody,
                endings::a_dropped_watch_leaves_nothing_running,
                endings::a_dropped_lease_deregisters,
                endings::a_dropped_registration_leaves_nothing,
                endings::a_crashed_registrant_is_gone_within_its_lease,
            );
            conformance!(@long $make; load::a_thousand_changes_a_second);
        }
    };
    ($name:ident, $make:expr; $($theme:ident :: $test:ident,)*) => {
        mod $name {
            conformance!(@tests $make; $($theme::$test,)*);
        }
    };
    (@tests $make:expr; $($theme:ident :: $test:ident,)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                crate::$theme::$test(&$make).await;
            }
        )*
    };
    (@long $make:expr; $theme:ident :: $test:ident) => {
        #[tokio::test]
        #[ignore = "ten seconds, and it measures the memory of the whole process: run it alone"]
        async fn $test() {
            crate::$theme::$test(&$make).await;
        }
    };
}

// What registers in it is an editor of the file, whose ids and whose death are none of its business.
conformance!(roles_conform, crate::roles::Roles::default();
    answers::an_unknown_role_is_an_error_until_it_appears,
    answers::the_first_answer_is_the_whole_set_and_confirmed,
    answers::an_empty_role_is_an_empty_confirmed_set,
    answers::an_unknown_endpoint_lists_the_known_ones,
    answers::watches_of_two_handles_agree,
    changes::instances_come_and_go,
    changes::what_an_instance_says_of_itself_arrives,
    changes::one_instance_has_several_endpoints,
    changes::a_changed_instance_leaves_the_others_as_they_are,
    changes::a_drain_is_seen_before_the_end,
    changes::hostile_ids_are_only_ids,
    boundaries::boundaries_are_kept_apart,
    boundaries::who_may_see_an_instance_arrives_and_nothing_is_filtered,
    boundaries::peers_are_the_instances_of_one_boundary,
    load::ten_thousand_instances,
    load::the_last_of_many_changes_wins,
    outage::the_last_good_answer_stays_and_news_follow,
    outage::an_outage_under_load_loses_nothing,
    outage::garbage_is_reported_and_harms_nobody,
    endings::a_dropped_watch_leaves_nothing_running,
);
conformance!(registry_conforms, crate::registry::Embedded::default());
conformance!(folder_conforms, crate::folder::InFolder::default());
