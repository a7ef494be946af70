//! Which member gets a request.
//!
//! Two members are drawn by weight and the one that costs less is taken: the power of two choices (Mitzenmacher 2001).
//! While the better one is still poor, dearer by [`POOR`] than what recent picks got, one more is drawn, up to
//! `max_choices`. That is what keeps a request away from slow members when two draws meet only such; where members are
//! alike, nearly every pick ends after two.
//!
//! A member costs its latency times the requests in flight to it, this one included. A latency within [`BAND`] of the
//! fleet's mean counts as the mean while answers come often enough to notice a real change: else the member that is
//! worst by a hair would lose every comparison of an idle fleet.
//!
//! Members that are to be avoided, or are at their cap, lose to any other. If the draws meet only such, the list is
//! searched from a random place.

use super::config::Load;
use super::pool::Shard;
use super::rng::{Rng, below, unit};
use super::shared::Shared;
use super::slow_start::Toss;
use super::snapshot::Snapshot;
use crate::InstanceId;

const POOR: f32 = 1.15;
const BAND: f32 = 1.5;
/// Answers per second and member below which latencies are compared as they are.
const GATE: f32 = 3.0;
/// What the cost of a member that is to be avoided is multiplied by: more than any real cost.
const AVOIDED: f32 = 1e20;
/// Most redraws of members already seen: only extreme weights come near.
const REDRAWS: u32 = 32;
/// Seen positions are kept on the stack.
const MAX_CHOICES: usize = 64;

/// The position of the chosen member, a slot of it taken; or `None` when all usable ones are at their cap.
pub(super) fn choose<S>(
    snapshot: &Snapshot<S>,
    shared: &Shared,
    shard: usize,
    now: u64,
    rng: &mut (impl Rng + ?Sized),
    avoid: &[InstanceId],
) -> Option<usize> {
    let costs = Costs::new(snapshot, shared, now, avoid);
    let cap = snapshot.rules.max_in_flight;
    let take = |position| snapshot.list.member(position).stats.acquire(cap);
    let (best, cost) = match snapshot.list.len() {
        0 => return None,
        1 => (0, 0.0),
        2.. => draw(snapshot, &costs, shared.pool.numbered(shard), rng),
    };
    if cost < AVOIDED && take(best) {
        return Some(best);
    }
    // The draws met only members at their cap or to be avoided, or the last slot went to another thread just now.
    let start = below(rng.next_u64() as u32, snapshot.list.len() as u32) as usize;
    let positions = || (start..snapshot.list.len()).chain(0..start);
    positions()
        .find(|&position| costs.of(position) < AVOIDED && take(position))
        .or_else(|| take(best).then_some(best))
        .or_else(|| positions().find(|&position| take(position)))
}

/// The cheapest of two or more draws, and its cost.
fn draw<S>(
    snapshot: &Snapshot<S>,
    costs: &Costs<'_, S>,
    shard: &Shard,
    rng: &mut (impl Rng + ?Sized),
) -> (usize, f32) {
    let list = &snapshot.list;
    let toss = Toss::new(&snapshot.ramps, costs.now, rng);
    let (first, second) = match &toss {
        None => two(snapshot, rng),
        Some(toss) => two_ramped(snapshot, toss, rng),
    };
    let (a, b) = (costs.of(first), costs.of(second));
    let mut best = if b < a { (second, b) } else { (first, a) };

    let rules = &snapshot.rules;
    let poor = POOR * shard.winners();
    if best.1 > poor && poor > 0.0 && rules.max_choices > 2 && list.len() > 2 {
        best = draw_more(
            snapshot,
            costs,
            toss.as_ref(),
            rng,
            [first, second],
            best,
            poor,
        );
    }
    if best.1 < AVOIDED && costs.comparable {
        shard.won(best.1);
    }
    best
}

fn draw_more<S>(
    snapshot: &Snapshot<S>,
    costs: &Costs<'_, S>,
    toss: Option<&Toss<'_>>,
    rng: &mut (impl Rng + ?Sized),
    drawn: [usize; 2],
    mut best: (usize, f32),
    poor: f32,
) -> (usize, f32) {
    let len = snapshot.list.len();
    let most = (snapshot.rules.max_choices as usize)
        .min(2 * len)
        .min(MAX_CHOICES);
    let mut seen = [0; MAX_CHOICES];
    seen[..2].copy_from_slice(&drawn);
    let mut distinct = if drawn[0] == drawn[1] { 1 } else { 2 };
    for _ in 2..most {
        if best.1 <= poor || distinct == len {
            break;
        }
        let position = if snapshot.list.is_even() {
            unseen(len, &mut seen[..distinct], rng)
        } else {
            weighted_again(snapshot, &seen[..distinct], rng)
        };
        if seen[..distinct].contains(&position) {
            continue;
        }
        seen[distinct] = position;
        distinct += 1;
        if toss.is_some_and(|toss| !toss.keeps(position)) {
            continue;
        }
        let cost = costs.beside(position, best.0);
        if cost < best.1 {
            best = (position, cost);
        }
    }
    best
}

/// Two draws by weight, of different members unless weights are very uneven.
fn two<S>(snapshot: &Snapshot<S>, rng: &mut (impl Rng + ?Sized)) -> (usize, usize) {
    if snapshot.list.is_even() {
        two_of(snapshot.list.len() as u32, rng)
    } else {
        let first = weighted(snapshot, rng);
        (first, weighted_again(snapshot, &[first], rng))
    }
}

