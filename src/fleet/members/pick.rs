//! Which member gets a request.
//!
//! A pick draws two members by weight and takes the one that costs less: the power of two choices (Mitzenmacher 2001).
//! While the best one so far is *poor*, the pick draws another, up to `max_choices`. This keeps requests away from slow
//! members when the first two draws are both slow. If members are alike, nearly every pick ends after two draws.
//!
//! A member's cost is its latency times the requests in flight to it, this one included, with these corrections:
//!
//! - Most of the fleet's least latency is network time and says nothing about load. [That part](Pool::way) is subtracted
//!   from each latency; otherwise 20 ms of network would hide that one instance takes twice as long as another.
//! - The latency of an idle member counts as the fleet's mean if it is within a [band](Pool::band) around it. Otherwise the
//!   slightly slowest member would lose every comparison in an idle fleet. A busy member is compared as it is: how busy it
//!   is matters more, and the difference is visible.
//! - The band applies only while answers are frequent enough to notice a real change. While they are rare, every member
//!   that is known to be fast is worth finding.
//!
//! A cost is poor if it exceeds [`POOR`] times the average cost of recent picks. If that average is less than [`DOUBTFUL`]
//! times the cost of a good member with a fair load, the latter is the standard instead. Otherwise a member that answers
//! without working would set the standard: it wins most picks, and every pick would search for it.
//!
//! Members to avoid and members at their cap lose to any other. If both draws are such members, the pick keeps drawing: it
//! checks [`FULL_DRAWS`] members, or twice `max_choices` if that is more, before it reports that all are full.

use super::member::MemberRef;
use super::snapshot::{Far, Group, Route, SlowStart};
use crate::fleet::branch::Branch;
use crate::fleet::measures::pool::{Pool, Shard};
use crate::fleet::rng::{Rng, below, unit};
use crate::fleet::rules::slow_start::Ramp;
use crate::fleet::rules::zone::{LOOK, is_cheaper};
use crate::model::instance::InstanceId;

/// A cost is poor from this multiple of the average cost of recent picks.
const POOR: f32 = 1.15;
/// The least part of a latency that counts.
const LEAST_WORK: f32 = 0.1;
/// Recent picks are no standard if they cost less than this part of the cost of a good member with a fair load. At 0.6, a
/// member that answers without working gets 4.5 times its share from one of 50 callers. At 0.65, with 100 members of which
/// half are four times slower, picks stop too early, although they could find an idle fast one.
const DOUBTFUL: f32 = 0.63;
/// The factor on the cost of a member to avoid. It is larger than any real cost.
const AVOIDED: f32 = 1e20;
/// The most redraws of members already drawn. Only extreme weights come close.
const REDRAWS: u32 = 32;
/// The most members that one pick compares. Their positions are kept on the stack.
const MAX_CHOICES: usize = 64;
/// The most members that one pick checks for room.
const MOST_SEEN: usize = 2 * MAX_CHOICES;
/// A fleet with this many members for each one drawn is large enough to draw again after a repetition.
const SPARSE: usize = 8;
/// The least number of distinct members to check before all count as full. A fleet of this size is checked completely.
const FULL_DRAWS: usize = 16;

/// What a pick knows besides the members.
#[derive(Clone, Copy)]
pub(crate) struct Conditions<'a> {
    pub(crate) pool: &'a Pool,
    /// Whether any member may be overloaded.
    pub(crate) is_any_overloaded: bool,
    /// Of the calling thread.
    pub(crate) shard: usize,
    pub(crate) now: u64,
    pub(crate) avoid: &'a [InstanceId],
}

/// Chooses a member of a rank and takes one of its slots; `None` if all usable members are at their cap.
pub(crate) fn choose<T>(
    route: &Route<T>,
    conditions: Conditions<'_>,
    rng: &mut (impl Rng + ?Sized),
) -> Option<MemberRef<T>> {
    match &route.far {
        None => choose_in(&route.near, conditions, rng),
        Some(far) => choose_by_zone(&route.near, far, conditions, rng),
    }
}

