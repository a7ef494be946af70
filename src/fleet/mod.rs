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

mod config;
#[expect(
    clippy::module_inception,
    reason = "the module's one concept has its name"
)]
mod fleet;
mod journal;
mod labels;
mod load;
mod member;
mod news;
mod outlier;
mod pick;
mod pool;
mod pulse;
mod reached;
mod rng;
mod roster;
mod run;
mod seat;
mod shared;
mod slot;
mod slow_start;
mod snapshot;
mod trial;
mod verdict;
mod window;

pub use config::{Backoff, BalanceConfig, ConfigBuilder, ConfigError, Load};
pub use fleet::{Fleet, PickError};
pub use outlier::{OutlierBuilder, OutlierConfig};
pub use reached::Branch;
pub use rng::Rng;
pub use roster::{Dial, Ticket};
pub use slot::Pick;

pub(crate) use member::{Hold, Member, Recorded, Share};
#[cfg(feature = "guard")]
pub(crate) use news::is_doubtful;
pub(crate) use slot::Slot;
pub(crate) use verdict::Verdict;
