//! Fleet-wide figures for picks and verdicts, kept without a cache line that every core writes.
//!
//! Each thread adds to its own shard with plain loads and stores. When the published figures are older than [`REFRESH`],
//! the next verdict adds up what the shards gained since. Two threads that share a shard may overwrite each other's sample.
//! This is acceptable for statistics; no count that must be exact is kept here.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, Release},
};
use std::sync::{Mutex, PoisonError, TryLockError};

use crate::fleet::measures::latency::{TAU, decay};

/// The interval between two refreshes of the published figures, in nanoseconds.
const REFRESH: u64 = 100_000_000;
/// At the start the interval is shorter: the time that the figures cover, divided by this.
const REFRESH_PART: u64 = 4;
/// Successes before the mean counts as known, if they come within [`WARM_UP_TIME`]. The first requests open connections and
/// warm caches. If they counted as ordinary, their members would be at a disadvantage for as long as the evidence lasts.
const WARM_UP: u64 = 8;
/// Nanoseconds after the first success from which fewer suffice. Otherwise callers with few requests would have no mean
/// for a long time.
const WARM_UP_TIME: u64 = 1_000_000_000;
/// The factor by which the least latency grows with each success, so that it follows a network that became slower.
const LEAST_GROWTH: f32 = 1.001;
/// The share of the newest winner in the average cost of winners.
const WINNER_SHARE: f32 = 1.0 / 32.0;
/// The share of the newest look in the average cost elsewhere. Larger, because looks are rare.
const ELSEWHERE_SHARE: f32 = 1.0 / 8.0;
/// The width of the band of ordinary latencies: it begins at the fleet's mean divided by this, and ends where a latency exceeds
/// the mean by half of what the mean exceeds the least one by. At a third, a pause that all members share leaves one of them
/// without requests for over 5 s in one of 20 runs.
const BAND: f32 = 1.5;
/// If the mean exceeds the least latency by less than this part of itself, the band is computed from the whole mean. All
/// answers then take about the same time, and a single late one would move its member out of a narrow band.
const TIGHT: f32 = 0.25;
/// The part of the least latency that counts as network time. Not all of it: where all answers take about the same time, the
/// least latency is mostly work.
const WAY: f32 = 0.6;
/// One in this many members is below the low latency.
const FEW: f32 = 4.0;
/// The part by which the low latency falls for each sampled member below it.
const LOW_STEP: f32 = 1.0 / 32.0;
/// Answers are dense from this many per second and member.
const DENSE: f32 = 3.0;
/// The number of shards. If there are more threads, some share one.
const SHARDS: usize = 16;

#[derive(Debug)]
pub(crate) struct Pool {
    shards: [Shard; SHARDS],
    published: Published,
    sums: Mutex<Sums>,
}

/// What one thread saw, on its own cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Shard {
    /// The average cost of recent winners, an `f32`; zero: none yet.
    winners: AtomicU32,
    /// The average cost of members of other zones that picks looked at, an `f32`; zero: none yet.
    elsewhere: AtomicU32,
    /// All successes and failures.
    outcomes: AtomicU64,
    successes: AtomicU64,
    /// The sum of the latencies of all successes, in nanoseconds.
    nanos: AtomicU64,
    /// The least latency of a success in nanoseconds, an `f32`. It grows with each success; zero: none yet.
    least: AtomicU32,
}

/// Written ten times a second, read by every pick.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Published {
    /// The mean latency of successes in nanoseconds, an `f32`; zero: unknown.
    mean: AtomicU32,
    /// Latencies between these bounds are ordinary, `f32`s.
    low: AtomicU32,
    high: AtomicU32,
    /// The part of each latency that is network time, in nanoseconds, an `f32`.
    way: AtomicU32,
    /// The latency below which one in [`FEW`] members is, an `f32`; zero: unknown.
    low_latency: AtomicU32,
    /// Outcomes per second, an `f32`.
    rate: AtomicU32,
    /// When to compute the figures next.
    due: AtomicU64,
}

