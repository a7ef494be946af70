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

use super::load::{TAU, decay};

/// Nanoseconds for which the published figures are good enough.
const REFRESH: u64 = 100_000_000;
/// In the beginning they are good enough for this part of the time they cover.
const REFRESH_PART: u64 = 4;
/// Successes before the mean counts as known. The first ones open connections and warm caches; taken for ordinary, they
/// would put their members at a disadvantage for as long as the evidence lasts.
const WARM_UP: u64 = 8;
/// Share that a new winner has in the average cost of winners.
const WINNER_SHARE: f32 = 1.0 / 32.0;
/// Threads beyond this many share.
const SHARDS: usize = 16;

#[derive(Debug)]
pub(super) struct Pool {
    shards: [Shard; SHARDS],
    published: Published,
    sums: Mutex<Sums>,
}

/// What one thread saw. On a line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Shard {
    /// Average cost of recent winners, an `f32`; zero: none yet.
    winners: AtomicU32,
    /// Successes and failures, ever.
    outcomes: AtomicU64,
    successes: AtomicU64,
    /// Nanoseconds of all successes, ever.
    nanos: AtomicU64,
}

/// Written ten times a second, read by every pick.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Published {
    /// Mean latency of successes in nanoseconds, an `f32`; zero: unknown.
    mean: AtomicU32,
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
    pub(super) fn new() -> Self {
        Self {
            shards: Default::default(),
            published: Published::default(),
            sums: Mutex::default(),
        }
    }

    /// Mean latency of successes in nanoseconds; zero until there were a few.
    pub(super) fn mean(&self) -> f32 {
        f32::from_bits(self.published.mean.load(Relaxed))
    }

    /// Outcomes per second that this balancer sees.
    pub(super) fn rate(&self) -> f32 {
        f32::from_bits(self.published.rate.load(Relaxed))
    }

    /// The calling thread's shard.
    fn shard(&self) -> &Shard {
        self.numbered(self.shard_number())
    }

    pub(super) fn shard_number(&self) -> usize {
        thread_number() % SHARDS
    }

    /// The shard of a number that [`shard_number`](Self::shard_number) gave.
    pub(super) fn numbered(&self, shard: usize) -> &Shard {
        &self.shards[shard % SHARDS]
    }

    pub(super) fn success(&self, nanos: u64, now: u64) {
        let shard = self.shard();
        add(&shard.successes, 1);
        add(&shard.nanos, nanos);
        self.outcome(shard, now);
    }

    pub(super) fn failure(&self, now: u64) {
        self.outcome(self.shard(), now);
    }

    /// Outcomes ever, as far as the threads' counts are exact.
    pub(super) fn outcomes(&self) -> u64 {
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
    pub(super) fn forget_winners(&self) {
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
        let (mut outcomes, mut successes) = (0, 0);
        for (shard, seen) in self.shards.iter().zip(&mut sums.seen) {
            outcomes += gained(&shard.outcomes, &mut seen.outcomes);
            successes += gained(&shard.successes, &mut seen.successes);
            sums.nanos += gained(&shard.nanos, &mut seen.nanos) as f64;
        }
        sums.recent += outcomes as f64;
        sums.successes += successes as f64;
        sums.warmth += successes;
        // Below a thousandth of an answer the sums are about to vanish, and the last mean is the better one.
        if sums.warmth >= WARM_UP && sums.successes > 1e-3 {
            let mean = (sums.nanos / sums.successes).max(1.0);
            self.published.mean.store((mean as f32).to_bits(), Relaxed);
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

impl Shard {
    /// Average cost of recent winners; zero until there was one.
    pub(super) fn winners(&self) -> f32 {
        f32::from_bits(self.winners.load(Relaxed))
    }

    pub(super) fn won(&self, cost: f32) {
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
