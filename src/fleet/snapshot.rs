//! What picks read: the usable members at one moment, published whole.
//!
//! The list is cut into chunks that successive snapshots share, so that a change of one member copies one chunk and not
//! the fleet. The order means nothing: a removed member's place is taken by the last one.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use super::config::{BalanceConfig, Load};
use super::member::{Hold, Member, Share};
use super::slow_start::Ramp;
use crate::Weight;

const CHUNK: usize = 64;
/// Reference counts that a member has besides its own in a list of a single chunk. Elsewhere two threads seldom meet.
const SHARES: usize = 4;

pub(super) struct Snapshot<S> {
    pub(super) list: List<S>,
    pub(super) rules: Rules,
    /// Since when the list has been empty.
    pub(super) unusable_since: Option<Instant>,
    pub(super) candidates: Candidates<S>,
    /// Members in slow start.
    pub(super) ramps: Vec<Ramp>,
}

/// Members that wait for a probe.
pub(super) struct Candidates<S> {
    pub(super) members: Vec<Arc<Member<S>>>,
    /// Whether they are in play, and only suspected.
    pub(super) are_suspects: bool,
}

impl<S> Candidates<S> {
    pub(super) fn none() -> Self {
        Self {
            members: Vec::new(),
            are_suspects: false,
        }
    }

    /// All of them, the one first whose turn it is.
    pub(super) fn from(&self, turn: u64) -> impl Iterator<Item = &Arc<Member<S>>> {
        let start = turn as usize % self.members.len().max(1);
        let (before, after) = self.members.split_at(start);
        after.iter().chain(before)
    }
}

/// What a pick needs of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) load: Load,
    pub(super) max_choices: u32,
    pub(super) max_in_flight: Option<u32>,
}

impl Rules {
    pub(super) fn new(config: &BalanceConfig) -> Self {
        Self {
            load: config.load(),
            max_choices: config.max_choices(),
            max_in_flight: config.max_in_flight().map(|cap| cap.get()),
        }
    }
}

/// A place in the list; small, since every seat has one, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position(NonZeroU32);