/// Chooses among the caller's own zone and the others. See [`zone`](crate::fleet::rules::zone).
fn choose_by_zone<T>(
    near: &Group<T>,
    far: &Far<T>,
    conditions: Conditions<'_>,
    rng: &mut (impl Rng + ?Sized),
) -> Option<MemberRef<T>> {
    let is_near = |id: &InstanceId| far.near_ids.binary_search(id).is_ok();
    let leaves_zone = conditions.avoid.iter().any(is_near);
    let (own, other) = if leaves_zone {
        (&far.group, near)
    } else {
        (near, &far.group)
    };
    let shard = conditions.pool.numbered(conditions.shard);
    let costs = Costs::new(own, conditions);
    let (best, cost) = match own.list.len() {
        1 => (0, costs.of(0)),
        _ => draw(own, &costs, shard, rng, &mut None),
    };
    let elsewhere = match shard.elsewhere() {
        0.0 => costs.idle(),
        cost => cost,
    };
    let looks = leaves_zone || cost > far.price * elsewhere || rng.next_u64().is_multiple_of(LOOK);
    if looks {
        let costs = Costs::new(other, conditions);
        let (candidate, cheapest) = cheaper_of_two(other, &costs, rng);
        if !leaves_zone && costs.comparable && cheapest < AVOIDED {
            shard.looked_elsewhere(cheapest);
        }
        if is_cheaper(cheapest, cost, far.price) && other.take(candidate) {
            Branch::LeftZone.reach();
            return Some(other.list.hold(candidate, conditions.shard));
        }
    }
    if cost < AVOIDED && own.take(best) {
        return Some(own.list.hold(best, conditions.shard));
    }
    // Members to avoid, or none with a free slot: any other will do.
    let avoids = |member: &MemberRef<T>| conditions.avoid.contains(member.instance.id());
    let here = choose_in(own, conditions, rng);
    if here.as_ref().is_some_and(|member| !avoids(member)) {
        return here;
    }
    let there = choose_in(other, conditions, rng);
    match (here, there) {
        (Some(here), Some(there)) if avoids(&there) => {
            there.stats.release_unused();
            Some(here)
        }
        (Some(here), Some(there)) => {
            here.stats.release_unused();
            Some(there)
        }
        (here, there) => here.or(there),
    }
}

/// The position and cost of the cheaper of two members.
fn cheaper_of_two<T>(
    group: &Group<T>,
    costs: &Costs<'_, T>,
    rng: &mut (impl Rng + ?Sized),
) -> (usize, f32) {
    if group.list.len() == 1 {
        return (0, costs.of(0));
    }
    let ramp = group.ramp(costs.now, rng);
    let (first, second) = drawn_two(group, ramp.as_ref(), rng);
    let (a, b) = (costs.of(first), costs.of(second));
    if b < a { (second, b) } else { (first, a) }
}

/// Chooses a member of a group and takes one of its slots; `None` if all are at their cap.
fn choose_in<T>(
    group: &Group<T>,
    conditions: Conditions<'_>,
    rng: &mut (impl Rng + ?Sized),
) -> Option<MemberRef<T>> {
    let position = position_in(group, conditions, rng)?;
    Some(group.list.hold(position, conditions.shard))
}

#[inline]
fn position_in<T>(
    group: &Group<T>,
    conditions: Conditions<'_>,
    rng: &mut (impl Rng + ?Sized),
) -> Option<usize> {
    let costs = Costs::new(group, conditions);
    let cap = group.rules.max_in_flight;
    let take = |position| group.list.member(position).stats.acquire(cap);
    let mut seen = None;
    let (best, cost) = match group.list.len() {
        0 => return None,
        1 => (0, 0.0),
        2.. => draw(
            group,
            &costs,
            conditions.pool.numbered(conditions.shard),
            rng,
            &mut seen,
        ),
    };
    if cost < AVOIDED && take(best) {
        return Some(best);
    }
    // What was drawn is checked again if a member of it may have room: an avoided one, one that lost its last slot just now
    // or one that slow start passed over.
    let all_full = cost == f32::INFINITY && !group.slow_start.is_on();
    let mut seen = seen.filter(|_| all_full).unwrap_or_else(Seen::new);
    draw_for_room(group, &costs, &mut seen, rng, take)
}

