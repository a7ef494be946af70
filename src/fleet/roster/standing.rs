//! The standing of each member. This module is the one owner of that fact.
//!
//! ```text
//!            a rule fired, or ejected by hand               its time is over
//!   in play ──────────────────────────────────▶ ejected ──────────────────▶ on probation
//!      ▲                                            ▲                             │
//!      │ slow start is over                         └──────── trial failed ───────┤
//!  returning ◀─────────────────────── trial succeeded, or restored by hand ───────┘
//! ```
//!
//! Not drawn: a rule or a caller can also eject a returning member. A caller can eject a member that is out, and can restore
//! one that is ejected. Without slow start a member returns directly to *in play*.
//!
//! Ejected members and those on probation are *out*: they are picked only in panic mode. A member on probation returns when a
//! trial succeeds. A member that is not out can be marked as a *suspect*.
//!
//! An ejection ends early if the member has connected at another address, or if the [cap](crate::fleet::rules::cap) needs a
//! member back in play.
//!
//! [`Standing`] lives in the member's seat. [`Standings`] indexes members by standing, each set ordered by time. A method that
//! changes a standing updates both, and the flag in [`Stats`] that picks and verdicts read. It returns the event to report.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use crate::event::Event;
use crate::event::reason::EjectionReason;
use crate::fleet::config::outlier::OutlierConfig;
use crate::fleet::members::stats::Stats;
use crate::fleet::rng::Rng;
use crate::fleet::rules::ejection_time::Multiplier;
use crate::fleet::rules::trial::Bucket;
use crate::model::instance::{Instance, InstanceId};
use crate::status::{EjectionCounters, EjectionStatus};

/// The most members to examine when one is chosen for a trial. More than one, because some are not connected.
const MAX_CANDIDATES: usize = 64;

/// The standing of one member, and its history of ejections. Only [`Standings`] changes it.
#[derive(Debug, Default)]
pub(crate) struct Standing(Option<Box<History>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    InPlay,
    Ejected {
        until: u64,
    },
    Probation {
        since: u64,
    },
    Returning {
        since: u64,
    },
    /// In slow start after its first connection.
    New {
        since: u64,
    },
}

#[derive(Debug)]
struct History {
    state: State,
    is_suspect: bool,
    reason: EjectionReason,
    multiplier: Multiplier,
    ejections: u64,
    /// The instance at the time of its ejection.
    instance: Option<Instance>,
    /// When it was ejected, or returned.
    since: u64,
    /// When a rule ejected it, or when its last trial since then failed.
    tried_at: u64,
    /// Trials that failed since it was ejected.
    failed_trials: u32,
    /// Trials as a suspect that failed since its last success.
    suspect_trials: u32,
    /// Total nanoseconds that callers waited for trials that they abandoned. Reset when a trial ends with a verdict.
    abandoned_wait: u64,
}

/// A member whose standing changes.
pub(crate) struct Subject<'a> {
    pub(crate) id: &'a InstanceId,
    /// The instance that the connection was dialled to. Discovery may have announced another address since.
    pub(crate) instance: &'a Instance,
    pub(crate) standing: &'a mut Standing,
    pub(crate) stats: &'a Stats,
    /// Where a trial that is cut short returns its token.
    pub(crate) tokens: &'a Bucket,
}

impl Standing {
    pub(crate) fn is_out(&self) -> bool {
        matches!(
            self.state(),
            State::Ejected { .. } | State::Probation { .. }
        )
    }

    pub(crate) fn is_ejected(&self) -> bool {
        matches!(self.state(), State::Ejected { .. })
    }

    pub(crate) fn is_on_probation(&self) -> bool {
        matches!(self.state(), State::Probation { .. })
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.0.as_ref().is_some_and(|history| history.is_suspect)
    }

