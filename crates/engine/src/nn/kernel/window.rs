//! The windows of a convolution or pooling: gathered into a matrix (im2col), and added back (col2im).
//!
//! The windows of an image `[channels, height, width]` are a matrix with one row per (channel, row, column) of a window, in
//! the order of PyTorch's weights, and one column per position, so that a convolution is the product of weights and windows.

use std::ops::Range;

/// Square windows, `stride` pixels apart, over an image with `padding` pixels of zeros on each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Pixels along an edge.
    pub size: usize,
    /// Pixels from one window to the next.
    pub stride: usize,
    /// Pixels of padding on each side of the image.
    pub padding: usize,
}

impl Window {
    /// Number of windows along an edge of `extent` pixels.
    pub fn count(self, extent: usize) -> usize {
        match (extent + 2 * self.padding).checked_sub(self.size) {
            Some(room) if extent > 0 => room / self.stride + 1,
            _ => 0,
        }
    }

    /// Whether the windows of an image are the image itself.
    pub fn is_point(self) -> bool {
        self == Window { size: 1, stride: 1, padding: 0 }
    }

    /// Those of `count` windows along an edge whose pixel `offset` is within the `extent` pixels.
    fn inside(self, offset: usize, extent: usize, count: usize) -> Range<usize> {
        let first = self.padding.saturating_sub(offset).div_ceil(self.stride);
        let end = (extent + self.padding).saturating_sub(offset).div_ceil(self.stride);
        first.min(count)..end.clamp(first.min(count), count)
    }
}

/// The shape of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plane {
    /// Channels.
    pub channels: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Pixels per row.
    pub width: usize,
}

impl Plane {
    /// Elements of an image.
    pub fn numbers(self) -> usize {
        self.channels * self.height * self.width
    }

    /// Pixels of a channel.
    pub fn pixels(self) -> usize {
        self.height * self.width
    }

    /// The shape after a convolution or pooling with `channels` outputs.
    pub fn after(self, window: Window, channels: usize) -> Plane {
        Plane { channels, height: window.count(self.height), width: window.count(self.width) }
    }
}

/// An image with its padding in *phases*: pixels whose rows have the same remainder by the stride, and whose columns have, too, lie together,
/// `[channels, count, count, height, width]`. So the pixels at one place of all windows of a row are contiguous. Remainders that no
/// window reaches are left out.
#[derive(Debug, Clone, Default)]
pub struct Phases {
    numbers: Vec<f32>,
    /// Remainders per direction.
    count: usize,
    /// Rows and columns of a phase.
    height: usize,
    width: usize,
    /// The shape of images whose padding is zero.
    padded: Option<(Plane, Window)>,
}

impl Phases {
    fn clear(&mut self, plane: Plane, window: Window) {
        self.count = window.size.min(window.stride);
        self.height = (plane.height + 2 * window.padding).div_ceil(window.stride);
        self.width = (plane.width + 2 * window.padding).div_ceil(window.stride);
        self.numbers.clear();
        self.numbers.resize(plane.channels * self.count * self.count * self.height * self.width, 0.0);
    }

    /// Where the pixel (`down`, `right`) of the first window is; those of further rows of windows are `self.width` apart.
    fn place(&self, window: Window, channel: usize, down: usize, right: usize) -> usize {
        let stride = window.stride;
        let phase = (channel * self.count + down % stride) * self.count + right % stride;
        (phase * self.height + down / stride) * self.width + right / stride
    }

    /// Calls `pass` for every part of a line of the image that is in one phase, with the line from its first pixel there on, and the
    /// numbers of the phase from there on.
    #[inline(always)]
    fn lines<I>(
        &mut self,
        plane: Plane,
        window: Window,
        mut lines: impl Iterator<Item = I>,
        mut pass: impl FnMut(&mut I, usize, &mut [f32]),
    ) {
        let Window { stride, padding, .. } = window;
        // Lines are short: nothing is divided for each of them that could be divided before.
        let columns = (0..self.count).filter_map(|phase| {
            let first = (phase + stride - padding % stride) % stride;
            let count = plane.width.saturating_sub(first).div_ceil(stride);
            (count > 0).then_some((phase * self.height * self.width + (first + padding) / stride, first, count))
        });
        let columns: Vec<(usize, usize, usize)> = columns.collect();
        for channel in 0..plane.channels {
            let (mut down, mut phase) = (padding / stride, padding % stride);
            for mut line in lines.by_ref().take(plane.height) {
                if phase < self.count {
                    let row = (channel * self.count + phase) * self.count * self.height + down;
                    for &(at, first, count) in &columns {
                        pass(&mut line, first, &mut self.numbers[row * self.width + at..][..count]);
                    }
                }
                phase += 1;
                if phase == stride {
                    (down, phase) = (down + 1, 0);
                }
            }
        }
    }

