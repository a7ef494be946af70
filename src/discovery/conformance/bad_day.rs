//! Discoveries that have a bad day: what feeds a balancer, to see that it goes on.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time;

use crate::discovery::{BoxStream, Discovery};
use crate::error::discovery::DiscoveryError;
use crate::model::instance::{Instance, InstanceSet};
use crate::model::name::Boundary;
use crate::model::target::Target;

type Answer = Result<InstanceSet, DiscoveryError>;

/// Between two answers of a bad day.
const PACE: Duration = Duration::from_millis(5);
/// Above what a balancer takes.
const FAR_TOO_MANY: u32 = 100_001;

/// A discovery that gives one good set, and then what a backend gives on a bad day.
///
/// Made by [`bad_days`]. Every target has the same instances, and every boundary the same peers. An answer comes every 5 ms.
/// It has to be polled in a tokio runtime with timers.
#[derive(Clone, Debug)]
pub struct BadDay {
    kind: Kind,
    good: InstanceSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Errors,
    Empty,
    Half,
    Flapping,
    Duplicates,
    HostileIds,
    TooMany,
    End,
    Panic,
    Silence,
}

/// The second half of the suite: a bad day of each kind for whatever is fed by a discovery, such as a balancer, a guard or a
/// combination. The instances are those of `good`.
///
/// No request may fail for lack of an instance within 30 s, the time for which a balancer
/// [doubts](crate::ConfigBuilder::shrink_grace) an empty set by default. After that the balancer believes the day on which
/// every set is empty. `good` needs at least eight instances, so that no other day removes one.
///
/// # Examples
///
/// ```
/// use std::convert::Infallible;
/// use rolecall::discovery::conformance::bad_days;
/// use rolecall::{BalanceLayer, Instance, InstanceSet, connect};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let good: InstanceSet = (1..=8).map(|n| Instance::new(n.to_string(), ([10, 0, 0, n], 80))).collect();
/// for day in bad_days(good) {
///     let balance = BalanceLayer::new(day, "worker:http")?
///         .layer(connect::per_instance(|_: &Instance| service_fn(|_: ()| async { Ok::<_, Infallible>(()) })));
///     for _ in 0..10 {
///         balance.clone().oneshot(()).await?;
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn bad_days(good: InstanceSet) -> Vec<BadDay> {
    let kinds = [
        Kind::Errors,
        Kind::Empty,
        Kind::Half,
        Kind::Flapping,
        Kind::Duplicates,
        Kind::HostileIds,
        Kind::TooMany,
        Kind::End,
        Kind::Panic,
        Kind::Silence,
    ];
    let day = |kind| BadDay {
        kind,
        good: good.clone(),
    };
    kinds.map(day).into()
}

impl BadDay {
    /// What happens on it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Errors => "every answer is another error",
            Kind::Empty => "every answer is an empty set",
            Kind::Half => "every answer has fewer than half of the instances",
            Kind::Flapping => "good, half and empty sets and errors alternate",
            Kind::Duplicates => "every instance is there twice",
            Kind::HostileIds => "invalid instances are beside the good ones",
            Kind::TooMany => "an answer has more than 100 000 instances",
            Kind::End => "the stream ends",
            Kind::Panic => "the stream panics",
            Kind::Silence => "nothing more is said",
        }
    }

    fn answers(&self) -> BoxStream<'static, Answer> {
        let first = stream::iter([Ok(self.good.clone())]);
        let (kind, good) = (self.kind, self.good.clone());
        let bad = stream::unfold(0_u32, move |number| {
            let good = good.clone();
            async move {
                time::sleep(PACE).await;
                match kind {
                    Kind::End => None,
                    Kind::Silence => std::future::pending().await,
                    kind => Some((kind.answer(&good, number), number.wrapping_add(1))),
                }
            }
        });
        first.chain(bad).boxed()
    }
}

impl Kind {
    #[expect(
        clippy::panic,
        reason = "the drill is that a panic of foreign code harms nobody"
    )]
    fn answer(self, good: &InstanceSet, number: u32) -> Answer {
        let error = || {
            let cause = format!("fault number {number}\n\u{1b}[31m\u{202e}");
            DiscoveryError::backend("having a bad day", cause)
        };
        // Fewer than half of them: what a balancer doubts, if three are gone.
        let half = || good.iter().skip(good.len() / 2 + 1).cloned().collect();
        match self {
            Self::Errors => Err(error()),
            Self::Empty => Ok(InstanceSet::empty()),
            Self::Half => Ok(half()),
            Self::Flapping => match number % 4 {
                0 => Ok(half()),
                1 => Err(error()),
                2 => Ok(InstanceSet::empty()),
                _ => Ok(good.clone()),
            },
            Self::Duplicates => {
                let others = good.iter().map(|instance| instance.clone().with_weight(7));
                Ok(others.chain(good.iter().cloned()).collect())
            }
            Self::HostileIds => Ok(good.iter().cloned().chain(hostile()).collect()),
            Self::TooMany if number == 0 => Ok(far_too_many()),
            Self::TooMany => Ok(good.clone()),
            Self::Panic => std::panic::panic_any("a panic of a bad day"),
            Self::End | Self::Silence => Ok(good.clone()),
        }
    }
}

/// Instances that nobody can call, of ids that forge lines.
fn hostile() -> impl Iterator<Item = Instance> {
    let ids = [
        String::new(),
        "a b".to_owned(),
        "a\nb".to_owned(),
        "a\u{202e}b".to_owned(),
        "x".repeat(10_000),
    ];
    let hostile = ids.map(|id| Instance::new(id, ([10, 0, 0, 1], 80)));
    let addresses = [([0, 0, 0, 0], 80), ([10, 0, 0, 1], 0), ([224, 0, 0, 1], 80)];
    let nowhere = addresses.map(|address| Instance::new("nowhere", address));
    hostile.into_iter().chain(nowhere)
}

fn far_too_many() -> InstanceSet {
    let at = |n: u32| Instance::new(format!("many-{n}"), ([127, 0, 0, 1], 80));
    (0..FAR_TOO_MANY).map(at).collect()
}

impl Discovery for BadDay {
    fn watch(&self, _: &Target) -> BoxStream<'static, Answer> {
        self.answers()
    }

    fn peers(&self, _: &Boundary) -> BoxStream<'static, Answer> {
        self.answers()
    }

    fn refresh(&self, _: &Target) {}
}