    /// Whether it is new, and slow start applies to new members.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self.state(), State::New { .. })
    }

    /// Whether it waits for a trial.
    pub(crate) fn awaits_trial(&self) -> bool {
        self.is_on_probation() || self.is_suspect()
    }

    pub(crate) fn is_ejected_by_rule(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|h| h.ejected_by_rule_at().is_some())
    }

    /// Whether it is out because of a rule, not by hand.
    pub(crate) fn is_out_by_rule(&self) -> bool {
        let by_rule = |history: &History| history.reason != EjectionReason::Manual;
        self.is_out() && self.0.as_deref().is_some_and(by_rule)
    }

    /// Whether it is ejected, and had another address when that happened.
    pub(crate) fn is_ejected_from_elsewhere(&self, instance: &Instance) -> bool {
        let then = self
            .0
            .as_ref()
            .and_then(|history| history.instance.as_ref());
        self.is_ejected() && then.is_some_and(|then| !then.has_addresses_of(instance))
    }

    /// Trials as a suspect that failed since its last success.
    pub(crate) fn suspect_trials(&self) -> u32 {
        self.0.as_ref().map_or(0, |history| history.suspect_trials)
    }

    /// The status of its last ejection. `successes`: all successes of the member so far.
    pub(crate) fn status(
        &self,
        successes: u64,
        config: &OutlierConfig,
        now: u64,
    ) -> Option<EjectionStatus> {
        let history = self.0.as_ref().filter(|history| history.ejections > 0)?;
        let is_over = !self.is_out();
        let remaining = match history.state {
            State::Ejected { until } => Some(Duration::from_nanos(until.saturating_sub(now))),
            _ => None,
        };
        Some(EjectionStatus {
            reason: history.reason,
            ejections: history.ejections,
            multiplier: if is_over {
                history.multiplier.decayed(successes, config, now)
            } else {
                history.multiplier.doublings()
            },
            since: Duration::from_nanos(now.saturating_sub(history.since)),
            is_over,
            probation: match history.state {
                State::Probation { since } => Some(Duration::from_nanos(now.saturating_sub(since))),
                _ => None,
            },
            remaining,
        })
    }

    fn state(&self) -> State {
        self.0
            .as_ref()
            .map_or(State::InPlay, |history| history.state)
    }

    fn history(&mut self) -> &mut History {
        self.0.get_or_insert_default()
    }
}

impl Default for History {
    fn default() -> Self {
        Self {
            state: State::InPlay,
            is_suspect: false,
            reason: EjectionReason::Manual,
            multiplier: Multiplier::default(),
            ejections: 0,
            instance: None,
            since: 0,
            tried_at: 0,
            failed_trials: 0,
            suspect_trials: 0,
            abandoned_wait: 0,
        }
    }
}

impl History {
    /// If a rule ejected it and it is still ejected: when that was, or when a trial failed since then, whichever is later.
    fn ejected_by_rule_at(&self) -> Option<u64> {
        let is_ejected = matches!(self.state, State::Ejected { .. });
        (is_ejected && self.reason != EjectionReason::Manual).then_some(self.tried_at)
    }
}

type ByTime = BTreeSet<(u64, InstanceId)>;

/// Members by standing, each set ordered by time.
#[derive(Debug, Default)]
pub(crate) struct Standings {
    /// When ejections end.
    ends: ByTime,
    /// Members on probation, by the moment at which probation began.
    probation: ByTime,
    /// Members in slow start, by the moment at which slow start began.
    returning: ByTime,
    /// New members, by the moment at which they connected.
    new: ByTime,
    /// Members that a rule ejected, by the moment at which they were ejected or last failed a trial.
    tried: ByTime,
    suspects: BTreeSet<InstanceId>,
    /// The last member on probation that had its turn.
    turn: Option<(u64, InstanceId)>,
    counters: EjectionCounters,
}

impl Standings {
    /// Ejects a member by a rule.
    pub(crate) fn eject(
        &mut self,
        member: Subject<'_>,
        reason: EjectionReason,
        config: &OutlierConfig,
        rng: &mut (impl Rng + ?Sized),
        now: u64,
    ) -> Event {
        let successes = member.stats.successes();
        let time = self.change(&member.id.clone(), member.standing, |history| {
            history.multiplier.decay(successes, config, now);
            history.reason = reason;
            history.ejections += 1;
            history.failed_trials = 0;
            history.since = now;
            history.begin_ejection(member.instance, config, rng, now)
        });
        self.counters.ejected += 1;
        self.leave_play(member.id, member.standing, member.stats, member.tokens, now);
        ejected(&member, reason, time)
    }

