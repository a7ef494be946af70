//! The suite that every backend of this crate passes, for anybody's backend (feature `conformance`).
//!
//! A [`Subject`] opens the backend, announces instances in it, and makes it fail. [`run`] runs every check against a fresh
//! subject and answers with a [`Report`]. What a backend cannot do by its nature, its subject [lacks](Subject::lacks); the
//! checks that need it are skipped, and the report says so.
//!
//! The second half, [`bad_days`], feeds a balancer or a guard what a backend gives on bad days.
//!
//! The suite runs on real time. It needs a tokio runtime with timers, and threads for two runtimes of its own.
//!
//! # Examples
//!
//! ```
//! use std::sync::Arc;
//! use rolecall::discovery::conformance::{self, Subject};
//! use rolecall::discovery::{BoxFuture, RegisterError};
//! use rolecall::{Discovery, Lease, Registrar, Registration, Registry};
//!
//! struct Embedded(Registry);
//!
//! impl Subject for Embedded {
//!     fn open(&self) -> Arc<dyn Discovery> {
//!         Arc::new(self.0.clone())
//!     }
//!
//!     fn announce(&self, registration: Registration) -> BoxFuture<'static, Result<Lease, RegisterError>> {
//!         self.0.register(registration)
//!     }
//! #   fn most_instances(&self) -> usize { 100 }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let report = conformance::run(|| Embedded(Registry::new())).await;
//! report.assert_passed();
//! # }
//! ```

#![expect(
    clippy::unwrap_used,
    reason = "a check fails by a panic, which the report tells"
)]

mod answers;
mod bad_day;
mod boundaries;
mod changes;
mod check;
mod endings;
mod load;
mod outage;
mod report;
mod runtimes;
mod subject;
mod watching;

pub use bad_day::{BadDay, bad_days};
use check::Check;
pub use report::Report;
pub use subject::{Ability, Subject, Victim};

/// Runs every check, one after the other, each against a subject that `make` sets up.
///
/// A check that fails does not stop the others.
///
/// # Cancellation
///
/// Dropping the future ends the check that is running; its subject is dropped.
pub async fn run<S: Subject>(make: impl Fn() -> S) -> Report {
    let mut report = Report::default();
    for check in checks() {
        let subject = make();
        check.run(&subject, &mut report).await;
    }
    report
}

/// Each with what it needs.
fn checks() -> Vec<Check> {
    use Ability::{
        Availability, Boundaries, Ids, Metadata, Peers, Registration, SeveralEndpoints, Targets,
        UnknownEndpoints, UnknownRoles, Visibility,
    };
    macro_rules! checks {
        ($($theme:ident :: $name:ident [$($needs:expr),*],)*) => {
            vec![$(Check::new(stringify!($name), &[$($needs),*], |subject| {
                Box::pin($theme::$name(subject))
            }),)*]
        };
    }
    checks![
        answers::an_unknown_role_is_an_error_until_it_appears[UnknownRoles],
        answers::the_first_answer_is_the_whole_set[],
        answers::a_role_whose_instances_left_is_an_empty_set[],
        answers::an_unknown_endpoint_is_an_error_until_it_appears[UnknownEndpoints],
        answers::watches_of_two_handles_agree[],
        answers::a_hint_blocks_nobody_and_changes_nothing[],
        changes::instances_come_and_go[],
        changes::what_an_instance_says_of_itself_arrives[],
        changes::text_in_metadata_arrives_as_it_is[Metadata],
        changes::one_instance_has_several_endpoints[SeveralEndpoints, Targets],
        changes::a_changed_instance_leaves_the_others_as_they_are[],
        changes::a_drain_is_seen_before_the_end[Availability],
        changes::a_taken_id_is_refused_and_its_holder_stays[Registration, Ids, Targets],
        changes::invalid_registrations_leave_no_trace[Registration, Targets],
        changes::hostile_ids_are_only_ids[Registration, Ids],
        boundaries::boundaries_are_kept_apart[Boundaries, Targets],
        boundaries::visibility_arrives_and_nothing_is_filtered[Boundaries, Visibility],
        boundaries::peers_are_the_instances_of_one_boundary[Peers, Boundaries],
        load::many_instances_come_and_go[],
        load::the_last_of_many_changes_wins[],
        outage::the_last_good_answer_stays_and_news_follow[],
        outage::an_outage_under_load_loses_nothing[],
        outage::garbage_is_reported_and_harms_nobody[],
        endings::a_dropped_watch_leaves_nothing_running[],
        endings::a_dropped_lease_deregisters[Registration],
        endings::a_dropped_registration_leaves_nothing[Registration],
        endings::a_crashed_registrant_is_gone_within_its_lease[Registration],
        runtimes::watches_go_on_in_another_runtime[],
        runtimes::leases_go_on_in_another_runtime[Registration],
        runtimes::shared_watches_go_on_in_another_runtime[],
    ]
}
