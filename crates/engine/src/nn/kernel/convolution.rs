//! Convolutions of images, `[images, channels, height, width]`, as products of weights and windows (im2col).
//!
//! Windows are gathered for *tiles*: as many images, or rows of one, as fit into the caches. Tiles depend on the shapes
//! alone, so results do not depend on the number of threads.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::OnceLock;

use pulp::Arch;

#[cfg(target_arch = "x86_64")]
use super::halving::Halving;
use super::window::{Phases, Plane, Window};
use super::{Matrix, MatrixMut, PASS, Threads, cut, product, room, written};

/// Elements of the windows of a tile: weights and result of the product fit into the cache as well.
const TILE: usize = 1 << 17;

/// The shape of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// The shape of an input image.
    pub plane: Plane,
    /// Its windows.
    pub window: Window,
    /// Output channels.
    pub outputs: usize,
}

/// What is applied to a channel after the product: `y ↦ max(y · scale + shift + add, 0)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Finish<'a> {
    /// `[outputs]`; 1 where absent.
    pub scale: Option<&'a [f32]>,
    /// `[outputs]`; 0 where absent.
    pub shift: Option<&'a [f32]>,
    /// Images of the result's shape; 0 where absent.
    pub add: Option<&'a [f32]>,
    /// Whether the result is rectified.
    pub rectify: bool,
}

/// Buffers of a tile, reused between calls.
#[derive(Debug, Default)]
pub struct Scratch {
    phases: Phases,
    /// Of gradients.
    back: Phases,
    windows: Vec<f32>,
    product: Vec<f32>,
}

