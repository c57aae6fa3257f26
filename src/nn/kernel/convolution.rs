//! Convolutions of images, `[images, channels, height, width]`, as products of weights and windows.
//!
//! Windows are gathered for as many images, or rows of one, as fit into the caches; these *tiles* depend on the shapes
//! alone and not on the number of threads, nor does any bit.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::window::{Plane, Window, add_back, gather};
use super::{Matrix, MatrixMut, Threads, product};

/// Numbers that the windows of a tile may have: their product's other side and its result fit into the cache beside them.
const TILE: usize = 1 << 17;

/// A convolution, whatever its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// The images it reads.
    pub plane: Plane,
    /// Its windows.
    pub window: Window,
    /// Channels of the images it makes.
    pub outputs: usize,
}

/// What is done to the numbers of a channel behind the product: `y ↦ max(y · scale + shift + add, 0)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Finish<'a> {
    /// `[outputs]`; 1 where absent.
    pub scale: Option<&'a [f32]>,
    /// `[outputs]`; 0 where absent.
    pub shift: Option<&'a [f32]>,
    /// Images of the result's shape; 0 where absent.
    pub add: Option<&'a [f32]>,
    /// Whether what is below 0 becomes 0.
    pub rectify: bool,
}

/// Buffers of a tile, which one call hands to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    windows: Vec<f32>,
    product: Vec<f32>,
}

/// The gradients of a convolution.
#[derive(Debug, Default, PartialEq)]
pub struct Gradients {
    /// Those of the images, where they were wanted.
    pub images: Vec<f32>,
    /// `[outputs, channels · size²]`
    pub weight: Vec<f32>,
    /// `[outputs]`
    pub shift: Vec<f32>,
}

impl Convolution {
    /// The images it makes.
    pub fn after(&self) -> Plane {
        self.plane.after(self.window, self.outputs)
    }

    /// Numbers of a window.
    fn depth(&self) -> usize {
        self.plane.channels * self.window.size * self.window.size
    }

    /// Images of a tile.
    fn group(&self) -> usize {
        (TILE / (self.depth() * self.after().pixels()).max(1)).max(1)
    }

    /// Convolves images on all threads of the current pool.
    ///
    /// # Panics
    /// If there are not as many numbers as the shapes say.
    pub fn forward(&self, arch: Arch, images: &[f32], weight: &[f32], finish: Finish<'_>, out: &mut [f32]) {
        let group = self.group();
        let after = self.after().numbers() * group;
        if after == 0 {
            return;
        }
        let tiles = out.par_chunks_mut(after).zip(images.par_chunks(self.plane.numbers() * group)).enumerate();
        tiles.for_each_init(Scratch::default, |scratch, (tile, (out, images))| {
            let finish = Finish { add: finish.add.map(|add| &add[tile * after..][..out.len()]), ..finish };
            self.tile(arch, images, weight, finish, out, scratch, Threads(1));
        });
    }

    /// Convolves one tile: one image, in parts where it is large, or several, side by side.
    #[expect(clippy::too_many_arguments, reason = "the operands of one product")]
    pub fn tile(
        &self,
        arch: Arch,
        images: &[f32],
        weight: &[f32],
        finish: Finish<'_>,
        out: &mut [f32],
        scratch: &mut Scratch,
        threads: Threads,
    ) {
        let (depth, after) = (self.depth(), self.after());
        let weight = Matrix::new(weight, self.outputs, depth);
        let pixels = after.pixels();
        let count = images.len() / self.plane.numbers();
        if count != 1 {
            let width = self.gather_all(images, scratch);
            let product_ = grown(&mut scratch.product, self.outputs * width);
            let windows = Matrix::new(&scratch.windows, depth, width);
            product(MatrixMut::new(product_, self.outputs, width), weight, windows, false, threads);
            for (index, out) in out.chunks_exact_mut(pixels).enumerate() {
                let (image, channel) = (index / self.outputs, index % self.outputs);
                out.copy_from_slice(&product_[channel * width + image * pixels..][..pixels]);
                finish.run(arch, channel, index * pixels, out);
            }
            return;
        }
        for rows in self.row_tiles() {
            let columns = rows.start * after.width..rows.end * after.width;
            let windows = if self.window.is_point() {
                Matrix::strided(&images[columns.start..], depth, columns.len(), pixels)
            } else {
                let windows = grown(&mut scratch.windows, depth * columns.len());
                gather(images, self.plane, self.window, rows, windows, (columns.len(), 0));
                Matrix::new(windows, depth, columns.len())
            };
            let target = MatrixMut::strided(&mut out[columns.start..], self.outputs, columns.len(), pixels);
            product(target, weight, windows, false, threads);
            for (channel, out) in out.chunks_exact_mut(pixels).enumerate() {
                finish.run(arch, channel, channel * pixels + columns.start, &mut out[columns.clone()]);
            }
        }
    }

    /// Rows of windows that make a tile, one tile after the other.
    fn row_tiles(&self) -> impl Iterator<Item = Range<usize>> {
        let after = self.after();
        let rows = (TILE / (self.depth() * after.width).max(1)).clamp(1, after.height.max(1));
        // Tiles of nearly one size.
        let rows = after.height.div_ceil(after.height.div_ceil(rows).max(1)).max(1);
        (0..after.height).step_by(rows).map(move |first| first..(first + rows).min(after.height))
    }

    /// The windows of images side by side, `[depth, images · pixels]`; gives the length of a row.
    fn gather_all(&self, images: &[f32], scratch: &mut Scratch) -> usize {
        let (after, numbers) = (self.after(), self.plane.numbers());
        let width = images.len() / numbers * after.pixels();
        let windows = grown(&mut scratch.windows, self.depth() * width);
        for (index, image) in images.chunks_exact(numbers).enumerate() {
            let place = (width, index * after.pixels());
            gather(image, self.plane, self.window, 0..after.height, windows, place);
        }
        width
    }