    /// Ejects a member by hand, for `time` nanoseconds. It may be out already.
    pub(crate) fn eject_by_hand(
        &mut self,
        member: Subject<'_>,
        time: u64,
        config: &OutlierConfig,
        now: u64,
    ) -> Event {
        let was_out = member.standing.is_out();
        let successes = member.stats.successes();
        self.change(member.id, member.standing, |history| {
            if !was_out {
                history.multiplier.decay(successes, config, now);
                history.ejections += 1;
                history.failed_trials = 0;
                history.since = now;
            }
            history.instance = Some(member.instance.clone());
            history.reason = EjectionReason::Manual;
            let until = now.saturating_add(time);
            history.state = State::Ejected { until };
        });
        self.counters.ejected += u64::from(!was_out);
        self.leave_play(member.id, member.standing, member.stats, member.tokens, now);
        ejected(&member, EjectionReason::Manual, time)
    }

    /// Puts a member on probation: its ejection is over, or it may have recovered early. A trial decides.
    pub(crate) fn begin_probation(&mut self, member: Subject<'_>, now: u64) -> Event {
        self.change(member.id, member.standing, |history| {
            history.abandoned_wait = 0;
            history.state = State::Probation { since: now };
        });
        Event::Probation {
            id: member.id.clone(),
            address: member.instance.address().clone(),
        }
    }

    /// Ejects a member again because its trial on probation failed. The ejection time grows, up to its maximum.
    pub(crate) fn fail_trial(
        &mut self,
        member: Subject<'_>,
        config: &OutlierConfig,
        rng: &mut (impl Rng + ?Sized),
        now: u64,
    ) -> Event {
        let (time, failed_trials) = self.change(member.id, member.standing, |history| {
            history.failed_trials = history.failed_trials.saturating_add(1);
            let time = history.begin_ejection(member.instance, config, rng, now);
            (time, history.failed_trials)
        });
        Event::TrialFailed {
            id: member.id.clone(),
            address: member.instance.address().clone(),
            failed_trials,
            label: member.stats.label().get(),
            time: Duration::from_nanos(time),
        }
    }

    /// Puts a member back into play. `by_trial`: whether a trial succeeded. `latency`: the sample that its latency starts from, if any. `slow_start`: whether slow start is
    /// configured.
    pub(crate) fn return_to_play(
        &mut self,
        member: Subject<'_>,
        by_trial: bool,
        latency: Option<f32>,
        slow_start: bool,
        now: u64,
    ) -> Event {
        let Subject {
            id,
            instance,
            standing,
            stats,
            tokens,
        } = member;
        stats.enter_play(latency, slow_start, tokens, now);
        let successes = stats.successes();
        let (out, failed_trials, reason) = self.change(id, standing, |history| {
            let out = now.saturating_sub(history.since);
            history.state = if slow_start {
                State::Returning { since: now }
            } else {
                State::InPlay
            };
            history.multiplier.reduce(successes, now);
            history.since = now;
            history.suspect_trials = 0;
            history.abandoned_wait = 0;
            (out, history.failed_trials, history.reason)
        });
        self.counters.returned += 1;
        Event::Returned {
            id: id.clone(),
            address: instance.address().clone(),
            reason,
            by_trial,
            failed_trials,
            after: Duration::from_nanos(out),
        }
    }

    /// Begins the slow start of a new member that is in play.
    pub(crate) fn begin_new(&mut self, member: Subject<'_>, now: u64) {
        if matches!(member.standing.state(), State::InPlay) {
            self.change(member.id, member.standing, |history| {
                history.state = State::New { since: now };
            });
            member.stats.begin_new(now);
        }
    }