#[derive(Debug, Default)]
struct Sums {
    seen: [Seen; SHARDS],
    /// The number of all successes.
    warmth: u64,
    /// When the first success came.
    warm_since: Option<u64>,
    /// The least latency of a success.
    least: f32,
    /// When the first outcome came.
    began: Option<u64>,
    stamp: u64,
    /// Decaying sums of outcomes, successes, and latencies of successes in nanoseconds.
    recent: f64,
    successes: f64,
    nanos: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    outcomes: u64,
    successes: u64,
    nanos: u64,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self {
            shards: Default::default(),
            published: Published::default(),
            sums: Mutex::default(),
        }
    }

    /// The mean latency of successes in nanoseconds; zero until the pool has warmed up.
    pub(crate) fn mean(&self) -> f32 {
        f32::from_bits(self.published.mean.load(Relaxed))
    }

    /// Latencies between these bounds count as ordinary.
    pub(crate) fn band(&self) -> (f32, f32) {
        let Published { low, high, .. } = &self.published;
        (
            f32::from_bits(low.load(Relaxed)),
            f32::from_bits(high.load(Relaxed)),
        )
    }

    /// The part of each latency that is network time and says nothing about load, in nanoseconds.
    pub(crate) fn way(&self) -> f32 {
        f32::from_bits(self.published.way.load(Relaxed))
    }

    /// The latency below which one in [`FEW`] members is; zero until latencies have been sampled.
    pub(crate) fn low_latency(&self) -> f32 {
        f32::from_bits(self.published.low_latency.load(Relaxed))
    }

    /// Updates the low latency. All members must be sampled equally often.
    pub(crate) fn look_at_latencies(&self, latencies: impl Iterator<Item = f32>) {
        // Steps up and down balance at the quantile (stochastic approximation).
        let low = latencies.fold(self.low_latency(), |low, latency| {
            if low == 0.0 {
                latency
            } else if latency < low {
                low * (1.0 - LOW_STEP)
            } else {
                low * (1.0 + LOW_STEP / (FEW - 1.0))
            }
        });
        self.published.low_latency.store(low.to_bits(), Relaxed);
    }

    /// The average number of requests in flight, by Little's law.
    pub(crate) fn in_flight(&self) -> f32 {
        self.rate() * self.mean() / 1e9
    }

    /// The mean time between two requests to one of this many members, in nanoseconds; the maximum while there are none.
    pub(crate) fn gap(&self, members: usize) -> u64 {
        (members as f32 * 1e9 / self.rate()) as u64
    }

    /// Whether this many members answer often enough to notice a change in one of them within a second or two.
    pub(crate) fn is_dense(&self, members: usize) -> bool {
        self.rate() >= DENSE * members as f32
    }

    /// Outcomes per second that this balancer sees.
    pub(crate) fn rate(&self) -> f32 {
        f32::from_bits(self.published.rate.load(Relaxed))
    }

    /// The calling thread's shard.
    fn shard(&self) -> &Shard {
        self.numbered(self.shard_number())
    }

    pub(crate) fn shard_number(&self) -> usize {
        thread_number() % SHARDS
    }

    /// The shard with a number from [`shard_number`](Self::shard_number).
    pub(crate) fn numbered(&self, shard: usize) -> &Shard {
        &self.shards[shard % SHARDS]
    }

    pub(crate) fn success(&self, nanos: u64, now: u64) {
        let shard = self.shard();
        add(&shard.successes, 1);
        add(&shard.nanos, nanos);
        let (least, latency) = (f32::from_bits(shard.least.load(Relaxed)), nanos as f32);
        let least = if least > 0.0 {
            latency.min(least * LEAST_GROWTH)
        } else {
            latency
        };
        shard.least.store(least.to_bits(), Relaxed);
        self.outcome(shard, now);
    }

    pub(crate) fn failure(&self, now: u64) {
        self.outcome(self.shard(), now);
    }

    /// The number of all outcomes, as exact as the threads' counts are.
    pub(crate) fn outcomes(&self) -> u64 {
        let counts = self.shards.iter().map(|shard| &shard.outcomes);
        counts.fold(0, |sum, count| sum.wrapping_add(count.load(Relaxed)))
    }

    fn outcome(&self, shard: &Shard, now: u64) {
        add(&shard.outcomes, 1);
        if now >= self.published.due.load(Relaxed) {
            self.refresh(now);
        }
    }

    /// Forgets the costs of earlier picks, because the unit of costs has changed.
    pub(crate) fn forget_winners(&self) {
        for shard in &self.shards {
            shard.winners.store(0, Relaxed);
            shard.elsewhere.store(0, Relaxed);
        }
    }

    #[cold]
    fn refresh(&self, now: u64) {
        let mut sums = match self.sums.try_lock() {
            Ok(sums) => sums,
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
        };
        let sums = &mut *sums;
        let elapsed = now.saturating_sub(sums.stamp);
        let fade = f64::from(decay(elapsed));
        sums.recent *= fade;
        sums.successes *= fade;
        sums.nanos *= fade;
        sums.stamp = sums.stamp.max(now);
        let (mut outcomes, mut successes, mut least) = (0, 0, f32::INFINITY);
        for (shard, seen) in self.shards.iter().zip(&mut sums.seen) {
            outcomes += gained(&shard.outcomes, &mut seen.outcomes);
            let successes_here = gained(&shard.successes, &mut seen.successes);
            if successes_here > 0 {
                successes += successes_here;
                least = least.min(f32::from_bits(shard.least.load(Relaxed)));
            }
            sums.nanos += gained(&shard.nanos, &mut seen.nanos) as f64;
        }
        sums.recent += outcomes as f64;
        sums.successes += successes as f64;
        sums.warmth += successes;
        if successes > 0 {
            sums.warm_since.get_or_insert(now);
        }
        let warming_for = sums.warm_since.map_or(0, |since| now.saturating_sub(since));
        let is_warm = sums.warmth >= WARM_UP || warming_for >= WARM_UP_TIME;
        // Below a thousandth of an answer the sums have nearly decayed to zero, and the last mean is better.
        if is_warm && sums.successes > 1e-3 {
            let mean = (sums.nanos / sums.successes).max(1.0);
            if least.is_finite() {
                sums.least = least;
            }
            self.published.publish(mean as f32, sums.least);
        }
        let age = now.saturating_sub(*sums.began.get_or_insert(now));
        let window = (age as f64).clamp(1.0, f64::from(TAU));
        let rate = sums.recent * 1e9 / window;
        self.published.rate.store((rate as f32).to_bits(), Relaxed);
        if self.mean() > 0.0 {
            let due = now.saturating_add(REFRESH.min(age / REFRESH_PART));
            self.published.due.store(due, Release);
        }
    }
}