thread_local! {
    /// The buffers of the tile that this thread computes.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The gradients of a convolution.
#[derive(Debug, Default, PartialEq)]
pub struct Gradients {
    /// Those of the images, if requested.
    pub images: Vec<f32>,
    /// `[outputs, channels · size²]`
    pub weight: Vec<f32>,
    /// `[outputs]`
    pub shift: Vec<f32>,
}

impl Convolution {
    /// The shape of an output image.
    pub fn after(&self) -> Plane {
        self.plane.after(self.window, self.outputs)
    }

    /// Elements of a window.
    fn depth(&self) -> usize {
        self.plane.channels * self.window.size * self.window.size
    }

    /// Images per tile.
    fn group(&self) -> usize {
        (TILE / (self.depth() * self.after().pixels()).max(1)).max(1)
    }

    /// The threads of the current pool that are worth using for so many images.
    fn threads(&self, images: usize) -> Threads {
        Threads::of_pool().worth(images * self.outputs * self.depth() * self.after().pixels())
    }

    /// Convolves images on all threads of the current pool.
    ///
    /// # Panics
    /// If a slice is shorter than its shape.
    pub fn forward(&self, arch: Arch, images: &[f32], weight: &[f32], finish: Finish<'_>) -> Vec<f32> {
        let count = images.len() / self.plane.numbers().max(1);
        let threads = self.threads(count);
        // Smaller tiles, so that threads end together: here they change no sum.
        let group = self.group().div_ceil(threads.0);
        let (before, after) = (self.plane.numbers() * group, self.after().numbers() * group);
        written(count * self.after().numbers(), after, threads, |tile, out| {
            let images = &images[tile * before..images.len().min((tile + 1) * before)];
            let finish = Finish { add: finish.add.map(|add| &add[tile * after..][..out.len()]), ..finish };
            SCRATCH.with_borrow_mut(|scratch| self.tile(arch, images, weight, finish, out, scratch, Threads(1)));
        })
    }

    /// Convolves one tile: one image, in parts if it is large, or several side by side.
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
            let product_ = room(&mut scratch.product, self.outputs * width);
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
                if rows.len() == after.height {
                    self.gather_all(images, scratch);
                } else {
                    if rows.start == 0 {
                        scratch.phases.cut(images, self.plane, self.window);
                    }
                    let windows = room(&mut scratch.windows, depth * columns.len());
                    scratch.phases.gather(self.plane, self.window, rows, windows, (columns.len(), 0));
                }
                Matrix::new(&scratch.windows, depth, columns.len())
            };
            let target = MatrixMut::strided(&mut out[columns.start..], self.outputs, columns.len(), pixels);
            product(target, weight, windows, false, threads);
            for (channel, out) in out.chunks_exact_mut(pixels).enumerate() {
                finish.run(arch, channel, channel * pixels + columns.start, &mut out[columns.clone()]);
            }
        }
    }

    /// The rows of windows of each tile of an image.
    fn row_tiles(&self) -> impl Iterator<Item = Range<usize>> {
        let after = self.after();
        let rows = (TILE / (self.depth() * after.width).max(1)).clamp(1, after.height.max(1));
        // Tiles of nearly equal size.
        let rows = after.height.div_ceil(after.height.div_ceil(rows).max(1)).max(1);
        (0..after.height).step_by(rows).map(move |first| first..(first + rows).min(after.height))
    }

    /// The windows of images side by side, `[depth, images · pixels]`; returns the length of a row.
    fn gather_all(&self, images: &[f32], scratch: &mut Scratch) -> usize {
        let (after, numbers) = (self.after(), self.plane.numbers());
        let width = images.len() / numbers * after.pixels();
        let windows = room(&mut scratch.windows, self.depth() * width);
        let images =
            images.chunks_exact(numbers).enumerate().map(|(index, image)| (image, (width, index * after.pixels())));
        #[cfg(target_arch = "x86_64")]
        if let Some(halving) = Halving::new(self.plane, self.window) {
            images.for_each(|(image, place)| halving.gather(image, windows, place));
            return width;
        }
        for (image, place) in images {
            scratch.phases.cut(image, self.plane, self.window);
            scratch.phases.gather(self.plane, self.window, 0..after.height, windows, place);
        }
        width
    }

    /// The backward pass from the gradient at the output, on all threads of the current pool. `rectified` is the output if
    /// it was rectified.
    ///
    /// # Panics
    /// If a slice is shorter than its shape.
    pub fn backward(
        &self,
        arch: Arch,
        (images, weight): (&[f32], &[f32]),
        rectified: Option<&[f32]>,
        gradient: &[f32],
        of_images: bool,
    ) -> Gradients {
        let (before, after) = (self.plane.numbers() * self.group(), self.after().numbers() * self.group());
        let threads = self.threads(2 * images.len() / self.plane.numbers().max(1));
        let tiles = images.len().div_ceil(before.max(1));
        let parts: Vec<OnceLock<(Vec<f32>, Vec<f32>)>> = vec![OnceLock::new(); tiles];
        let compute = |tile: usize, out: &mut [f32]| {
            let images = &images[tile * before..images.len().min((tile + 1) * before)];
            let part = tile * after..gradient.len().min((tile + 1) * after);
            let (rectified, gradient) = (rectified.map(|numbers| &numbers[part.clone()]), &gradient[part]);
            let operands = (images, weight);
            parts[tile].get_or_init(|| {
                SCRATCH.with_borrow_mut(|scratch| self.tile_backward(arch, operands, rectified, gradient, out, scratch))
            });
        };
        let out = if of_images {
            written(images.len(), before, threads, compute)
        } else {
            threads.each(0..tiles, |tile| compute(tile, &mut []));
            Vec::new()
        };
        let parts: Vec<(Vec<f32>, Vec<f32>)> = parts.into_iter().filter_map(OnceLock::into_inner).collect();
        let mut weight = vec![0.0; self.outputs * self.depth()];
        let mut shift = vec![0.0; self.outputs];
        // In the order of tiles, so that sums do not depend on threads.
        let add = |to: &mut [f32], from: &[f32]| to.iter_mut().zip(from).for_each(|(sum, part)| *sum += part);
        let ranges = threads.parts(weight.len(), weight.len() * parts.len() * PASS);
        threads.each(ranges.iter().zip(cut(&mut weight, 1, &ranges)), |(range, weight)| {
            parts.iter().for_each(|(of_weight, _)| add(weight, &of_weight[range.clone()]));
        });
        parts.iter().for_each(|(_, of_shift)| add(&mut shift, of_shift));
        Gradients { images: out, weight, shift }
    }

    /// A tile's contribution to the gradients of weight and shift, and the gradient of its images.
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
        let output = room(&mut scratch.product, self.outputs * width);
        let mut of_shift = vec![0.0; self.outputs];
        for (index, gradient) in gradient.chunks_exact(pixels).enumerate() {
            let (image, channel) = (index / self.outputs, index % self.outputs);
            let place = &mut output[channel * width + image * pixels..][..pixels];
            place.copy_from_slice(gradient);
            if let Some(rectified) = rectified {
                super::passes::relu_backward(arch, place, &rectified[index * pixels..][..pixels]);
            }
            of_shift[channel] += sum(arch, place);
        }
        let output = Matrix::new(output, self.outputs, width);
        let mut of_weight = vec![0.0; self.outputs * depth];
        let windows = Matrix::new(&scratch.windows, depth, width);
        product(MatrixMut::new(&mut of_weight, self.outputs, depth), output, windows.t(), false, Threads(1));
        if !out.is_empty() {
            let weight = Matrix::new(weight, self.outputs, depth);
            product(MatrixMut::new(&mut scratch.windows, depth, width), weight.t(), output, false, Threads(1));
            let images = out.chunks_exact_mut(self.plane.numbers()).enumerate();
            let images = images.map(|(index, image)| (image, (width, index * pixels)));
            #[cfg(target_arch = "x86_64")]
            if let Some(halving) = Halving::new(self.plane, self.window) {
                images.for_each(|(image, place)| halving.add_back(&scratch.windows, place, image));
                return (of_weight, of_shift);
            }
            for (out, place) in images {
                scratch.back.add_back(&scratch.windows, place, self.plane, self.window, out);
            }
        }
        (of_weight, of_shift)
    }
}

impl Finish<'_> {
    /// Finishes values of a channel, the first of which is element `at` of the result.
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

/// `max(y, 0)` if `rectify`. Not the maximum, which may turn NaN into 0.
#[inline(always)]
fn finished(y: f32, rectify: bool) -> f32 {
    if !rectify || y > 0.0 { y } else { y * 0.0 }
}

/// The sum of `numbers`, in eight partial sums.
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