    /// Ends the slow start of a member.
    pub(crate) fn end_slow_start(&mut self, member: Subject<'_>) {
        self.change(member.id, member.standing, |history| {
            if matches!(history.state, State::Returning { .. } | State::New { .. }) {
                history.state = State::InPlay;
            }
        });
        member.stats.end_slow_start();
    }

    /// Forgets a member that leaves.
    pub(crate) fn forget(&mut self, id: &InstanceId, standing: &mut Standing) {
        self.unindex(id, standing);
        *standing = Standing::default();
    }

    /// Forgets the doublings of a member's ejection time, because rules no longer eject.
    pub(crate) fn forget_multiplier(&mut self, standing: &mut Standing) {
        if let Some(history) = &mut standing.0 {
            history.multiplier.forget();
        }
    }

    /// Sets or removes the mark of a suspect. Returns whether it changed.
    pub(crate) fn set_suspect(
        &mut self,
        id: &InstanceId,
        standing: &mut Standing,
        is_suspect: bool,
    ) -> bool {
        if is_suspect == standing.is_suspect() {
            return false;
        }
        self.change(id, standing, |history| history.is_suspect = is_suspect);
        true
    }

    /// Forgets the trials of a suspect, because it has succeeded since.
    pub(crate) fn forget_suspect_trials(&mut self, standing: &mut Standing) {
        if let Some(history) = &mut standing.0 {
            history.suspect_trials = 0;
            history.abandoned_wait = 0;
        }
    }

    /// Counts a failed trial of a suspect. Returns how many failed since its last success.
    pub(crate) fn fail_suspect(&mut self, id: &InstanceId, standing: &mut Standing) -> u32 {
        self.change(id, standing, |history| {
            history.is_suspect = false;
            history.suspect_trials = history.suspect_trials.saturating_add(1);
            history.abandoned_wait = 0;
            history.suspect_trials
        })
    }

    /// Adds the time a caller waited before it abandoned a trial, if that was too short to count as a failure. Returns the sum
    /// of these times in nanoseconds.
    ///
    /// Without this sum, callers that give up early would be sent to a hung member one after another, for as long as it
    /// hangs.
    pub(crate) fn add_silence(&mut self, standing: &mut Standing, waited: u64) -> u64 {
        let history = standing.history();
        history.abandoned_wait = history.abandoned_wait.saturating_add(waited);
        history.abandoned_wait
    }

    /// The counters in the status.
    pub(crate) fn counters(&self) -> EjectionCounters {
        self.counters
    }

    pub(crate) fn counters_mut(&mut self) -> &mut EjectionCounters {
        &mut self.counters
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.ends.first().map(|&(at, _)| at)
    }

    /// Whether any member is out or in slow start.
    pub(crate) fn is_any_out_or_returning(&self) -> bool {
        let is_any_slow = !self.returning.is_empty() || !self.new.is_empty();
        is_any_slow || !self.ends.is_empty() || !self.probation.is_empty()
    }

    pub(crate) fn is_any_returning(&self) -> bool {
        !self.returning.is_empty()
    }

    /// A member whose ejection is over.
    pub(crate) fn expired_ejection(&self, now: u64) -> Option<InstanceId> {
        let (at, id) = self.ends.first()?;
        (*at <= now).then(|| id.clone())
    }

    /// A member that began its slow start at least `length` nanoseconds ago.
    pub(crate) fn finished_slow_start(&self, length: u64, now: u64) -> Option<InstanceId> {
        let (since, id) = self.returning.first()?;
        (now.saturating_sub(*since) >= length).then(|| id.clone())
    }

    /// A new member that connected at least `length` nanoseconds ago.
    pub(crate) fn finished_new(&self, length: u64, now: u64) -> Option<InstanceId> {
        let (since, id) = self.new.first()?;
        (now.saturating_sub(*since) >= length).then(|| id.clone())
    }