    /// Takes an image apart.
    ///
    /// # Panics
    /// If the image is smaller than its shape.
    pub fn cut(&mut self, image: &[f32], plane: Plane, window: Window) {
        // The padding stays as it was for images of the same shape.
        if self.padded != Some((plane, window)) {
            self.clear(plane, window);
            self.padded = Some((plane, window));
        }
        let image = &image[..plane.numbers()];
        #[cfg(target_arch = "x86_64")]
        if let (2, Some(simd)) = (window.stride, pulp::x86::V3::try_new()) {
            return simd.vectorize(x86::Cut { simd, phases: self, image, plane, window });
        }
        let lines = image.chunks_exact(plane.width.max(1));
        self.lines(plane, window, lines, |line, first, phase| match window.stride {
            1 => phase.copy_from_slice(line),
            2 => {
                let pairs = line.as_chunks::<2>().0;
                phase.iter_mut().zip(pairs).for_each(|(phase, pair)| *phase = pair[first]);
                put_last(phase, pairs.len(), line);
            }
            stride => phase.iter_mut().zip(line[first..].iter().step_by(stride)).for_each(|(phase, x)| *phase = *x),
        });
    }

    /// Gathers some rows of windows into the columns from `at` on of `out`, `[channels · size², stride]`.
    ///
    /// # Panics
    /// If `out` is shorter than its shape, or the image that was cut was smaller.
    pub fn gather(
        &self,
        plane: Plane,
        window: Window,
        rows: Range<usize>,
        out: &mut [f32],
        (stride, at): (usize, usize),
    ) {
        let count = window.count(plane.width);
        if count == 0 || rows.is_empty() {
            return;
        }
        for (kind, out) in out.chunks_mut(stride).take(plane.channels * window.size * window.size).enumerate() {
            let (channel, place) = (kind / (window.size * window.size), kind % (window.size * window.size));
            let first = self.place(window, channel, place / window.size, place % window.size);
            let from = &self.numbers[first + rows.start * self.width..];
            let out = &mut out[at..][..rows.len() * count];
            match count {
                4 => copy::<4>(out, from, self.width),
                8 => copy::<8>(out, from, self.width),
                16 => copy::<16>(out, from, self.width),
                32 => copy::<32>(out, from, self.width),
                _ => out.chunks_exact_mut(count).zip(from.chunks(self.width)).for_each(|(out, from)| {
                    out.copy_from_slice(&from[..count]);
                }),
            }
        }
    }

    /// Adds windows, laid out as by [`Self::gather`], to the pixels that they were gathered from.
    ///
    /// # Panics
    /// If a slice is shorter than its shape.
    pub fn add_back(
        &mut self,
        windows: &[f32],
        (stride, at): (usize, usize),
        plane: Plane,
        window: Window,
        image: &mut [f32],
    ) {
        let (rows, count) = (window.count(plane.height), window.count(plane.width));
        if rows * count == 0 {
            return;
        }
        self.clear(plane, window);
        self.padded = None;
        for (kind, windows) in windows.chunks(stride).take(plane.channels * window.size * window.size).enumerate() {
            let (channel, place) = (kind / (window.size * window.size), kind % (window.size * window.size));
            let first = self.place(window, channel, place / window.size, place % window.size);
            let (windows, to) = (&windows[at..][..rows * count], &mut self.numbers[first..]);
            match count {
                4 => add::<4>(to, windows, self.width),
                8 => add::<8>(to, windows, self.width),
                16 => add::<16>(to, windows, self.width),
                32 => add::<32>(to, windows, self.width),
                _ => to.chunks_mut(self.width).zip(windows.chunks_exact(count)).for_each(|(to, windows)| {
                    to.iter_mut().zip(windows).for_each(|(to, number)| *to += number);
                }),
            }
        }
        let lines = image[..plane.numbers()].chunks_exact_mut(plane.width);
        self.lines(plane, window, lines, |line, first, phase| match window.stride {
            2 => {
                let (pairs, last) = line.as_chunks_mut::<2>();
                pairs.iter_mut().zip(&*phase).for_each(|(pair, phase)| pair[first] += phase);
                if let ([last], Some(phase)) = (last, phase.get(pairs.len())) {
                    *last += phase;
                }
            }
            stride => line[first..].iter_mut().step_by(stride).zip(phase).for_each(|(x, phase)| *x += *phase),
        });
    }
}