/// Finds any member with a free slot, preferably not one to avoid. For picks whose draws were all at their cap or to be
/// avoided, or that lost the last slot to another thread.
#[cold]
fn draw_for_room<T>(
    group: &Group<T>,
    costs: &Costs<'_, T>,
    seen: &mut Seen,
    rng: &mut (impl Rng + ?Sized),
    take: impl Fn(usize) -> bool,
) -> Option<usize> {
    Branch::SearchedForRoom.reach();
    let len = group.list.len();
    let most = FULL_DRAWS.max(2 * group.rules.max_choices as usize);
    let mut avoided = (None, f32::INFINITY);
    while seen.distinct < most.min(len).min(MOST_SEEN) {
        let position = seen.draw(len, rng);
        let cost = costs.of(position);
        if cost < AVOIDED && take(position) {
            return Some(position);
        }
        if cost < avoided.1 {
            avoided = (Some(position), cost);
        }
    }
    avoided.0.filter(|&position| take(position))
}

/// The position and cost of the cheapest of two or more draws.
fn draw<T>(
    group: &Group<T>,
    costs: &Costs<'_, T>,
    shard: &Shard,
    rng: &mut (impl Rng + ?Sized),
    seen: &mut Option<Seen>,
) -> (usize, f32) {
    let list = &group.list;
    let ramp = group.ramp(costs.now, rng);
    let (first, second) = drawn_two(group, ramp.as_ref(), rng);
    let (a, b) = (costs.of(first), costs.of(second));
    let mut best = if b < a { (second, b) } else { (first, a) };

    let rules = &group.rules;
    let poor = POOR * shard.winners();
    if best.1 > poor && poor > 0.0 && rules.max_choices > 2 && list.len() > 2 {
        let fair = POOR * costs.fair();
        let poor = if poor < DOUBTFUL * fair { fair } else { poor };
        let seen = seen.insert(Seen::new());
        seen.add(first);
        seen.add(second);
        best = draw_more(group, costs, ramp.as_ref(), rng, seen, best, poor);
    }
    if best.1 < AVOIDED && costs.comparable {
        shard.won(best.1);
    }
    best
}

fn draw_more<T>(
    group: &Group<T>,
    costs: &Costs<'_, T>,
    ramp: Option<&Ramp>,
    rng: &mut (impl Rng + ?Sized),
    seen: &mut Seen,
    mut best: (usize, f32),
    poor: f32,
) -> (usize, f32) {
    let len = group.list.len();
    let most = (group.rules.max_choices as usize)
        .min(2 * len)
        .min(MAX_CHOICES);
    for _ in 2..most {
        if best.1 <= poor || seen.distinct == len {
            break;
        }
        let position = if group.list.is_even() {
            seen.draw(len, rng)
        } else {
            let position = weighted_again(group, seen.positions(), rng);
            if !seen.add(position) {
                continue;
            }
            position
        };
        if ramp.is_some_and(|ramp| !ramp.admits(group.list.member(position).stats.slow_since())) {
            continue;
        }
        let cost = costs.beside(position, best.0);
        if cost < best.1 {
            best = (position, cost);
        }
    }
    best
}

/// The positions that a pick has drawn, each once.
struct Seen {
    positions: [u32; MOST_SEEN],
    distinct: usize,
}

impl Seen {
    fn new() -> Self {
        Self {
            positions: [0; MOST_SEEN],
            distinct: 0,
        }
    }

    fn positions(&self) -> &[u32] {
        &self.positions[..self.distinct]
    }

