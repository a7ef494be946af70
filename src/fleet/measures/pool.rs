//! Figures of the whole fleet that picks and verdicts use, kept without a line of memory that every core writes.
//!
//! Each thread adds to a shard of its own with plain loads and stores. When the published figures are older than
//! [`REFRESH`], the next verdict adds up what the shards gained since. Two threads that share a shard may lose a sample
//! to each other: these are statistics, and no count that anybody relies on is kept here.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, Release},
};
use std::sync::{Mutex, PoisonError, TryLockError};

use crate::fleet::measures::latency::{TAU, decay};

/// Nanoseconds for which the published figures are good enough.
const REFRESH: u64 = 100_000_000;
/// In the beginning they are good enough for this part of the time they cover.
const REFRESH_PART: u64 = 4;
/// Successes before the mean counts as known, if they come within [`WARM_UP_TIME`]. The first ones open connections and warm
/// caches; taken for ordinary, they would put their members at a disadvantage for as long as the evidence lasts.
const WARM_UP: u64 = 8;
/// Nanoseconds after the first success from when fewer do. Callers with few requests would be blind for long.
const WARM_UP_TIME: u64 = 1_000_000_000;
/// How much the least latency grows with each success, so that it follows a network that became slower.
const LEAST_GROWTH: f32 = 1.001;
/// Share that a new winner has in the average cost of winners.
const WINNER_SHARE: f32 = 1.0 / 32.0;
/// Latencies above the fleet's mean divided by this count as ordinary.
const BAND_BELOW: f32 = 1.5;
/// So do those whose excess over the least latency is below the mean's times this. At 1.5 the members that take twice as long
/// behind 20 ms of network are in the band.
const BAND_ABOVE: f32 = 4.0 / 3.0;
/// Where less than this part of the mean exceeds the least latency, the band is around the whole mean. All answers take about
/// as long there, and one that was late would lift its member out of a narrow band.
const TIGHT: f32 = 0.25;
/// The part of the least latency that counts as the way to the instances, at the most. At 0.6 the p99 of one caller 20 ms
/// away is 0.98 of tower's, at 0.9 it is 0.954.
const WAY: f32 = 0.9;
/// That part is at most this many times the part of the mean that exceeds the least latency. Where all answers take about as
/// long, the least one is work: without it a busy member would be preferred to an idle one for a hundredth of latency.
const VARIED: f32 = 2.5;
/// Members of which one is below the low latency.
const FEW: f32 = 4.0;
/// Part by which the low latency falls with each faster member that is looked at.
const LOW_STEP: f32 = 1.0 / 32.0;
/// Answers per second and member from which on they are dense.
const DENSE: f32 = 3.0;
/// Threads beyond this many share.
const SHARDS: usize = 16;

#[derive(Debug)]
pub(crate) struct Pool {
    shards: [Shard; SHARDS],
    published: Published,
    sums: Mutex<Sums>,
}

/// What one thread saw. On a line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Shard {
    /// Average cost of recent winners, an `f32`; zero: none yet.
    winners: AtomicU32,
    /// Successes and failures, ever.
    outcomes: AtomicU64,
    successes: AtomicU64,
    /// Nanoseconds of all successes, ever.
    nanos: AtomicU64,
    /// The least latency of a success, in nanoseconds, an `f32` that grows with each; zero: none yet.
    least: AtomicU32,
}

/// Written ten times a second, read by every pick.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Published {
    /// Mean latency of successes in nanoseconds, an `f32`; zero: unknown.
    mean: AtomicU32,
    /// Latencies between these are ordinary, `f32`s.
    low: AtomicU32,
    high: AtomicU32,
    /// The part of each latency that is the way to the instances, an `f32`.
    way: AtomicU32,
    /// The latency that one of [`FEW`] members is below, an `f32`; zero: unknown.
    low_latency: AtomicU32,
    /// Outcomes per second, an `f32`.
    rate: AtomicU32,
    /// When the figures are next worth adding up.
    due: AtomicU64,
}

#[derive(Debug, Default)]
struct Sums {
    seen: [Seen; SHARDS],
    /// Successes ever.
    warmth: u64,
    /// When the first success came.
    warm_since: Option<u64>,
    /// The least latency of a success.
    least: f32,
    /// When the first outcome came.
    began: Option<u64>,
    stamp: u64,
    /// Decaying: outcomes, successes, nanoseconds of successes.
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

    /// Mean latency of successes in nanoseconds; zero until there were a few.
    pub(crate) fn mean(&self) -> f32 {
        f32::from_bits(self.published.mean.load(Relaxed))
    }

