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

/// Gathers the windows of some rows of windows into the columns from `at` on of `out`, `[channels · size², stride]`.
///
/// # Panics
/// If a slice is shorter than its shape.
pub fn gather(
    image: &[f32],
    plane: Plane,
    window: Window,
    rows: Range<usize>,
    out: &mut [f32],
    (stride, at): (usize, usize),
) {
    let count = window.count(plane.width);
    if count == 0 {
        return;
    }
    let mut out = out.chunks_mut(stride);
    for channel in image.chunks_exact(plane.pixels()).take(plane.channels) {
        for down in 0..window.size {
            for right in 0..window.size {
                let Some(out) = out.next() else { return };
                let inside = window.inside(right, plane.width, count);
                for (row, out) in rows.clone().zip(out[at..].chunks_exact_mut(count)) {
                    let Some(y) = (row * window.stride + down).checked_sub(window.padding) else {
                        out.fill(0.0);
                        continue;
                    };
                    if y >= plane.height || inside.is_empty() {
                        out.fill(0.0);
                        continue;
                    }
                    out[..inside.start].fill(0.0);
                    out[inside.end..].fill(0.0);
                    let first = inside.start * window.stride + right - window.padding;
                    let line = &channel[y * plane.width..][..plane.width][first..];
                    pick(&mut out[inside.clone()], line, window.stride);
                }
            }
        }
    }
}

/// Every `stride`th value of `line`.
fn pick(out: &mut [f32], line: &[f32], stride: usize) {
    match stride {
        1 => out.copy_from_slice(&line[..out.len()]),
        // In pairs, which the compiler vectorises.
        2 => {
            let pairs = line.chunks_exact(2);
            if let ([last], true) = (pairs.remainder(), out.len() > line.len() / 2) {
                out[line.len() / 2] = *last;
            }
            out.iter_mut().zip(pairs).for_each(|(out, pair)| *out = pair[0]);
        }
        _ => out.iter_mut().zip(line.iter().step_by(stride)).for_each(|(out, number)| *out = *number),
    }
}

/// Adds windows, laid out as by [`gather`], to the pixels that they were gathered from.
///
/// # Panics
/// If a slice is shorter than its shape.
pub fn add_back(windows: &[f32], (stride, at): (usize, usize), plane: Plane, window: Window, image: &mut [f32]) {
    let count = window.count(plane.width);
    let rows = window.count(plane.height);
    let mut windows = windows.chunks(stride);
    for channel in image.chunks_exact_mut(plane.pixels()).take(plane.channels) {
        for down in 0..window.size {
            let across = window.inside(down, plane.height, rows);
            for right in 0..window.size {
                let Some(windows) = windows.next() else { return };
                let inside = window.inside(right, plane.width, count);
                if inside.is_empty() {
                    continue;
                }
                let first = inside.start * window.stride + right - window.padding;
                for row in across.clone() {
                    let y = row * window.stride + down - window.padding;
                    let line = &mut channel[y * plane.width..][..plane.width][first..];
                    put(line, &windows[at + row * count..][inside.clone()], window.stride);
                }
            }
        }
    }
}

/// Adds `numbers` to every `stride`th value of `line`.
fn put(line: &mut [f32], numbers: &[f32], stride: usize) {
    match stride {
        1 => line.iter_mut().zip(numbers).for_each(|(line, number)| *line += number),
        2 => {
            let length = line.len();
            let mut pairs = line.chunks_exact_mut(2);
            pairs.by_ref().zip(numbers).for_each(|(pair, number)| pair[0] += number);
            if let ([last], Some(number)) = (pairs.into_remainder(), numbers.get(length / 2)) {
                *last += number;
            }
        }
        _ => line.iter_mut().step_by(stride).zip(numbers).for_each(|(line, number)| *line += number),
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
            channels in 1..3usize, (height, width) in (1..9usize, 1..9usize),
            (size, stride, padding) in (1..5usize, 1..4usize, 0..3usize), more in 0..3usize,
        ) {
            let plane = Plane { channels, height, width };
            let window = Window { size, stride, padding };
            let after = plane.after(window, channels);
            let (places, kinds) = (after.pixels(), channels * size * size);
            let image = numbers(plane.numbers(), 0.7);
            let mut gathered = vec![9.0; kinds * (places + more)];
            let row = (places + more).max(1);
            // One row of windows at a time, as in tiles.
            for y in 0..after.height {
                gather(&image, plane, window, y..y + 1, &mut gathered, (row, more + y * after.width));
            }
            let mut back = vec![0.0; plane.numbers()];
            add_back(&gathered, (row, more), plane, window, &mut back);
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
