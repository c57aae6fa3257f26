//! Initial distributions. Values are drawn on the CPU from the crate's own streams, so they are the same on every machine.

use crate::rng::Stream;
use crate::spec::Init;

/// `count` values uniform within `±bound`.
pub fn uniform(stream: &mut Stream, count: usize, bound: f64) -> Vec<f32> {
    let bound = bound as f32;
    (0..count).map(|_| stream.uniform(-bound, bound)).collect()
}

/// `count` standard normal values.
pub fn normal(stream: &mut Stream, count: usize) -> Vec<f32> {
    (0..count).map(|_| stream.normal()).collect()
}

/// A recurrent layer's weight `[gates · hidden, inputs]`: `uniform` is within `±1/√hidden`, as in PyTorch; the others
/// initialise each gate's block `[hidden, inputs]` separately.
pub fn recurrent_weight(stream: &mut Stream, init: Init, gates: usize, hidden: usize, inputs: usize) -> Vec<f32> {
    let (fan_in, fan_out) = (inputs as f64, hidden as f64);
    let count = gates * hidden * inputs;
    match init {
        Init::Uniform => uniform(stream, count, 1.0 / fan_out.sqrt()),
        Init::Xavier => uniform(stream, count, (6.0 / (fan_in + fan_out)).sqrt()),
        Init::Kaiming => uniform(stream, count, (6.0 / fan_in).sqrt()),
        Init::Orthogonal => (0..gates).flat_map(|_| orthogonal(stream, hidden, inputs)).collect(),
    }
}

/// A random `[rows, columns]` matrix, orthonormal along its shorter side: Gram-Schmidt, twice, on normal vectors in f64.
fn orthogonal(stream: &mut Stream, rows: usize, columns: usize) -> Vec<f32> {
    let (count, length) = (rows.min(columns), rows.max(columns));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(count);
    while basis.len() < count {
        let mut vector: Vec<f64> = (0..length).map(|_| f64::from(stream.normal())).collect();
        for _ in 0..2 {
            for other in &basis {
                let along: f64 = vector.iter().zip(other).map(|(v, o)| v * o).sum();
                vector.iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
            }
        }
        let norm = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
        // A vector in the span of the others is practically impossible; draw another.
        if norm > 1e-6 {
            vector.iter_mut().for_each(|v| *v /= norm);
            basis.push(vector);
        }
    }
    let at = |row: usize, column: usize| if rows <= columns { basis[row][column] } else { basis[column][row] };
    (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))).map(|(r, c)| at(r, c) as f32).collect()
}

/// A mask `[units, inputs]` that is 1 at `fibres` inputs per unit, drawn without replacement.
pub fn fibres(stream: &mut Stream, units: usize, inputs: usize, fibres: usize) -> Vec<f32> {
    let mut kept = vec![0.0; units * inputs];
    let mut order: Vec<usize> = (0..inputs).collect();
    for unit in kept.chunks_exact_mut(inputs) {
        stream.shuffle(&mut order);
        order.iter().take(fibres).for_each(|&input| unit[input] = 1.0);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        Stream::new(1, "test", 0, 0)
    }

    #[test]
    fn uniform_values_fill_the_interval() {
        let values = uniform(&mut stream(), 20_000, 0.25);
        let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!((0.249..=0.25).contains(&largest), "{largest}");
    }

    #[test]
    fn each_gate_of_an_orthogonal_weight_is_orthonormal() {
        for (hidden, inputs) in [(4, 7), (7, 4), (5, 5)] {
            let weight = recurrent_weight(&mut stream(), Init::Orthogonal, 3, hidden, inputs);
            for gate in weight.chunks_exact(hidden * inputs) {
                let short = hidden.min(inputs);
                let at =
                    |i: usize, k: usize| if hidden <= inputs { gate[i * inputs + k] } else { gate[k * inputs + i] };
                for i in 0..short {
                    for j in 0..short {
                        let dot: f32 = (0..hidden.max(inputs)).map(|k| at(i, k) * at(j, k)).sum();
                        assert!((dot - if i == j { 1.0 } else { 0.0 }).abs() < 1e-5, "{hidden}x{inputs} {i} {j} {dot}");
                    }
                }
            }
        }
    }

    #[test]
    fn variances_of_xavier_and_kaiming() {
        let variance = |init| {
            let w = recurrent_weight(&mut stream(), init, 4, 60, 30);
            w.iter().map(|v| f64::from(v * v)).sum::<f64>() / w.len() as f64
        };
        assert!((variance(Init::Xavier) * (30.0 + 60.0) / 2.0 - 1.0).abs() < 0.05);
        assert!((variance(Init::Kaiming) * 30.0 / 2.0 - 1.0).abs() < 0.05);
        assert!((variance(Init::Uniform) * 60.0 * 3.0 - 1.0).abs() < 0.05);
    }

    #[test]
    fn every_unit_keeps_the_same_number_of_fibres() {
        let kept = fibres(&mut stream(), 50, 18, 4);
        assert!(kept.chunks_exact(18).all(|unit| unit.iter().sum::<f32>() == 4.0));
        let per_input: Vec<f32> = (0..18).map(|i| kept.iter().skip(i).step_by(18).sum()).collect();
        assert!(per_input.iter().all(|&n| n > 0.0), "{per_input:?}");
    }
}