    /// Latencies between these count as ordinary.
    pub(crate) fn band(&self) -> (f32, f32) {
        let Published { low, high, .. } = &self.published;
        (
            f32::from_bits(low.load(Relaxed)),
            f32::from_bits(high.load(Relaxed)),
        )
    }

    /// The part of each latency that is the way to the instances, and says nothing of their load, in nanoseconds.
    pub(crate) fn way(&self) -> f32 {
        f32::from_bits(self.published.way.load(Relaxed))
    }

    /// The latency that few members are below; zero until it was looked at.
    pub(crate) fn low_latency(&self) -> f32 {
        f32::from_bits(self.published.low_latency.load(Relaxed))
    }

    /// Latencies of members, each of them looked at as often as any other.
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

    /// Requests in flight on average, by Little's law.
    pub(crate) fn in_flight(&self) -> f32 {
        self.rate() * self.mean() / 1e9
    }

    /// Nanoseconds in which one of this many members gets a request, on average; without end while there are none.
    pub(crate) fn gap(&self, members: usize) -> u64 {
        (members as f32 * 1e9 / self.rate()) as u64
    }

    /// Whether answers of this many members come often enough to notice a change of one within a second or two.
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

    /// The shard of a number that [`shard_number`](Self::shard_number) gave.
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

    /// Outcomes ever, as far as the threads' counts are exact.
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

    /// Forgets what winners cost: costs are about to have another unit.
    pub(crate) fn forget_winners(&self) {
        for shard in &self.shards {
            shard.winners.store(0, Relaxed);
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
        // Below a thousandth of an answer the sums are about to vanish, and the last mean is the better one.
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
        let way = least * WAY.min(VARIED * excess / mean);
        let excess = if excess < TIGHT * mean { mean } else { excess };
        // Around the whole mean: few late answers raise it above what nearly all members take, and a newcomer starts at it.
        let low = mean / BAND_BELOW;
        let high = mean + excess * (BAND_ABOVE - 1.0);
        for (figure, value) in [
            (&self.mean, mean),
            (&self.low, low),
            (&self.high, high),
            (&self.way, way),
        ] {
            figure.store(value.to_bits(), Relaxed);
        }
    }
}

impl Shard {
    /// Average cost of recent winners; zero until there was one.
    pub(crate) fn winners(&self) -> f32 {
        f32::from_bits(self.winners.load(Relaxed))
    }

    pub(crate) fn won(&self, cost: f32) {
        let average = self.winners();
        let next = if average == 0.0 {
            cost
        } else {
            average + (cost - average) * WINNER_SHARE
        };
        self.winners.store(next.to_bits(), Relaxed);
    }
}

/// A load and a store, not a read-modify-write: the shard is this thread's own.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

/// What a counter gained since it was last seen. Threads that share a shard can set it back: that is no gain.
fn gained(counter: &AtomicU64, seen: &mut u64) -> u64 {
    let now = counter.load(Relaxed);
    let gain = now.wrapping_sub(*seen) as i64;
    *seen = now;
    gain.max(0) as u64
}

/// A small number of its own for each thread.
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

    /// Of a pool that has warmed up.
    fn warm(nanos: u64) -> Pool {
        let pool = Pool::new();
        for _ in 0..WARM_UP {
            pool.success(nanos, 0);
        }
        assert_eq!(pool.mean(), nanos as f32);
        pool
    }

    #[test]
    fn the_mean_is_unknown_until_a_few_successes() {
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
    fn mean_and_rate_follow_the_answers() {
        let pool = Pool::new();
        for millisecond in 0..30_000 {
            pool.success(10 * MS, millisecond * MS);
        }
        assert_eq!(pool.mean(), 10e6);
        assert!(
            (pool.rate() / 1000.0 - 1.0).abs() < 0.05,
            "{} answers/s, not 1000",
            pool.rate()
        );
    }

    #[test]
    fn all_threads_are_added_up() {
        let pool = warm(10 * MS);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..WARM_UP).for_each(|_| pool.success(40 * MS, MS)));
        });
        pool.failure(200 * MS);
        assert!((pool.mean() / 25e6 - 1.0).abs() < 0.03, "{}", pool.mean());
    }

    #[test]
    fn the_mean_outlives_an_idle_day() {
        let pool = warm(10 * MS);
        pool.failure(86_400_000 * MS);
        assert_eq!(pool.mean(), 10e6);
    }

    #[test]
    fn time_that_goes_back_is_harmless() {
        let pool = warm(10 * MS);
        pool.success(10 * MS, 1000 * MS);
        pool.success(10 * MS, 0);
        pool.success(10 * MS, 2000 * MS);
        assert!((pool.mean() / 10e6 - 1.0).abs() < 1e-3);
    }
}