/// Puts the last pixel of a line of odd length, which has no pair, into the phase that has room for it.
#[inline(always)]
fn put_last(phase: &mut [f32], pairs: usize, line: &[f32]) {
    if let (true, Some(phase), Some(last)) = (phase.len() > pairs, phase.last_mut(), line.last()) {
        *phase = *last;
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::every_other;

/// Pixels of every other column, with shuffles that the compiler does not find.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m256i};

    use pulp::x86::V3;
    use pulp::{NullaryFnOnce, cast};

    use super::{Phases, Plane, Window, put_last};

    /// Takes an image apart, with stride 2.
    pub struct Cut<'a> {
        pub simd: V3,
        pub phases: &'a mut Phases,
        pub image: &'a [f32],
        pub plane: Plane,
        pub window: Window,
    }

    impl NullaryFnOnce for Cut<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let Cut { simd, phases, image, plane, window } = self;
            let lines = image.chunks_exact(plane.width.max(1));
            phases.lines(
                plane,
                window,
                lines,
                #[inline(always)]
                |line, first, phase| {
                    let pairs = line.as_chunks::<2>().0;
                    let (eights, to) = (pairs.as_chunks::<8>().0, phase.as_chunks_mut::<8>().0);
                    let done = 8 * eights.len().min(to.len());
                    for (to, eight) in to.iter_mut().zip(eights) {
                        *to = cast(every_other(simd, cast(*eight), first));
                    }
                    phase[done..].iter_mut().zip(&pairs[done..]).for_each(|(phase, pair)| *phase = pair[first]);
                    put_last(phase, pairs.len(), line);
                },
            );
        }
    }

    /// The first numbers of eight pairs, or the second ones.
    #[inline(always)]
    pub fn every_other(simd: V3, [a, b]: [__m256; 2], first: usize) -> __m256 {
        let halves = match first {
            0 => simd.avx._mm256_shuffle_ps::<0x88>(a, b),
            _ => simd.avx._mm256_shuffle_ps::<0xdd>(a, b),
        };
        cast(simd.avx2._mm256_permute4x64_epi64::<0xd8>(cast::<__m256, __m256i>(halves)))
    }
}

/// Copies rows of `COUNT` numbers, which are `width` apart: of a length that the compiler knows, since they are short.
fn copy<const COUNT: usize>(out: &mut [f32], from: &[f32], width: usize) {
    for (out, from) in out.as_chunks_mut::<COUNT>().0.iter_mut().zip(from.chunks(width)) {
        out.copy_from_slice(&from[..COUNT]);
    }
}

/// The reverse of [`copy`], which adds.
fn add<const COUNT: usize>(to: &mut [f32], windows: &[f32], width: usize) {
    for (to, windows) in to.chunks_mut(width).zip(windows.as_chunks::<COUNT>().0) {
        to[..COUNT].iter_mut().zip(windows).for_each(|(to, number)| *to += number);
    }
}

/// Max pooling per channel; −∞ for a window of padding alone.
pub fn largest(image: &[f32], plane: Plane, window: Window, out: &mut [f32]) {
    let (rows, count) = (window.count(plane.height), window.count(plane.width));
    if rows * count == 0 {
        return;
    }
    for (channel, out) in image.chunks_exact(plane.pixels()).zip(out.chunks_exact_mut(rows * count)) {
        for (row, out) in out.chunks_exact_mut(count).enumerate() {
            out.fill(f32::NEG_INFINITY);
            for down in 0..window.size {
                let Some(y) = (row * window.stride + down).checked_sub(window.padding) else { continue };
                let Some(line) = channel.chunks_exact(plane.width).nth(y) else { continue };
                for right in 0..window.size {
                    let inside = window.inside(right, plane.width, count);
                    if inside.is_empty() {
                        continue;
                    }
                    let first = inside.start * window.stride + right - window.padding;
                    for (out, x) in out[inside].iter_mut().zip(line[first..].iter().step_by(window.stride)) {
                        // Propagates NaN.
                        if *x > *out || x.is_nan() {
                            *out = *x;
                        }
                    }
                }
            }
        }
    }
}

