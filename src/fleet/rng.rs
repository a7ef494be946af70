/// A source of random bits, the only method of a generator that a pick needs.
///
/// It is implemented for every [`rand::Rng`].
pub trait Rng {
    /// The next 64 uniformly distributed bits.
    fn next_u64(&mut self) -> u64;
}

impl<R: rand::Rng + ?Sized> Rng for R {
    fn next_u64(&mut self) -> u64 {
        rand::Rng::next_u64(self)
    }
}

/// Maps 32 random bits to `0..n` (Lemire 2019). It skips the paper's rejection step, so the relative error of each number's
/// probability is below `n / 2^32`.
pub(crate) fn below(bits: u32, n: u32) -> u32 {
    ((u64::from(bits) * u64::from(n)) >> 32) as u32
}

/// A uniform number in `0.0..1.0`.
pub(crate) fn unit(rng: &mut (impl Rng + ?Sized)) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}