    /// Members that a rule ejected and whose last failure, the ejection or a trial, was at or before `moment`, oldest first.
    pub(crate) fn last_failed_by(&self, moment: u64) -> impl Iterator<Item = &InstanceId> {
        let before = self.tried.iter().take_while(move |(at, _)| *at <= moment);
        before.map(|(_, id)| id).take(MAX_CANDIDATES)
    }

    pub(crate) fn suspects(&self) -> impl Iterator<Item = &InstanceId> {
        self.suspects.iter()
    }

    /// Members on probation, beginning with the one whose turn is next.
    pub(crate) fn on_probation(&self) -> impl Iterator<Item = &InstanceId> {
        let from = self.turn.as_ref().map_or(Unbounded, Excluded);
        let after = self.probation.range((from, Unbounded));
        let again = self.probation.iter();
        let all = after.chain(again).take(self.probation.len());
        all.map(|(_, id)| id).take(MAX_CANDIDATES)
    }

    /// Moves the turn past the next `members` on probation, or past all but one if there are fewer. Without this, members
    /// whose trials never end with a verdict would keep the others waiting. Returns whether the order changed.
    pub(crate) fn pass_turn(&mut self, members: usize) -> bool {
        let members = members.min(self.probation.len().saturating_sub(1));
        if members == 0 {
            return self.turn.take().is_some();
        }
        let from = self.turn.as_ref().map_or(Unbounded, Excluded);
        let after = self.probation.range((from, Unbounded));
        let all = after.chain(&self.probation);
        self.turn = all.take(members).last().cloned();
        true
    }

    fn leave_play(
        &mut self,
        id: &InstanceId,
        standing: &mut Standing,
        stats: &Stats,
        tokens: &Bucket,
        now: u64,
    ) {
        self.set_suspect(id, standing, false);
        stats.leave_play(tokens, now);
    }

    /// Changes a member's history and its entries in the index.
    fn change<R>(
        &mut self,
        id: &InstanceId,
        standing: &mut Standing,
        change: impl FnOnce(&mut History) -> R,
    ) -> R {
        self.unindex(id, standing);
        let result = change(standing.history());
        self.index(id, standing);
        result
    }

    fn index(&mut self, id: &InstanceId, standing: &Standing) {
        self.each_entry(standing, |set, at| {
            set.insert((at, id.clone()));
        });
        if standing.is_suspect() {
            self.suspects.insert(id.clone());
        }
    }

    fn unindex(&mut self, id: &InstanceId, standing: &Standing) {
        self.each_entry(standing, |set, at| {
            set.remove(&(at, id.clone()));
        });
        if standing.is_suspect() {
            self.suspects.remove(id);
        }
    }

    /// Calls `entry` with each time index that a member of this standing belongs to, and its time there.
    fn each_entry(&mut self, standing: &Standing, mut entry: impl FnMut(&mut ByTime, u64)) {
        match standing.state() {
            State::InPlay => {}
            State::Ejected { until } => entry(&mut self.ends, until),
            State::Probation { since } => entry(&mut self.probation, since),
            State::Returning { since } => entry(&mut self.returning, since),
            State::New { since } => entry(&mut self.new, since),
        }
        let tried_at = standing.0.as_ref().and_then(|h| h.ejected_by_rule_at());
        if let Some(at) = tried_at {
            entry(&mut self.tried, at);
        }
    }
}

impl History {
    /// Begins an ejection, the first or another one after a failed trial. Returns its length in nanoseconds.
    fn begin_ejection(
        &mut self,
        instance: &Instance,
        config: &OutlierConfig,
        rng: &mut (impl Rng + ?Sized),
        now: u64,
    ) -> u64 {
        self.instance = Some(instance.clone());
        self.tried_at = now;
        let time = self.multiplier.next(config, rng);
        let until = now.saturating_add(time);
        self.state = State::Ejected { until };
        time
    }
}

fn ejected(member: &Subject<'_>, reason: EjectionReason, time: u64) -> Event {
    Event::Ejected {
        id: member.id.clone(),
        address: member.instance.address().clone(),
        reason,
        time: Duration::from_nanos(time),
    }
}
