use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use futures_util::{FutureExt, stream};
use rand::RngExt;
use tokio::sync::Notify;
use tokio::time;

use super::backoff::{Backoff, Pauses, jittered};
use super::per_target::PerTarget;
use crate::error::discovery::{DiscoveryError, DiscoveryErrorKind};
use crate::model::instance::InstanceSet;
use crate::model::target::Target;
use crate::runtime::clock;
use crate::runtime::panic::Panicked;
use crate::runtime::random::with_rng;

/// A discovery that asks a source again and again, for each target that is watched.
///
/// `query` asks once. Its answer is valid for the time that it says, within the bounds. A random part of up to 10 % is added
/// or taken off, still within the bounds, so that many clients do not ask at the same moment. A query that fails or panics
/// is an error of every watch of its target, and is repeated after a pause that doubles from the shortest to the longest of
/// the bounds. An empty set or an unknown role may end any moment: it is asked again after 5 s at the latest, unless the
/// shortest time is longer. A query has no time limit but its own.
///
/// A [`refresh`](crate::Discovery::refresh) asks again within a quarter of a second, at most once a second.
///
/// # Panics
///
/// A watch has to be polled in a tokio runtime with timers; elsewhere it gives nothing.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures::StreamExt;
/// use rolecall::discovery::backend::{PollAnswer, PollBounds, poll};
/// use rolecall::{Discovery, Instance, InstanceSet};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let discovery = poll(
///     |target| async move {
///         // A lookup of the target's role would be here.
///         let id = format!("{}-1", target.role());
///         let set: InstanceSet = [Instance::new(id, ([10, 0, 0, 7], 80))].into_iter().collect();
///         Ok(PollAnswer::new(set).valid_for(Duration::from_secs(5)))
///     },
///     PollBounds::default(),
/// );
/// let mut sets = discovery.watch(&"worker:http".parse()?);
/// assert_eq!(sets.next().await.ok_or("ended")??.len(), 1);
/// # Ok(())
/// # }
/// ```
pub fn poll<F, Q>(query: F, bounds: PollBounds) -> PerTarget
where
    F: Fn(Target) -> Q + Send + Sync + 'static,
    Q: Future<Output = Result<PollAnswer, DiscoveryError>> + Send + 'static,
{
    let query = Arc::new(query);
    let backoff = Backoff::new(bounds.shortest, bounds.longest);
    PerTarget::refreshed(
        move |target, refresh| {
            let polled = Polled {
                query: Arc::clone(&query),
                target,
                refresh,
                bounds,
                pauses: backoff.pauses(),
                next: Next::Now,
            };
            stream::unfold(polled, |mut polled| async move {
                let answer = polled.next().await;
                Some((answer, polled))
            })
        },
        backoff,
    )
}

/// What a [`poll`] learned, and for how long that is valid.
#[derive(Clone, Debug)]
pub struct PollAnswer {
    set: InstanceSet,
    valid_for: Option<Duration>,
}

impl PollAnswer {
    /// A set that is valid for the longest time within the bounds.
    #[must_use]
    pub fn new(set: InstanceSet) -> Self {
        Self {
            set,
            valid_for: None,
        }
    }

    /// Sets for how long the set is valid, such as the TTL of a DNS record.
    #[must_use]
    pub fn valid_for(mut self, valid_for: Duration) -> Self {
        self.valid_for = Some(valid_for);
        self
    }
}

/// The shortest and the longest time between two queries of a [`poll`]: 10 ms to 1 h, default 1 s to 30 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollBounds {
    shortest: Duration,
    longest: Duration,
}

impl PollBounds {
    /// Bounds; each counts as the nearer end of its range if it is outside, and `longest` is at least `shortest`.
    #[must_use]
    pub fn new(shortest: Duration, longest: Duration) -> Self {
        let range = (Duration::from_millis(10), Duration::from_secs(3600));
        let shortest = shortest.clamp(range.0, range.1);
        let longest = longest.clamp(shortest, range.1);
        Self { shortest, longest }
    }
}

