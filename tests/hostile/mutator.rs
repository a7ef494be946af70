//! Changes inputs by a seed: bits, bytes, pieces of the same and of other inputs, and pieces that parsers stumble over.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const LARGEST: usize = 64 << 10;

const PIECES: [&[u8]; 24] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\x7f",
    b"\xff\xfe",
    b" ",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"[[[[[[[[",
    b"-1",
    b"0",
    b"65536",
    b"4294967296",
    b"18446744073709551616",
    b"1e999",
    b"NaN",
    "\u{202e}".as_bytes(),
    "\u{200b}".as_bytes(),
    "\u{feff}".as_bytes(),
    b"::ffff:0.0.0.0",
    b"%00%2f..",
    b"unix:",
];

pub(crate) struct Mutator(SmallRng);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    /// One of these inputs, changed one to eight times.
    pub(crate) fn mutated(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.one_of(corpus).clone();
        for _ in 0..self.0.random_range(1..=8) {
            self.mutate(&mut input, corpus);
        }
        input.truncate(LARGEST);
        input
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.0.random_range(0..all.len())]
    }

    fn place(&mut self, input: &[u8]) -> usize {
        self.0.random_range(0..=input.len())
    }

    fn range(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let (a, b) = (self.place(input), self.place(input));
        a.min(b)..a.max(b).min(a.min(b) + 256)
    }

    fn mutate(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.place(input);
        match self.0.random_range(0..8) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.0.random_range(0..8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = self.0.random();
                }
            }
            2 => input.insert(at, self.0.random()),
            3 => drop(input.drain(self.range(input))),
            4 => {
                let piece = *self.one_of(&PIECES);
                input.splice(at..at, piece.iter().copied());
            }
            5 => {
                let piece = input[self.range(input)].to_vec();
                let times = self.0.random_range(1..=64);
                input.splice(at..at, piece.repeat(times));
            }
            6 => {
                let other = self.one_of(corpus);
                let piece = other[self.range(other)].to_vec();
                input.splice(at..at, piece);
            }
            _ => input.truncate(at),
        }
        input.truncate(LARGEST);
    }
}
