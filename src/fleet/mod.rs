//! The balancer's rules as a pure state machine: no runtime, no clock, no global randomness.
//!
//! A [`Fleet`] is told what discovery announced and how dials and requests ended, and answers whom to dial and whom to
//! pick. Time comes in as an argument and deadlines go out as data, so that a simulation drives days of traffic in
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
//! # Invariants
//!
//! - A pick that finds somebody takes no lock and allocates nothing. Picks read one snapshot, published whole: set, weights
//!   and who may be picked are never of different moments.
//! - Writers share one mutex. A request takes it when it has to wait, and when its verdict finds an outlier, ends a trial or
//!   tells of a lost connection. No code of the caller runs under it, not even a `Drop`. The fleet's figures have two more
//!   locks, taken ten times a second and by the failures of a member that looks bad.
//! - Every dial is a connection generation of its own, named by a [`Ticket`]; news of an old one never touches its
//!   successor.
//! - Counts are derived from state, never kept beside it.
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