impl Position {
    /// Lists hold fewer members than could have an id each.
    pub(super) fn new(index: usize) -> Self {
        let number = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
        Self(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
    }

    pub(super) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Members with weights, all above zero.
pub(super) struct List<S> {
    chunks: Vec<Arc<[Entry<S>]>>,
    /// [`SHARES`] of each member, in order, while one chunk holds them all.
    shares: Vec<Arc<Share<S>>>,
    /// For each chunk the weight of it and all before it.
    upto: Vec<u64>,
    len: usize,
    /// Whether all weights are the same.
    even: bool,
    mean_weight: f32,
}

pub(super) struct Entry<S> {
    pub(super) member: Arc<Member<S>>,
    pub(super) weight: Weight,
    /// Weight of this entry and all before it in its chunk.
    upto: u32,
}

impl<S> List<S> {
    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            shares: Vec::new(),
            upto: Vec::new(),
            len: 0,
            even: true,
            mean_weight: 0.0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether all weights are the same, so that a uniform draw is a draw by weight.
    pub(super) fn is_even(&self) -> bool {
        self.even
    }

    /// The mean weight over an entry's: how much more one request in flight means to it than to the mean member.
    pub(super) fn inverse_weight(&self, entry: &Entry<S>) -> f32 {
        if self.even {
            1.0
        } else {
            self.mean_weight / f32::from(entry.weight.get())
        }
    }

    /// The entry at a position below [`len`](Self::len).
    pub(super) fn entry(&self, position: usize) -> &Entry<S> {
        &self.chunks[position / CHUNK][position % CHUNK]
    }

    /// The sum of all weights.
    pub(super) fn total_weight(&self) -> u64 {
        self.upto.last().copied().unwrap_or(0)
    }

    /// The position that a number below [`total_weight`](Self::total_weight) falls on.
    pub(super) fn position_by_weight(&self, ticket: u64) -> usize {
        let chunk = self.upto.partition_point(|&upto| upto <= ticket);
        let before = if chunk == 0 { 0 } else { self.upto[chunk - 1] };
        let entries = &self.chunks[chunk];
        let within = entries.partition_point(|entry| u64::from(entry.upto) <= ticket - before);
        chunk * CHUNK + within
    }

    /// Keeps the member at a position in being for a pick by the thread of this shard.
    pub(super) fn hold(&self, position: usize, shard: usize) -> Hold<S> {
        match self.shares.get(position * SHARES + shard % SHARES) {
            Some(share) => Hold::Share(Arc::clone(share)),
            None => Hold::Whole(Arc::clone(&self.entry(position).member)),
        }
    }

    /// Adds a member and answers with its position.
    pub(super) fn push(&mut self, member: Arc<Member<S>>, weight: Weight) -> Position {
        let position = self.len;
        let chunk = position / CHUNK;
        if chunk == 0 {
            self.shares.extend(shares(&member));
        } else {
            self.shares.clear();
        }
        let entry = Entry::new(member, weight);
        if chunk == self.chunks.len() {
            self.chunks.push(Arc::new([entry]));
        } else {
            let entries = self.chunks[chunk].iter().cloned().chain([entry]);
            self.chunks[chunk] = summed(entries);
        }
        self.len += 1;
        Position::new(position)
    }

    /// Replaces the entry at a position by another.
    pub(super) fn replace(&mut self, position: Position, member: Arc<Member<S>>, weight: Weight) {
        let position = position.index();
        if let Some(own) = self.shares.chunks_exact_mut(SHARES).nth(position) {
            own.clone_from_slice(&shares(&member));
        }
        let chunk = &mut self.chunks[position / CHUNK];
        let mut new = Some(Entry::new(member, weight));
        let entries = chunk.iter().enumerate().map(|(index, entry)| {
            let replaced = (index == position % CHUNK).then(|| new.take()).flatten();
            replaced.unwrap_or_else(|| entry.clone())
        });
        *chunk = summed(entries);
    }

    /// Removes the entry at a position. The last one moves into its place, and is returned if it was another.
    pub(super) fn swap_remove(&mut self, position: Position) -> Option<&Member<S>> {
        let last = self.len - 1;
        let moved = self.entry(last).clone();
        let tail = &mut self.chunks[last / CHUNK];
        if tail.len() == 1 {
            self.chunks.pop();
        } else {
            *tail = tail[..tail.len() - 1].iter().cloned().collect();
        }
        self.len = last;
        self.shares.truncate(last * SHARES);
        if last == CHUNK {
            self.share_out();
        }
        if position.index() == last {
            return None;
        }
        self.replace(position, moved.member, moved.weight);
        Some(&*self.entry(position.index()).member)
    }

    /// Gives the members of a single chunk reference counts of their own.
    fn share_out(&mut self) {
        let entries = self.chunks.first().filter(|_| self.len <= CHUNK);
        let members = entries.into_iter().flat_map(|entries| entries.iter());
        self.shares = members.flat_map(|entry| shares(&entry.member)).collect();
    }

    /// Many at once, each at the place of its number, where pushing one after another would copy a chunk each time.
    pub(super) fn fill(&mut self, members: impl IntoIterator<Item = (Arc<Member<S>>, Weight)>) {
        let entries: Vec<_> = members
            .into_iter()
            .map(|(member, weight)| Entry::new(member, weight))
            .collect();
        self.len = entries.len();
        self.chunks = entries
            .chunks(CHUNK)
            .map(|chunk| summed(chunk.iter().cloned()))
            .collect();
        self.share_out();
    }

    /// The list as picks shall see it: the sums over the chunks brought up to date.
    pub(super) fn published(&self) -> Self {
        let mut upto = Vec::with_capacity(self.chunks.len());
        let mut total = 0;
        for chunk in &self.chunks {
            total += chunk.last().map_or(0, |entry| u64::from(entry.upto));
            upto.push(total);
        }
        let first = self.chunks.first().map(|chunk| chunk[0].weight);
        let even = first.is_none_or(|first| {
            total == u64::from(first.get()) * self.len as u64
                && self
                    .chunks
                    .iter()
                    .all(|chunk| chunk.iter().all(|e| e.weight == first))
        });
        Self {
            chunks: self.chunks.clone(),
            shares: self.shares.clone(),
            upto,
            len: self.len,
            even,
            mean_weight: total as f32 / self.len.max(1) as f32,
        }
    }
}

impl<S> Entry<S> {
    fn new(member: Arc<Member<S>>, weight: Weight) -> Self {
        Self {
            member,
            weight,
            upto: u32::from(weight.get()),
        }
    }
}

impl<S> Clone for Entry<S> {
    fn clone(&self) -> Self {
        Self {
            member: Arc::clone(&self.member),
            weight: self.weight,
            upto: self.upto,
        }
    }
}

fn shares<S>(member: &Arc<Member<S>>) -> [Arc<Share<S>>; SHARES] {
    std::array::from_fn(|_| Share::of(member))
}

/// A chunk of these entries, their running sums set.
fn summed<S>(entries: impl Iterator<Item = Entry<S>>) -> Arc<[Entry<S>]> {
    let mut total = 0;
    entries
        .map(|entry| {
            total += u32::from(entry.weight.get());
            Entry {
                upto: total,
                ..entry
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;
    use crate::{Instance, InstanceSet};

    /// How many members have reference counts of their own, in fleets that grow to and shrink from this size.
    fn shared(members: usize, then: usize) -> usize {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant has to come from somewhere"
        )]
        let start = Instant::now();
        let fleet = Fleet::<()>::new(BalanceConfig::default(), 1, start);
        for members in [members, then] {
            let set: InstanceSet = (0..members)
                .map(|member| Instance::new(format!("{member:03}"), ([127, 0, 0, 1], 80).into()))
                .collect();
            let dials = fleet.apply(set.confirmed(), start);
            fleet.connected(dials.into_iter().map(|dial| (dial.ticket, ())), start);
        }
        fleet.with_snapshot(|snapshot| {
            let List { shares, .. } = &snapshot.list;
            for (number, share) in shares.iter().enumerate() {
                let member = &snapshot.list.entry(number / SHARES).member;
                assert_eq!(share.generation, member.generation, "share {number}");
            }
            shares.len() / SHARES
        })
    }

    #[test]
    fn members_have_counts_of_their_own_while_a_chunk_holds_them_all() {
        assert_eq!(shared(CHUNK, CHUNK), CHUNK);
        assert_eq!(shared(1, CHUNK + 1), 0);
        assert_eq!(shared(CHUNK + 1, CHUNK), CHUNK);
        assert_eq!(shared(3 * CHUNK, 2), 2);
        assert_eq!(shared(2, 3 * CHUNK), 0);
    }
}