impl PollBounds {
    /// A time within 10 % of the given one, and within the bounds.
    fn draw(self, valid: Duration) -> Duration {
        let valid = valid.clamp(self.shortest, self.longest);
        let low = (valid * 9 / 10).max(self.shortest);
        let high = (valid * 11 / 10).min(self.longest);
        low + (high - low).mul_f64(with_rng(|rng| rng.random_range(0.0..=1.0)))
    }
}

impl Default for PollBounds {
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(30))
    }
}

/// What is absent is asked again that soon at least.
const LONGEST_ABSENCE: Duration = Duration::from_secs(5);
/// Refreshes are that far apart at least.
const REFRESH_PACE: Duration = Duration::from_secs(1);
/// A refresh waits up to this long, since many clients see the same instance fail.
const REFRESH_SPREAD: Duration = Duration::from_millis(250);

struct Polled<F> {
    query: Arc<F>,
    target: Target,
    refresh: Arc<Notify>,
    bounds: PollBounds,
    pauses: Pauses,
    next: Next,
}

enum Next {
    Now,
    /// The last query began then, and its answer is valid until then.
    At {
        asked: Instant,
        due: Instant,
    },
    AfterFailure {
        asked: Instant,
    },
}

impl<F, Q> Polled<F>
where
    F: Fn(Target) -> Q,
    Q: Future<Output = Result<PollAnswer, DiscoveryError>>,
{
    async fn next(&mut self) -> Result<InstanceSet, DiscoveryError> {
        self.wait().await;
        let asked = clock::now();
        // A hint that came before the answer is answered by it.
        let query = async { (self.query)(self.target.clone()).await };
        let answer = AssertUnwindSafe(query).catch_unwind().await;
        let answer = answer.unwrap_or_else(|panic| {
            let panic = Panicked::new(panic);
            Err(DiscoveryError::backend("asking", panic))
        });
        match answer {
            Ok(PollAnswer { set, valid_for }) => {
                self.pauses.reset();
                let mut valid = valid_for.unwrap_or(self.bounds.longest);
                if set.is_empty() {
                    valid = valid.min(LONGEST_ABSENCE);
                }
                let due = clock::now() + self.bounds.draw(valid);
                self.next = Next::At { asked, due };
                Ok(set)
            }
            Err(error) if error.kind() == DiscoveryErrorKind::UnknownRole => {
                let pause = self.pauses.draw().min(self.bounds.draw(LONGEST_ABSENCE));
                let due = clock::now() + pause;
                self.next = Next::At { asked, due };
                Err(error)
            }
            Err(error) => {
                self.next = Next::AfterFailure { asked };
                Err(error)
            }
        }
    }

    async fn wait(&mut self) {
        let asked = match self.next {
            Next::Now => return,
            Next::At { asked, .. } | Next::AfterFailure { asked } => asked,
        };
        let pauses = &mut self.pauses;
        let due = async {
            match self.next {
                Next::At { due, .. } => time::sleep_until(due.into()).await,
                _ => pauses.pause().await,
            }
        };
        let refreshed = self.refresh.notified();
        let (due, refreshed) = (std::pin::pin!(due), std::pin::pin!(refreshed));
        if let Either::Right(_) = select(due, refreshed).await {
            time::sleep_until((asked + REFRESH_PACE).into()).await;
            time::sleep(jittered(REFRESH_SPREAD)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_ten_percent_either_way_and_stays_within_the_bounds() {
        let bounds = PollBounds::new(Duration::from_secs(1), Duration::from_secs(60));
        for (valid, low, high) in [
            (0, 1000, 1100),
            (1000, 1000, 1100),
            (20_000, 18_000, 22_000),
            (58_000, 52_200, 60_000),
            (u64::MAX, 54_000, 60_000),
        ] {
            let drawn: Vec<_> = (0..2000)
                .map(|_| bounds.draw(Duration::from_millis(valid)).as_millis())
                .collect();
            let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
            assert!(
                *least >= low && *most <= high,
                "{least} to {most} of {valid}"
            );
            let tenth = (high - low) / 10;
            assert!(
                *least <= low + tenth && *most >= high - tenth,
                "{least} to {most} of {valid}"
            );
        }
    }
}