impl Published {
    fn publish(&self, mean: f32, least: f32) {
        let least = least.min(mean);
        let excess = mean - least;
        let excess = if excess < TIGHT * mean { mean } else { excess };
        // The lower bound uses the whole mean: a few late answers raise the mean above what nearly all members take, and
        // a new member starts at the mean.
        let low = mean / BAND;
        let high = mean + excess * (BAND - 1.0);
        for (figure, value) in [
            (&self.mean, mean),
            (&self.low, low),
            (&self.high, high),
            (&self.way, WAY * least),
        ] {
            figure.store(value.to_bits(), Relaxed);
        }
    }
}

impl Shard {
    /// The average cost of recent winners; zero until there was one.
    pub(crate) fn winners(&self) -> f32 {
        f32::from_bits(self.winners.load(Relaxed))
    }

    pub(crate) fn won(&self, cost: f32) {
        follow(&self.winners, cost, WINNER_SHARE);
    }

    /// The average cost of members of other zones that picks looked at; zero until there was one.
    pub(crate) fn elsewhere(&self) -> f32 {
        f32::from_bits(self.elsewhere.load(Relaxed))
    }

    pub(crate) fn looked_elsewhere(&self, cost: f32) {
        follow(&self.elsewhere, cost, ELSEWHERE_SHARE);
    }
}

/// Moves an average, an `f32`, towards a new value; zero: there was none yet.
fn follow(average: &AtomicU32, value: f32, share: f32) {
    let before = f32::from_bits(average.load(Relaxed));
    let next = if before == 0.0 {
        value
    } else {
        before + (value - before) * share
    };
    average.store(next.to_bits(), Relaxed);
}

/// Adds with a load and a store, not a read-modify-write, because the shard belongs to this thread.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

/// What a counter gained since it was last read. Threads that share a shard can set it back; this counts as no gain.
fn gained(counter: &AtomicU64, seen: &mut u64) -> u64 {
    let now = counter.load(Relaxed);
    let gain = now.wrapping_sub(*seen) as i64;
    *seen = now;
    gain.max(0) as u64
}

/// The number of the calling thread, below [`SHARDS`].
fn thread_number() -> usize {
    use std::cell::Cell;
    use std::sync::atomic::AtomicUsize;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) });
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Relaxed) % SHARDS);
        }
        number.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A pool that has warmed up with this latency.
    fn warm(nanos: u64) -> Pool {
        let pool = Pool::new();
        for _ in 0..WARM_UP {
            pool.success(nanos, 0);
        }
        assert_eq!(pool.mean(), nanos as f32);
        pool
    }

    #[test]
    fn mean_is_unknown_during_warm_up() {
        let pool = Pool::new();
        for millisecond in 1..WARM_UP {
            pool.failure(millisecond * MS);
            pool.success(7 * MS, millisecond * MS);
            assert_eq!(pool.mean(), 0.0);
        }
        pool.success(7 * MS, WARM_UP * MS);
        assert!((pool.mean() / 7e6 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn mean_and_rate_follow_answers() {
        let pool = Pool::new();
        for millisecond in 0..30_000 {
            pool.success(10 * MS, millisecond * MS);
        }
        assert_eq!(pool.mean(), 10e6);
        assert!(
            (pool.rate() / 1000.0 - 1.0).abs() < 0.05,
            "{} answers/s, expected 1000",
            pool.rate()
        );
    }

    #[test]
    fn figures_include_all_threads() {
        let pool = warm(10 * MS);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..WARM_UP).for_each(|_| pool.success(40 * MS, MS)));
        });
        pool.failure(200 * MS);
        let mean = pool.mean();
        assert!((mean / 25e6 - 1.0).abs() < 0.03, "{mean} ns, expected 25e6");
    }

    #[test]
    fn mean_survives_an_idle_day() {
        let pool = warm(10 * MS);
        pool.failure(86_400_000 * MS);
        assert_eq!(pool.mean(), 10e6);
    }

    #[test]
    fn clock_going_backwards_is_harmless() {
        let pool = warm(10 * MS);
        pool.success(10 * MS, 1000 * MS);
        pool.success(10 * MS, 0);
        pool.success(10 * MS, 2000 * MS);
        assert!((pool.mean() / 10e6 - 1.0).abs() < 1e-3);
    }
}
