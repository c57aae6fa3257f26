//! Random number streams that depend on their key alone.
//!
//! A [`Stream`] is a ChaCha8 generator keyed by (seed, purpose, epoch, batch). There is no global state and no position to save:
//! resuming, reordering and the number of workers change no draw. The distributions are implemented here, so that no new version
//! of a library changes them, and every device draws the same numbers.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A random number generator for one purpose.
#[derive(Debug, Clone)]
pub struct Stream {
    generator: ChaCha8Rng,
    spare_normal: Option<f64>,
}

impl Stream {
    /// The stream for a purpose (such as `data.train` or `init.layer0.weight_ih`), seed, epoch and batch. Draws outside of epochs
    /// and batches (initial weights) use 0 for both.
    pub fn new(seed: u64, purpose: &str, epoch: usize, batch: usize) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("ccdni random stream v1");
        for number in [seed, epoch as u64, batch as u64] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(purpose.as_bytes());
        Stream { generator: ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()), spare_normal: None }
    }

    /// Uniform in `[0, 1)` with 24 random bits: every value is exact in `f32`.
    pub fn unit(&mut self) -> f32 {
        (self.generator.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in `[0, 1)` with 53 random bits.
    pub fn unit_f64(&mut self) -> f64 {
        (self.generator.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Uniform in `[low, high)`.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Standard normal (Box-Muller transform).
    pub fn normal(&mut self) -> f32 {
        if let Some(spare) = self.spare_normal.take() {
            return spare as f32;
        }
        let radius = (-2.0 * (1.0 - self.unit_f64()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.unit_f64();
        self.spare_normal = Some(radius * angle.sin());
        (radius * angle.cos()) as f32
    }

    /// A uniform integer in `0..n`; `n` must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        // Lemire's multiplication method: draws with a small low word would be biased and are rejected.
        loop {
            let product = u128::from(self.generator.next_u64()) * u128::from(n);
            if product as u64 >= n.wrapping_neg() % n.max(1) {
                return (product >> 64) as usize;
            }
        }
    }

    /// Shuffles in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_every_part_of_its_key() {
        let draw = |seed, purpose, epoch, batch| Stream::new(seed, purpose, epoch, batch).unit_f64();
        let base = draw(1, "data.train", 2, 3);
        assert_eq!(base, draw(1, "data.train", 2, 3));
        for other in [draw(2, "data.train", 2, 3), draw(1, "data.test", 2, 3), draw(1, "data.train", 3, 2)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn draws_never_change() {
        // A change here would change the results of every run.
        let mut stream = Stream::new(1, "test", 0, 0);
        let drawn: Vec<u32> = (0..4).map(|_| (stream.unit() * 1e6) as u32).collect();
        let below: Vec<usize> = (0..6).map(|_| stream.below(7)).collect();
        assert_eq!(drawn, [894_974, 853_750, 835_352, 74_530]);
        assert_eq!(below, [1, 1, 2, 2, 3, 3]);
        assert!((stream.normal() - 1.796_256).abs() < 1e-5);
    }

    #[test]
    fn normal_has_mean_zero_and_unit_variance() {
        let mut stream = Stream::new(7, "test", 0, 0);
        let draws: Vec<f64> = (0..100_000).map(|_| f64::from(stream.normal())).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn below_and_shuffle_are_even() {
        let mut counts = [0usize; 3];
        let mut stream = Stream::new(3, "test", 0, 0);
        for _ in 0..30_000 {
            let mut items = [0, 1, 2];
            stream.shuffle(&mut items);
            counts[items[0]] += 1;
        }
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 400), "{counts:?}");
    }
}
