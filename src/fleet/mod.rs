//! The balancer's rules as a pure state machine: no runtime, no clock, no global randomness.
//!
//! A [`Fleet`] takes sets of instances from discovery and the outcomes of dials and requests. It returns which instances to
//! dial and which member to pick. Time comes in as an argument and deadlines go out as data. So a simulation runs days of
//! traffic in seconds, with the same code that [`Balance`](crate::Balance) ships:
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
//!     .map(|id| Instance::new(id, ([127, 0, 0, 1], 80)))
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
//! # Where to find a rule
//!
//! A layer uses only the layers above it in this table.
//!
//! | layer | holds |
//! |---|---|
//! | `config/` | what a program can configure: `balance`, `outlier` |
//! | `measures/` | measurements over time: `latency` and `failures` of one member, `pool` for the fleet, `stall` for this process |
//! | `rules/` | one file per rule: its decision, its numbers, its failure mode |
//! | `members/` | `stats` of an instance, `member`, `list`, `snapshot`; `pick` chooses |
//! | `shared`, `slot`, `verdict`, `picked` | a pick, from taking its slot to judging its member |
//! | `roster/` | the writers' side: `membership`, `connections`, `dials`, `standing`, `ejecting`, `trials`, `suspects`, `listing` |
//! | `fleet` | the snapshot, the writers' lock, and one public method for each input |
//!
//! | question | file |
//! |---|---|
//! | What does a failure cost? How much does a slow answer count? | `measures/latency` |
//! | When does a pick draw one more member? Which latencies count as equal? | `members/pick`, with figures of `measures/pool` |
//! | How many failures in a row eject? | `rules/failures_in_row` |
//! | When is a failure rate too high? | `rules/failure_rate`, over the window in `measures/failures` |
//! | When is a member unresponsive? | `rules/unresponsive` |
//! | What if the other members fail as well? | `rules/peers`, `rules/chance` |
//! | Which members are suspects? | `rules/suspect` |
//! | What does a trial cost, and how long may it go unanswered? | `rules/trial` |
//! | When is a member checked before it is tried? | `roster/checking` |
//! | How many members may be ejected, and what if the cap keeps an outlier in play? | `rules/cap` |
//! | How long does an ejection last? | `rules/ejection_time` |
//! | How does a member return, or a new one start? | `rules/slow_start`; its states: `roster/standing` |
//! | When do backups get requests? | `rules/rank` |
//! | When does a request leave the caller's zone? | `rules/zone` |
//! | What if every member is ejected, or busy? | `rules/tiers` |
//! | What does an overloaded instance cost? | `rules/overload` |
//! | What if a member was late but is not slow? | `rules/late` |
//! | What if this process stalled? | `measures/stall` |
//! | When is a set of instances doubted? | `rules/doubt` |
//! | Which instances does a caller dial that dials a subset? | `rules/subset` |
//! | When is an instance dialled again? | `rules/backoff` |
//!
//! # Invariants
//!
//! - A pick that finds a member takes no lock and allocates nothing. Picks read one snapshot, published whole: its set, its
//!   weights and its pickable members belong to the same moment.
//! - Writers share one mutex. A request takes it when it has to wait, and when its outcome reveals an outlier, ends a trial
//!   or reports a lost connection. The caller's code never runs under it, not even a `Drop`. Three more mutexes guard
//!   figures. The fleet's are locked ten times a second, a member's failures at each failure, and the sums over members when
//!   one looks bad.
//! - Every dial is a connection generation of its own, named by a [`Ticket`]. The outcome of an old generation never affects
//!   a newer one.
//! - Each fact has one owner. A copy kept for speed is changed by the same method.
//! - The clock may stand still or go back. Going back counts as standing still.
//!
//! Exempt from semver until 1.0.

mod branch;
mod check;
mod config;
#[expect(
    clippy::module_inception,
    reason = "the file holds the type that the module is named after"
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
pub use check::DueCheck;
pub use config::balance::{Backoff, BalanceConfig, ConfigBuilder, Load};
pub use config::bounds::ConfigError;
pub use config::outlier::{OutlierBuilder, OutlierConfig};
pub use config::subset::Subset;
pub use fleet::{Fleet, PickError};
pub use picked::Pick;
pub use rng::Rng;
pub use roster::dials::{Dial, Ticket};

#[cfg(feature = "guard")]
pub(crate) use rules::doubt::is_doubtful;
pub(crate) use shared::InFleet;
pub(crate) use slot::Slot;
pub(crate) use verdict::Verdict;

/// A member of a fleet.
pub(crate) type Member<S> = members::member::Member<shared::Bound<S>>;
/// A counted reference to a member of a fleet.
pub(crate) type CountedRef<S> = members::member::CountedRef<shared::Bound<S>>;
/// A reference to a picked member of a fleet.
pub(crate) type MemberRef<S> = members::member::MemberRef<shared::Bound<S>>;
