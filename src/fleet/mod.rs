//! The balancer's rules as a pure state machine: no runtime, no clock, no global randomness.
//!
//! A [`Fleet`] takes what discovery announced and how dials and requests ended, and returns which instances to dial and which
//! member to pick. Time comes in as an argument and deadlines go out as data, so that a simulation drives days of traffic in
//! seconds with the very code that [`Balance`](crate::Balance) ships:
//!
//! ```
//! use rolecall::fleet::Fleet;
//! use rolecall::{BalanceConfig, Instance, InstanceSet};
//! use rand::{SeedableRng, rngs::SmallRng};
//! use std::time::{Duration, Instant};
//!
//! let start = Instant::now();
//! let at = |millis| start + Duration::from_millis(millis);
//! let mut rng = SmallRng::seed_from_u64(1);
//! let fleet = Fleet::<()>::new(BalanceConfig::default(), 1, start);
//!
//! let set: InstanceSet = ["a", "b", "c"]
//!     .into_iter()
//!     .map(|id| Instance::new(id, "127.0.0.1:80".parse().unwrap()))
//!     .collect();
//! for dial in fleet.apply(set, at(0)) {
//!     fleet.connected([(dial.ticket, ())], at(1));
//! }
//! for _ in 0..100 {
//!     let pick = fleet.pick(at(2), &mut rng, &[]).unwrap();
//!     pick.success(at(12));
//! }
//! assert_eq!(fleet.status(at(12)).mean_latency, Some(Duration::from_millis(10)));
//! ```
//!
//! # Where a rule is
//!
//! Each layer knows those above it in this table only.
//!
//! | layer | holds |
//! |---|---|
//! | `config/` | what a program can set: `balance`, `outlier` |
//! | `measures/` | numbers over time: `latency`, `failures` of one member; `pool` of the fleet; `stall` of this process |
//! | `rules/` | one file per rule: what it decides, its numbers, how it fails |
//! | `members/` | `stats` of an instance, `member`, `list`, `snapshot`; `pick` chooses |
//! | `shared`, `slot`, `verdict`, `picked` | a pick, from its slot to what its end says of the member |
//! | `roster/` | the writers' side: `membership`, `connections`, `dials`, `standing`, `ejecting`, `trials`, `suspects`, `listing` |
//! | `fleet` | snapshot, lock, and one public method for each input |
//!
//! | question | file |
//! |---|---|
//! | What does a failure cost? How much does a slow answer count? | `measures/latency` |
//! | When does a pick draw one more member? Which latencies count as equal? | `members/pick`, by the figures of `measures/pool` |
//! | How many failures in a row eject? | `rules/failures_in_row` |
//! | When is a failure rate too high? | `rules/failure_rate`, over the window of `measures/failures` |
//! | When is a member unresponsive? | `rules/unresponsive` |
//! | What if the others fail as well? | `rules/peers`, `rules/chance` |
//! | Who is a suspect? | `rules/suspect` |
//! | What does a trial cost, and how long may it hang? | `rules/trial` |
//! | How many may be ejected, and what if the cap keeps one? | `rules/cap` |
//! | How long does an ejection last? | `rules/ejection_time` |
//! | How does a member come back? | `rules/slow_start`; its states: `roster/standing` |
//! | What if all are ejected, or busy? | `rules/tiers` |
//! | What does an overloaded instance cost? | `rules/overload` |
//! | What if a member was late and is not slow? | `rules/late` |
//! | What if this process stalled? | `measures/stall` |
//! | When is a set of instances not believed? | `rules/doubt` |
//! | When is an instance dialled again? | `rules/backoff` |
//!
//! # Invariants
//!
//! - A pick that finds a member takes no lock and allocates nothing. Picks read one snapshot, published whole: set, weights
//!   and who may be picked are never of different moments.
//! - Writers share one mutex. A request takes it when it has to wait, and when its end finds an outlier, ends a trial or
//!   reports a lost connection. No code of the caller runs under it, not even a `Drop`. Three more mutexes guard figures: of the
//!   fleet, ten times a second; of one member's failures, at each failure; and the sums over members, when one looks bad.
//! - Every dial is a connection generation of its own, named by a [`Ticket`]; the outcome of an old one never touches its
//!   successor.
//! - A fact has one owner. What is kept beside it for speed is changed by the same method.
//! - Time may stand still or go back; it then counts as standing still.
//!
//! Exempt from semver until 1.0.

mod branch;
mod config;
#[expect(
    clippy::module_inception,
    reason = "the module's one concept has its name"
)]
mod fleet;
mod measures;
mod members;
mod picked;
mod rng;
mod roster;
mod rules;
mod shared;
mod slot;
mod time;
mod verdict;

pub use branch::Branch;
pub use config::balance::{Backoff, BalanceConfig, ConfigBuilder, Load};
pub use config::bounds::ConfigError;
pub use config::outlier::{OutlierBuilder, OutlierConfig};
pub use fleet::{Fleet, PickError};
pub use picked::Pick;
pub use rng::Rng;
pub use roster::dials::{Dial, Ticket};

#[cfg(feature = "guard")]
pub(crate) use rules::doubt::is_doubtful;
pub(crate) use shared::InFleet;
pub(crate) use slot::Slot;
pub(crate) use verdict::Verdict;

/// A member of a fleet, and what holds one.
pub(crate) type Member<S> = members::member::Member<shared::Bound<S>>;
pub(crate) type CountedRef<S> = members::member::CountedRef<shared::Bound<S>>;
pub(crate) type MemberRef<S> = members::member::MemberRef<shared::Bound<S>>;
