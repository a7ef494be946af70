//! The members that picks draw from, with their weights.
//!
//! The list is cut into chunks that successive snapshots share, so that a change of one member copies one chunk and not the
//! fleet. The order has no meaning: the last member takes the place of a removed one.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::member::{CountedRef, Member, MemberRef};
use crate::model::instance::Weight;

const CHUNK: usize = 64;
/// Extra reference counts of a member in a list of a single chunk. In a longer list, two threads seldom pick the same
/// member.
const COUNTED_REFS: usize = 4;

/// A position in the list. An `Option` of it, which every seat has, takes no more space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position(NonZeroU32);

impl Position {
    /// No list is so long that this saturates.
    pub(crate) fn new(index: usize) -> Self {
        let number = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
        Self(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
    }

    pub(crate) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Members with weights, all above zero.
pub(crate) struct List<T> {
    chunks: Vec<Chunk<T>>,
    /// [`COUNTED_REFS`] references for each member, in order, while one chunk holds all members.
    counted: Vec<Arc<CountedRef<T>>>,
    /// For each chunk, the total weight up to its end.
    upto: Vec<u64>,
    len: usize,
    /// Whether all weights are the same.
    even: bool,
    mean_weight: f32,
}

/// At most [`CHUNK`] members. Weights are stored apart from them, because picks read none if all are the same.
struct Chunk<T> {
    members: Arc<[Arc<Member<T>>]>,
    /// For each member, the total weight in the chunk up to and including it.
    upto: Arc<[u32]>,
    /// The weight of each, if all weights are the same.
    even: Option<u32>,
}

impl<T> List<T> {
    pub(crate) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            counted: Vec::new(),
            upto: Vec::new(),
            len: 0,
            even: true,
            mean_weight: 0.0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether all weights are the same, so that a uniform draw is a draw by weight.
    pub(crate) fn is_even(&self) -> bool {
        self.even
    }

    /// The mean weight divided by the member's weight: how much one request in flight counts for it, compared with the mean
    /// member.
    pub(crate) fn inverse_weight(&self, position: usize) -> f32 {
        if self.even {
            1.0
        } else {
            self.mean_weight / self.weight(position)
        }
    }

    /// The member at a position below [`len`](Self::len).
    pub(crate) fn member(&self, position: usize) -> &Arc<Member<T>> {
        &self.chunks[position / CHUNK].members[position % CHUNK]
    }

    /// The weight at a position below [`len`](Self::len).
    pub(crate) fn weight(&self, position: usize) -> f32 {
        self.chunks[position / CHUNK].weight(position % CHUNK) as f32
    }

    /// Adds up all weights. Unlike [`total_weight`](Self::total_weight), this needs no published copy.
    pub(crate) fn weigh(&self) -> u64 {
        self.chunks
            .iter()
            .map(|chunk| u64::from(chunk.total()))
            .sum()
    }

    /// The sum of all weights, in a published copy.
    pub(crate) fn total_weight(&self) -> u64 {
        self.upto.last().copied().unwrap_or(0)
    }

    /// The position for a number below [`total_weight`](Self::total_weight), so that a uniform number draws by weight.
    pub(crate) fn position_by_weight(&self, number: u64) -> usize {
        let chunk = self.upto.partition_point(|&upto| upto <= number);
        let before = if chunk == 0 { 0 } else { self.upto[chunk - 1] };
        let upto = &self.chunks[chunk].upto;
        chunk * CHUNK + upto.partition_point(|&upto| u64::from(upto) <= number - before)
    }

    /// Returns a reference to the member at a position, for a pick by a thread of this shard.
    pub(crate) fn hold(&self, position: usize, shard: usize) -> MemberRef<T> {
        match self
            .counted
            .get(position * COUNTED_REFS + shard % COUNTED_REFS)
        {
            Some(counted) => MemberRef::Counted(Arc::clone(counted)),
            None => MemberRef::Direct(Arc::clone(self.member(position))),
        }
    }

    /// Adds a member and returns its position.
    pub(crate) fn push(&mut self, member: Arc<Member<T>>, weight: Weight) -> Position {
        let position = self.len;
        let chunk = position / CHUNK;
        if chunk == 0 {
            self.counted.extend(counted_refs(&member));
        } else {
            self.counted.clear();
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
    pub(crate) fn replace(&mut self, position: Position, member: Arc<Member<T>>, weight: Weight) {
        self.put(position.index(), member, u32::from(weight.get()));
    }

    fn put(&mut self, position: usize, member: Arc<Member<T>>, weight: u32) {
        if let Some(own) = self.counted.chunks_exact_mut(COUNTED_REFS).nth(position) {
            own.clone_from_slice(&counted_refs(&member));
        }
        let chunk = &mut self.chunks[position / CHUNK];
        let (before, after) = (position % CHUNK, position % CHUNK + 1);
        let others = || chunk.iter();
        let members = others().take(before).chain([(member, weight)]);
        *chunk = Chunk::new(members.chain(others().skip(after)));
    }

    /// Removes the member at a position. The last member moves into its place and is returned, unless it was the one
    /// removed.
    pub(crate) fn swap_remove(&mut self, position: Position) -> Option<&Member<T>> {
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
        self.counted.truncate(last * COUNTED_REFS);
        if last == CHUNK {
            self.fill_counted();
        }
        if position == last {
            return None;
        }
        self.put(position, member, weight);
        Some(&**self.member(position))
    }

    /// Makes the counted references, if there is a single chunk.
    fn fill_counted(&mut self) {
        let chunk = self.chunks.first().filter(|_| self.len <= CHUNK);
        let members = chunk.into_iter().flat_map(|chunk| &*chunk.members);
        self.counted = members.flat_map(counted_refs).collect();
    }

    /// Replaces all members, in this order. Pushing them one by one would copy a chunk each time.
    pub(crate) fn fill(&mut self, members: impl IntoIterator<Item = (Arc<Member<T>>, Weight)>) {
        let members = members.into_iter();
        let mut members = members
            .map(|(member, weight)| (member, u32::from(weight.get())))
            .peekable();
        self.chunks.clear();
        while members.peek().is_some() {
            self.chunks.push(Chunk::new(members.by_ref().take(CHUNK)));
        }
        self.len = self.chunks.iter().map(|chunk| chunk.members.len()).sum();
        self.fill_counted();
    }

    /// A copy for picks to read, with the sums over the chunks up to date.
    pub(crate) fn published(&self) -> Self {
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
            counted: self.counted.clone(),
            upto,
            len: self.len,
            even,
            mean_weight: total as f32 / self.len.max(1) as f32,
        }
    }
}

impl<T> Chunk<T> {
    fn new(members: impl IntoIterator<Item = (Arc<Member<T>>, u32)>) -> Self {
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

    fn iter(&self) -> impl Iterator<Item = (Arc<Member<T>>, u32)> {
        let members = self.members.iter().enumerate();
        members.map(|(index, member)| (Arc::clone(member), self.weight(index)))
    }
}

impl<T> Clone for Chunk<T> {
    fn clone(&self) -> Self {
        Self {
            members: Arc::clone(&self.members),
            upto: Arc::clone(&self.upto),
            even: self.even,
        }
    }
}

fn counted_refs<T>(member: &Arc<Member<T>>) -> [Arc<CountedRef<T>>; COUNTED_REFS] {
    std::array::from_fn(|_| CountedRef::of(member))
}

#[cfg(test)]
mod tests {
    use super::super::member::Record;
    use super::*;
    use crate::model::instance::Instance;

    fn member(generation: usize) -> (Arc<Member<()>>, Weight) {
        let record = Record {
            stats: Arc::default(),
            generation: generation as u64,
            instance: Instance::new(format!("{generation:03}"), ([127, 0, 0, 1], 80)),
        };
        (Arc::new(Member::new(record, ())), Weight::default())
    }

    /// Checks that each counted reference is at its place, and counts the members that have them.
    fn counted(list: &List<()>) -> usize {
        for (number, counted) in list.counted.iter().enumerate() {
            let member = list.member(number / COUNTED_REFS);
            assert_eq!(counted.generation, member.generation, "reference {number}");
        }
        list.counted.len() / COUNTED_REFS
    }

    /// How many members have counted references in a list that was filled, and then grew or shrank to another size.
    fn counted_after(members: usize, then: usize) -> usize {
        let mut list = List::new();
        list.fill((0..members).map(member));
        assert_eq!(counted(&list), if members <= CHUNK { members } else { 0 });
        for number in members..then {
            let (member, weight) = member(number);
            list.push(member, weight);
        }
        while list.len() > then {
            list.swap_remove(Position::new(0));
        }
        counted(&list)
    }

    #[test]
    fn members_have_counted_references_while_one_chunk_holds_them_all() {
        assert_eq!(counted_after(0, CHUNK), CHUNK);
        assert_eq!(counted_after(1, CHUNK + 1), 0);
        assert_eq!(counted_after(CHUNK + 1, CHUNK), CHUNK);
        assert_eq!(counted_after(3 * CHUNK, 2), 2);
        assert_eq!(counted_after(2, 3 * CHUNK), 0);
    }
}
