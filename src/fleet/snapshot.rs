//! What picks read: the usable members at one moment, published whole.
//!
//! The list is cut into chunks that successive snapshots share, so that a change of one member copies one chunk and not
//! the fleet. The order means nothing: a removed member's place is taken by the last one.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use super::config::BalanceConfig;
use super::member::{Hold, Member, Share};
use crate::model::instance::Weight;

const CHUNK: usize = 64;
/// Reference counts that a member has besides its own in a list of a single chunk. Elsewhere two threads seldom meet.
const SHARES: usize = 4;

pub(super) struct Snapshot<S> {
    pub(super) list: List<S>,
    pub(super) rules: Rules,
    /// Since when the list has been empty.
    pub(super) unusable_since: Option<Instant>,
    /// Members that wait for a trial, the first one first.
    pub(super) waiting: Vec<Arc<Member<S>>>,
    /// Whether trials need no token: a request that goes to another member does no better.
    pub(super) trials_are_free: bool,
    /// How long slow start is, in nanoseconds, while any member is in it.
    pub(super) slow_start: Option<u64>,
}

/// What a pick needs of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) measures_latency: bool,
    pub(super) max_choices: u32,
    pub(super) max_in_flight: Option<u32>,
}

impl Rules {
    pub(super) fn new(config: &BalanceConfig) -> Self {
        Self {
            measures_latency: config.load().is_latency(),
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
    chunks: Vec<Chunk<S>>,
    /// [`SHARES`] of each member, in order, while one chunk holds them all.
    shares: Vec<Arc<Share<S>>>,
    /// For each chunk the weight of it and all before it.
    upto: Vec<u64>,
    len: usize,
    /// Whether all weights are the same.
    even: bool,
    mean_weight: f32,
}

/// At most [`CHUNK`] members. Their weights are kept apart from them: where they are all the same, picks need none.
struct Chunk<S> {
    members: Arc<[Arc<Member<S>>]>,
    /// For each member the weight of it and all before it in the chunk.
    upto: Arc<[u32]>,
    /// The weight of each, if all weights are the same.
    even: Option<u32>,
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

    /// The mean weight over a member's: how much more one request in flight means to it than to the mean member.
    pub(super) fn inverse_weight(&self, position: usize) -> f32 {
        if self.even {
            1.0
        } else {
            self.mean_weight / self.weight(position)
        }
    }

    /// The member at a position below [`len`](Self::len).
    pub(super) fn member(&self, position: usize) -> &Arc<Member<S>> {
        &self.chunks[position / CHUNK].members[position % CHUNK]
    }

    /// The weight at a position below [`len`](Self::len).
    pub(super) fn weight(&self, position: usize) -> f32 {
        self.chunks[position / CHUNK].weight(position % CHUNK) as f32
    }

    /// The sum of all weights.
    pub(super) fn total_weight(&self) -> u64 {
        self.upto.last().copied().unwrap_or(0)
    }

    /// The position that a number below [`total_weight`](Self::total_weight) falls on.
    pub(super) fn position_by_weight(&self, ticket: u64) -> usize {
        let chunk = self.upto.partition_point(|&upto| upto <= ticket);
        let before = if chunk == 0 { 0 } else { self.upto[chunk - 1] };
        let upto = &self.chunks[chunk].upto;
        chunk * CHUNK + upto.partition_point(|&upto| u64::from(upto) <= ticket - before)
    }

    /// Keeps the member at a position in being for a pick by the thread of this shard.
    pub(super) fn hold(&self, position: usize, shard: usize) -> Hold<S> {
        match self.shares.get(position * SHARES + shard % SHARES) {
            Some(share) => Hold::Share(Arc::clone(share)),
            None => Hold::Whole(Arc::clone(self.member(position))),
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
        let new = [(member, u32::from(weight.get()))];
        if chunk == self.chunks.len() {
            self.chunks.push(Chunk::new(new));
        } else {
            self.chunks[chunk] = Chunk::new(self.chunks[chunk].iter().chain(new));
        }
        self.len += 1;
        Position::new(position)
    }

    /// Replaces the member at a position by another.
    pub(super) fn replace(&mut self, position: Position, member: Arc<Member<S>>, weight: Weight) {
        self.put(position.index(), member, u32::from(weight.get()));
    }

    fn put(&mut self, position: usize, member: Arc<Member<S>>, weight: u32) {
        if let Some(own) = self.shares.chunks_exact_mut(SHARES).nth(position) {
            own.clone_from_slice(&shares(&member));
        }
        let chunk = &mut self.chunks[position / CHUNK];
        let (before, after) = (position % CHUNK, position % CHUNK + 1);
        let others = || chunk.iter();
        let members = others().take(before).chain([(member, weight)]);
        *chunk = Chunk::new(members.chain(others().skip(after)));
    }

    /// Removes the member at a position. The last one moves into its place, and is returned if it was another.
    pub(super) fn swap_remove(&mut self, position: Position) -> Option<&Member<S>> {
        let position = position.index();
        let last = self.len - 1;
        let tail = &mut self.chunks[last / CHUNK];
        let kept = last % CHUNK;
        let (member, weight) = (Arc::clone(&tail.members[kept]), tail.weight(kept));
        if kept == 0 {
            self.chunks.pop();
        } else {
            *tail = Chunk::new(tail.iter().take(kept));
        }
        self.len = last;
        self.shares.truncate(last * SHARES);
        if last == CHUNK {
            self.share_out();
        }
        if position == last {
            return None;
        }
        self.put(position, member, weight);
        Some(&**self.member(position))
    }

    /// Gives the members of a single chunk reference counts of their own.
    fn share_out(&mut self) {
        let chunk = self.chunks.first().filter(|_| self.len <= CHUNK);
        let members = chunk.into_iter().flat_map(|chunk| &*chunk.members);
        self.shares = members.flat_map(shares).collect();
    }

    /// Many at once, each at the place of its number, where pushing one after another would copy a chunk each time.
    pub(super) fn fill(&mut self, members: impl IntoIterator<Item = (Arc<Member<S>>, Weight)>) {
        let members = members.into_iter();
        let mut members = members
            .map(|(member, weight)| (member, u32::from(weight.get())))
            .peekable();
        self.chunks.clear();
        while members.peek().is_some() {
            self.chunks.push(Chunk::new(members.by_ref().take(CHUNK)));
        }
        self.len = self.chunks.iter().map(|chunk| chunk.members.len()).sum();
        self.share_out();
    }

    /// The list as picks shall see it: the sums over the chunks brought up to date.
    pub(super) fn published(&self) -> Self {
        let mut upto = Vec::with_capacity(self.chunks.len());
        let mut total = 0;
        for chunk in &self.chunks {
            total += u64::from(chunk.total());
            upto.push(total);
        }
        let weight = self.chunks.first().map_or(0, |chunk| chunk.weight(0));
        let even = self.chunks.iter().all(|chunk| chunk.even == Some(weight));
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

impl<S> Chunk<S> {
    fn new(members: impl IntoIterator<Item = (Arc<Member<S>>, u32)>) -> Self {
        let (mut total, mut even) = (0, None);
        let members = members.into_iter().map(|(member, weight)| {
            even = match even {
                _ if total == 0 => Some(weight),
                Some(other) if other == weight => Some(weight),
                _ => None,
            };
            total += weight;
            (member, total)
        });
        let (members, upto): (Vec<_>, Vec<_>) = members.unzip();
        Self {
            members: members.into(),
            upto: upto.into(),
            even,
        }
    }

    fn weight(&self, index: usize) -> u32 {
        let before = index.checked_sub(1).map_or(0, |before| self.upto[before]);
        self.upto[index] - before
    }

    fn total(&self) -> u32 {
        self.upto.last().copied().unwrap_or(0)
    }

    fn iter(&self) -> impl Iterator<Item = (Arc<Member<S>>, u32)> {
        let members = self.members.iter().enumerate();
        members.map(|(index, member)| (Arc::clone(member), self.weight(index)))
    }
}

impl<S> Clone for Chunk<S> {
    fn clone(&self) -> Self {
        Self {
            members: Arc::clone(&self.members),
            upto: Arc::clone(&self.upto),
            even: self.even,
        }
    }
}

fn shares<S>(member: &Arc<Member<S>>) -> [Arc<Share<S>>; SHARES] {
    std::array::from_fn(|_| Share::of(member))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;
    use crate::model::instance::{Instance, InstanceSet};

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
                let member = snapshot.list.member(number / SHARES);
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