/// The backward pass of [`largest`]: the gradient goes to the first pixel that has the maximum, as in PyTorch.
pub fn largest_backward(image: &[f32], plane: Plane, window: Window, gradient: &[f32], out: &mut [f32]) {
    let (rows, count) = (window.count(plane.height), window.count(plane.width));
    let pixels = plane.pixels();
    if rows * count == 0 {
        return;
    }
    let channels = image.chunks_exact(pixels).zip(out.chunks_exact_mut(pixels));
    for ((channel, out), gradient) in channels.zip(gradient.chunks_exact(rows * count)) {
        for (at, gradient) in gradient.iter().enumerate() {
            let (top, left) = ((at / count) * window.stride, (at % count) * window.stride);
            let mut best: Option<usize> = None;
            for y in top.max(window.padding)..(top + window.size).min(plane.height + window.padding) {
                for x in left.max(window.padding)..(left + window.size).min(plane.width + window.padding) {
                    let pixel = (y - window.padding) * plane.width + x - window.padding;
                    if best.is_none_or(|best| channel[pixel] > channel[best] || channel[pixel].is_nan()) {
                        best = Some(pixel);
                    }
                }
            }
            if let Some(best) = best {
                out[best] += gradient;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POOL: Window = Window { size: 3, stride: 2, padding: 1 };

    fn numbers(count: usize, by: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * by).sin()).collect()
    }

    /// The pixel of a padded image.
    fn pixel(image: &[f32], plane: Plane, window: Window, c: usize, y: usize, x: usize) -> f32 {
        let (y, x) = (y.checked_sub(window.padding), x.checked_sub(window.padding));
        match (y, x) {
            (Some(y), Some(x)) if y < plane.height && x < plane.width => {
                image[(c * plane.height + y) * plane.width + x]
            }
            _ => 0.0,
        }
    }

    proptest! {
        #[test]
        fn windows_agree_with_their_definition(
            channels in 1..3usize, (height, width) in (1..9usize, 1..70usize),
            (size, stride, padding) in (1..5usize, 1..9usize, 0..3usize), more in 0..3usize,
        ) {
            let plane = Plane { channels, height, width };
            let window = Window { size, stride, padding };
            let after = plane.after(window, channels);
            let (places, kinds) = (after.pixels(), channels * size * size);
            let image = numbers(plane.numbers(), 0.7);
            let mut gathered = vec![9.0; kinds * (places + more)];
            let row = (places + more).max(1);
            let mut phases = Phases::default();
            // After another image of the same shape.
            phases.cut(&vec![5.0; plane.numbers()], plane, window);
            phases.cut(&image, plane, window);
            // One row of windows at a time, as in tiles.
            for y in 0..after.height {
                phases.gather(plane, window, y..y + 1, &mut gathered, (row, more + y * after.width));
            }
            let mut back = vec![0.0; plane.numbers()];
            phases.add_back(&gathered, (row, more), plane, window, &mut back);
            // After that, and after one of another shape.
            for other in [None, Some(Plane { height: height + 1, ..plane })] {
                if let Some(other) = other {
                    phases.cut(&vec![5.0; other.numbers()], other, window);
                }
                let mut again = gathered.clone();
                phases.cut(&image, plane, window);
                phases.gather(plane, window, 0..after.height, &mut again, (row, more));
                prop_assert_eq!(&again, &gathered);
            }
            let mut expected = vec![0.0; plane.numbers()];
            for kind in 0..kinds {
                let (c, down, right) = (kind / (size * size), kind / size % size, kind % size);
                for place in 0..places {
                    let (y, x) = (place / after.width * stride + down, place % after.width * stride + right);
                    let one = pixel(&image, plane, window, c, y, x);
                    prop_assert_eq!(gathered[kind * row + more + place], one);
                    if y >= padding && x >= padding && y - padding < height && x - padding < width {
                        expected[(c * height + y - padding) * width + x - padding] += one;
                    }
                }
            }
            for (back, expected) in back.iter().zip(&expected) {
                prop_assert!((back - expected).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn the_first_largest_pixel_receives_the_gradient() {
        let plane = Plane { channels: 2, height: 5, width: 4 };
        let image: Vec<f32> = numbers(plane.numbers(), 1.3).iter().map(|x| (x * 4.0).round() - 9.0).collect();
        let after = plane.after(POOL, 2);
        assert_eq!((after.height, after.width), (3, 2));
        let mut out = vec![0.0; after.numbers()];
        largest(&image, plane, POOL, &mut out);
        let gradient = numbers(out.len(), 0.4);
        let mut back = vec![0.0; image.len()];
        largest_backward(&image, plane, POOL, &gradient, &mut back);
        let mut expected = vec![0.0; image.len()];
        for (at, largest) in out.iter().enumerate() {
            let (c, y, x) = (at / after.pixels(), at / after.width % after.height, at % after.width);
            let pixels = (0..9).filter_map(|k| {
                let (y, x) = ((2 * y + k / 3).checked_sub(1)?, (2 * x + k % 3).checked_sub(1)?);
                (y < 5 && x < 4).then_some((c * 5 + y) * 4 + x)
            });
            let first = pixels.fold(None, |best: Option<usize>, pixel| match best {
                Some(best) if image[pixel] <= image[best] => Some(best),
                _ => Some(pixel),
            });
            let first = first.unwrap();
            assert_eq!(image[first], *largest);
            expected[first] += gradient[at];
        }
        assert_eq!(back, expected);
    }

    #[test]
    fn pooling_propagates_nan() {
        let plane = Plane { channels: 1, height: 2, width: 2 };
        let mut out = [0.0];
        largest(&[1.0, f32::NAN, 3.0, 2.0], plane, POOL, &mut out);
        assert!(out[0].is_nan(), "{out:?}");
    }
}