    /// Adds a position; false if it was there already.
    fn add(&mut self, position: usize) -> bool {
        let position = position as u32;
        let is_new = !self.positions().contains(&position);
        if is_new {
            self.positions[self.distinct] = position;
            self.distinct += 1;
        }
        is_new
    }

    /// Draws a position below `len` that was not drawn yet, and adds it. There must be one.
    fn draw(&mut self, len: usize, rng: &mut (impl Rng + ?Sized)) -> usize {
        // In a large fleet nearly every draw is new. Sorting would cost more than drawing again.
        if len >= SPARSE * self.distinct {
            for _ in 0..REDRAWS {
                let position = below(rng.next_u64() as u32, len as u32) as usize;
                if self.add(position) {
                    return position;
                }
            }
        }
        self.positions[..self.distinct].sort_unstable();
        let mut position = below(rng.next_u64() as u32, (len - self.distinct) as u32);
        for &taken in self.positions() {
            position += u32::from(position >= taken);
        }
        self.add(position as usize);
        position as usize
    }
}

/// Draws two members by weight, as slow start admits them.
#[inline]
fn drawn_two<T>(
    group: &Group<T>,
    ramp: Option<&Ramp>,
    rng: &mut (impl Rng + ?Sized),
) -> (usize, usize) {
    match ramp {
        None => two(group, rng),
        Some(ramp) => two_ramped(group, ramp, rng),
    }
}

/// Draws two members by weight. They differ, unless weights are very uneven.
fn two<T>(group: &Group<T>, rng: &mut (impl Rng + ?Sized)) -> (usize, usize) {
    if group.list.is_even() {
        two_of(group.list.len() as u32, rng)
    } else {
        let first = weighted(group, rng);
        (first, weighted_again(group, &[first as u32], rng))
    }
}