/// The same where some members are in slow start. Where one of two is not kept, the other one stands alone.
#[cold]
fn two_ramped<S>(
    snapshot: &Snapshot<S>,
    toss: &Toss<'_>,
    rng: &mut (impl Rng + ?Sized),
) -> (usize, usize) {
    let mut drawn = two(snapshot, rng);
    for _ in 0..REDRAWS {
        match (toss.keeps(drawn.0), toss.keeps(drawn.1)) {
            (true, true) => return drawn,
            (true, false) => return (drawn.0, drawn.0),
            (false, true) => return (drawn.1, drawn.1),
            (false, false) => drawn = two(snapshot, rng),
        }
    }
    drawn
}

/// Two different positions below `n`, from one draw of 64 bits.
fn two_of(n: u32, rng: &mut (impl Rng + ?Sized)) -> (usize, usize) {
    let bits = rng.next_u64();
    let first = below((bits >> 32) as u32, n);
    let second = below(bits as u32, n - 1);
    (
        first as usize,
        (second + u32::from(second >= first)) as usize,
    )
}

/// A position below `len` that is not among `seen`, which is sorted on the way.
fn unseen(len: usize, seen: &mut [usize], rng: &mut (impl Rng + ?Sized)) -> usize {
    seen.sort_unstable();
    let mut position = below(rng.next_u64() as u32, (len - seen.len()) as u32) as usize;
    for &taken in seen.iter() {
        position += usize::from(position >= taken);
    }
    position
}

fn weighted<S>(snapshot: &Snapshot<S>, rng: &mut (impl Rng + ?Sized)) -> usize {
    let total = snapshot.list.total_weight();
    let ticket = (u128::from(rng.next_u64()) * u128::from(total)) >> 64;
    snapshot.list.position_by_weight(ticket as u64)
}

/// A draw by weight after others. A member seen before is kept in the measure in which it outweighs the mean: with
/// distinct draws alone two members of weights 10 and 1 would share equally.
fn weighted_again<S>(
    snapshot: &Snapshot<S>,
    seen: &[usize],
    rng: &mut (impl Rng + ?Sized),
) -> usize {
    let mut position = weighted(snapshot, rng);
    for _ in 0..REDRAWS {
        if !seen.contains(&position) {
            break;
        }
        let kept = 1.0 - f64::from(snapshot.list.inverse_weight(position));
        if unit(rng) < kept {
            break;
        }
        position = weighted(snapshot, rng);
    }
    position
}

/// What members cost at one moment.
struct Costs<'a, S> {
    snapshot: &'a Snapshot<S>,
    now: u64,
    avoid: &'a [InstanceId],
    cap: u32,
    /// The fleet's mean latency; zero: not known, or not asked for.
    mean: f32,
    /// Latencies between these count as the mean.
    band: (f32, f32),
    /// Whether costs can be compared over time.
    comparable: bool,
    /// Whether any member may be overloaded.
    overloads: bool,
}

impl<'a, S> Costs<'a, S> {
    fn new(snapshot: &'a Snapshot<S>, shared: &Shared, now: u64, avoid: &'a [InstanceId]) -> Self {
        let latency = snapshot.rules.load == Load::Latency;
        let mean = if latency { shared.pool.mean() } else { 0.0 };
        let often = shared.pool.rate() >= GATE * snapshot.list.len() as f32;
        Self {
            snapshot,
            now,
            avoid,
            cap: snapshot.rules.max_in_flight.unwrap_or(u32::MAX),
            mean,
            band: if often {
                (mean / BAND, mean * BAND)
            } else {
                (mean, mean)
            },
            comparable: !latency || mean > 0.0,
            overloads: shared.is_overloaded(),
        }
    }

    fn of(&self, position: usize) -> f32 {
        self.with_own(position, 1.0)
    }

    /// Of a member that is looked at further, beside the best so far. To a lighter one the request weighs as much more: the
    /// further picks look the more idle light members they meet, which would get more than they can take.
    fn beside(&self, position: usize, best: usize) -> f32 {
        let list = &self.snapshot.list;
        if list.is_even() {
            return self.of(position);
        }
        let own = list.weight(best) / list.weight(position);
        self.with_own(position, own.max(1.0))
    }

    /// `own`: what the request itself weighs.
    #[inline]
    fn with_own(&self, position: usize, own: f32) -> f32 {
        let member = self.snapshot.list.member(position);
        let stats = &member.stats;
        let in_flight = stats.in_flight();
        if in_flight >= self.cap {
            return f32::INFINITY;
        }
        let inverse_weight = self.snapshot.list.inverse_weight(position);
        let cost = if self.mean > 0.0 {
            let latency = stats.latency().read(self.now, self.mean);
            let ordinary = latency > self.band.0 && latency < self.band.1;
            let latency = if ordinary { self.mean } else { latency };
            latency * (in_flight as f32 * inverse_weight + own)
        } else {
            (in_flight as f32 + 1.0) * inverse_weight
        };
        let cost = if self.overloads {
            cost * stats.overload(self.now)
        } else {
            cost
        };
        if self.avoid.is_empty() || !self.avoid.contains(member.instance.id()) {
            cost
        } else {
            AVOIDED * (1.0 + cost)
        }
    }
}