    /// The gradients from the one behind the convolution, on all threads of the current pool. `rectified` has the result
    /// of the convolution where that was rectified.
    ///
    /// # Panics
    /// If there are not as many numbers as the shapes say.
    pub fn backward(
        &self,
        arch: Arch,
        (images, weight): (&[f32], &[f32]),
        rectified: Option<&[f32]>,
        gradient: &[f32],
        of_images: bool,
    ) -> Gradients {
        let group = self.group();
        let (before, after) = (self.plane.numbers() * group, self.after().numbers() * group);
        let mut out = vec![0.0; if of_images { images.len() } else { 0 }];
        let mut places: Vec<&mut [f32]> = out.chunks_mut(before.max(1)).collect();
        places.resize_with(images.len().div_ceil(before.max(1)), Default::default);
        let tiles = places.into_par_iter().enumerate();
        let parts: Vec<(Vec<f32>, Vec<f32>)> = tiles
            .map_init(Scratch::default, |scratch, (tile, out)| {
                let images = &images[tile * before..images.len().min((tile + 1) * before)];
                let part = tile * after..gradient.len().min((tile + 1) * after);
                let rectified = rectified.map(|numbers| &numbers[part.clone()]);
                self.tile_backward(arch, (images, weight), rectified, &gradient[part], out, scratch)
            })
            .collect();
        let mut weight = vec![0.0; self.outputs * self.depth()];
        let mut shift = vec![0.0; self.outputs];
        // In the order of tiles, whichever thread had them.
        for (of_weight, of_shift) in parts {
            weight.iter_mut().zip(of_weight).for_each(|(sum, part)| *sum += part);
            shift.iter_mut().zip(of_shift).for_each(|(sum, part)| *sum += part);
        }
        Gradients { images: out, weight, shift }
    }

    /// A tile's part of the gradients of weight and shift, and all of that of its images.
    fn tile_backward(
        &self,
        arch: Arch,
        (images, weight): (&[f32], &[f32]),
        rectified: Option<&[f32]>,
        gradient: &[f32],
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> (Vec<f32>, Vec<f32>) {
        let (depth, pixels) = (self.depth(), self.after().pixels());
        let width = self.gather_all(images, scratch);
        let behind = grown(&mut scratch.product, self.outputs * width);
        let mut of_shift = vec![0.0; self.outputs];
        for (index, gradient) in gradient.chunks_exact(pixels).enumerate() {
            let (image, channel) = (index / self.outputs, index % self.outputs);
            let place = &mut behind[channel * width + image * pixels..][..pixels];
            place.copy_from_slice(gradient);
            if let Some(rectified) = rectified {
                super::passes::relu_backward(arch, place, &rectified[index * pixels..][..pixels]);
            }
            of_shift[channel] += sum(arch, place);
        }
        let behind = Matrix::new(behind, self.outputs, width);
        let mut of_weight = vec![0.0; self.outputs * depth];
        let windows = Matrix::new(&scratch.windows, depth, width);
        product(MatrixMut::new(&mut of_weight, self.outputs, depth), behind, windows.t(), false, Threads(1));
        if !out.is_empty() {
            let weight = Matrix::new(weight, self.outputs, depth);
            product(MatrixMut::new(&mut scratch.windows, depth, width), weight.t(), behind, false, Threads(1));
            for (index, out) in out.chunks_exact_mut(self.plane.numbers()).enumerate() {
                add_back(&scratch.windows, (width, index * pixels), self.plane, self.window, out);
            }
        }
        (of_weight, of_shift)
    }
}

impl Finish<'_> {
    /// Finishes numbers of a channel, the first of which is number `at` of the result.
    fn run(&self, arch: Arch, channel: usize, at: usize, numbers: &mut [f32]) {
        let of = |values: Option<&[f32]>, otherwise| values.map_or(otherwise, |values| values[channel]);
        let (scale, shift) = (of(self.scale, 1.0), of(self.shift, 0.0));
        let rectify = self.rectify;
        arch.dispatch(
            #[inline(always)]
            || match self.add {
                Some(add) => {
                    let add = &add[at..][..numbers.len()];
                    numbers.iter_mut().zip(add).for_each(|(y, add)| *y = finished(*y * scale + shift + add, rectify));
                }
                None => numbers.iter_mut().for_each(|y| *y = finished(*y * scale + shift, rectify)),
            },
        );
    }
}

/// `max(y, 0)` where it is to be rectified. Not the maximum, which may turn what is no number into 0.
#[inline(always)]
fn finished(y: f32, rectify: bool) -> f32 {
    if !rectify || y > 0.0 { y } else { y * 0.0 }
}

/// The sum of some numbers, in eight parts.
fn sum(arch: Arch, numbers: &[f32]) -> f32 {
    arch.dispatch(
        #[inline(always)]
        || {
            let chunks = numbers.chunks_exact(8);
            let rest: f32 = chunks.remainder().iter().sum();
            let mut sums = [0.0; 8];
            for chunk in chunks {
                sums.iter_mut().zip(chunk).for_each(|(sum, number)| *sum += number);
            }
            sums.iter().sum::<f32>() + rest
        },
    )
}

/// The first `count` numbers of a buffer, which grows where it has to.
fn grown(buffer: &mut Vec<f32>, count: usize) -> &mut [f32] {
    if buffer.len() < count {
        buffer.resize(count, 0.0);
    }
    &mut buffer[..count]
}