/// Like [`two`], if some members are in slow start. If only one of the two is admitted, it is returned twice.
#[cold]
fn two_ramped<T>(group: &Group<T>, ramp: &Ramp, rng: &mut (impl Rng + ?Sized)) -> (usize, usize) {
    let admits = |position| ramp.admits(group.list.member(position).stats.slow_since());
    let mut drawn = two(group, rng);
    for _ in 0..REDRAWS {
        match (admits(drawn.0), admits(drawn.1)) {
            (true, true) => return drawn,
            (true, false) => return (drawn.0, drawn.0),
            (false, true) => return (drawn.1, drawn.1),
            (false, false) => drawn = two(group, rng),
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

fn weighted<T>(group: &Group<T>, rng: &mut (impl Rng + ?Sized)) -> usize {
    let total = group.list.total_weight();
    let ticket = (u128::from(rng.next_u64()) * u128::from(total)) >> 64;
    group.list.position_by_weight(ticket as u64)
}

/// Draws by weight after other draws. A member already drawn is kept with a probability that grows with its weight
/// relative to the mean. If all draws were distinct, two members of weights 10 and 1 would get equal shares.
fn weighted_again<T>(group: &Group<T>, seen: &[u32], rng: &mut (impl Rng + ?Sized)) -> usize {
    let mut position = weighted(group, rng);
    for _ in 0..REDRAWS {
        if !seen.contains(&(position as u32)) {
            break;
        }
        let kept = 1.0 - f64::from(group.list.inverse_weight(position));
        if unit(rng) < kept {
            break;
        }
        position = weighted(group, rng);
    }
    position
}

impl<T> Group<T> {
    /// Takes a slot of a member, if it has a free one.
    fn take(&self, position: usize) -> bool {
        let stats = &self.list.member(position).stats;
        stats.acquire(self.rules.max_in_flight)
    }

    /// Decides which members in slow start a pick may draw, if any member is in it.
    #[inline]
    fn ramp(&self, now: u64, rng: &mut (impl Rng + ?Sized)) -> Option<Ramp> {
        let SlowStart { returning, new } = self.slow_start;
        (self.slow_start.is_on()).then(|| Ramp::draw(returning, new, now, rng))
    }
}

/// The bounds between which latencies count as the fleet's mean. `None` while this many members answer too rarely to
/// notice a real change.
pub(crate) fn band(pool: &Pool, members: usize) -> Option<(f32, f32)> {
    pool.is_dense(members).then(|| pool.band())
}

/// Computes the costs of members at one conditions.
struct Costs<'a, T> {
    group: &'a Group<T>,
    now: u64,
    avoid: &'a [InstanceId],
    cap: u32,
    /// The fleet's mean latency in nanoseconds; zero: unknown or not used.
    mean: f32,
    /// Latencies between these bounds count as the mean.
    band: (f32, f32),
    /// The part of each latency that says nothing about an instance's load.
    way: f32,
    /// `None` while answers are rare.
    pool: Option<&'a Pool>,
    /// Whether costs of different moments can be compared.
    comparable: bool,
    /// Whether any member may be overloaded.
    is_any_overloaded: bool,
}

impl<'a, T> Costs<'a, T> {
    fn new(group: &'a Group<T>, conditions: Conditions<'a>) -> Self {
        let Conditions {
            pool,
            is_any_overloaded,
            now,
            avoid,
            ..
        } = conditions;
        let latency = group.rules.measures_latency;
        let mean = if latency { pool.mean() } else { 0.0 };
        let band = if latency {
            band(pool, group.list.len())
        } else {
            None
        };
        Self {
            group,
            now,
            avoid,
            cap: group.rules.max_in_flight.unwrap_or(u32::MAX),
            mean,
            band: band.unwrap_or((mean, mean)),
            way: if latency { pool.way() } else { 0.0 },
            pool: band.is_some().then_some(pool),
            comparable: !latency || mean > 0.0,
            is_any_overloaded,
        }
    }

    fn of(&self, position: usize) -> f32 {
        self.with_own(position, 1.0)
    }

    /// The cost of a further draw, to compare with the best one so far. If its member is lighter, the request itself weighs
    /// more, in the ratio of the weights. Otherwise picks with many draws would send light members more than they can
    /// take, because more draws find more of them idle.
    fn beside(&self, position: usize, best: usize) -> f32 {
        let list = &self.group.list;
        if list.is_even() {
            return self.of(position);
        }
        let own = list.weight(best) / list.weight(position);
        self.with_own(position, own.max(1.0))
    }

    /// The cost of an idle member with the fleet's mean latency.
    fn idle(&self) -> f32 {
        if self.mean > 0.0 {
            (self.mean - self.way).max(self.mean * LEAST_WORK)
        } else {
            1.0
        }
    }

    /// The cost of a good member with a fair load; zero while answers are rare.
    fn fair(&self) -> f32 {
        self.pool.map_or(0.0, |pool| {
            let in_flight = pool.in_flight() / self.group.list.len() as f32;
            (pool.low_latency() - self.way) * (1.0 + in_flight)
        })
    }

    /// The cost of a member. `own`: the weight of the request itself.
    #[inline]
    fn with_own(&self, position: usize, own: f32) -> f32 {
        let member = self.group.list.member(position);
        let stats = &member.stats;
        let in_flight = stats.in_flight();
        if in_flight >= self.cap {
            return f32::INFINITY;
        }
        let inverse_weight = self.group.list.inverse_weight(position);
        let cost = if self.mean > 0.0 {
            let latency = stats.latency().read(self.now, self.mean);
            let ordinary = in_flight == 0 && latency > self.band.0 && latency < self.band.1;
            let latency = if ordinary { self.mean } else { latency };
            (latency - self.way).max(latency * LEAST_WORK)
                * (in_flight as f32 * inverse_weight + own)
        } else {
            (in_flight as f32 + 1.0) * inverse_weight
        };
        let cost = if self.is_any_overloaded {
            cost * stats.overload().factor(self.now)
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
