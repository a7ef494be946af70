//! Seeded randomness: one stream for each purpose, so that what one contestant does never shifts what another one meets.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::scenario::Shape;

/// What a stream is for.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Workload,
    Antagonists,
    News,
    Client(usize),
}

/// The generator of one stream of one seed.
pub(crate) fn stream(seed: u64, stream: Stream) -> SmallRng {
    let number = match stream {
        Stream::Workload => 1,
        Stream::Antagonists => 2,
        Stream::News => 3,
        Stream::Client(client) => 1000 + client as u64,
    };
    SmallRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number)
}

/// A positive number whose mean is one, exponentially distributed.
pub(crate) fn exponential(rng: &mut SmallRng) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}

impl Shape {
    /// A service time in units of the mean.
    pub(crate) fn sample(self, rng: &mut SmallRng) -> f64 {
        match self {
            Self::Exponential => exponential(rng),
            Self::Lognormal { sigma } => (sigma * normal(rng) - sigma * sigma / 2.0).exp(),
            Self::Bimodal {
                long_share,
                long_factor,
            } => {
                let short = 1.0 / (1.0 + long_share * (long_factor - 1.0));
                if rng.random::<f64>() < long_share {
                    short * long_factor
                } else {
                    short
                }
            }
        }
    }
}

/// Box and Muller 1958.
fn normal(rng: &mut SmallRng) -> f64 {
    let radius = (2.0 * exponential(rng)).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_has_mean_one() {
        let mut rng = stream(1, Stream::Workload);
        for shape in [
            Shape::Exponential,
            Shape::Lognormal { sigma: 1.0 },
            Shape::Bimodal {
                long_share: 0.05,
                long_factor: 20.0,
            },
        ] {
            let mean = (0..400_000).map(|_| shape.sample(&mut rng)).sum::<f64>() / 400_000.0;
            assert!((mean - 1.0).abs() < 0.01, "{shape:?}: {mean}");
        }
    }
}
