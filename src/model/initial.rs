//! Initial values of parameters (`golden/README.md` section 14), each from the stream of its role.

use super::layout::{Slot, Start, SynthesizerGroup};
use crate::nn::cell::gates;
use crate::nn::init;
use crate::rng::Stream;
use crate::spec::{Cell, ModelSpec};

/// The initial values of a parameter, row by row.
pub fn values(slot: &Slot, spec: &ModelSpec, seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(seed, &format!("init.{}", slot.role), 0, 0);
    let count = slot.dims.iter().product();
    match slot.start {
        Start::Embedding => init::normal(&mut stream, count),
        Start::Zero => vec![0.0; count],
        Start::One => vec![1.0; count],
        Start::Trunk(kind) => kind.initial(count, &mut stream),
        Start::Linear { fan_in } => init::uniform(&mut stream, count, 1.0 / (fan_in as f64).sqrt()),
        Start::RecurrentWeight(k) => {
            let layer = &spec.layers[k];
            let inputs = slot.dims[1];
            let drawn = init::recurrent_weight(&mut stream, layer.init, gates(layer.cell), layer.hidden, inputs);
            let mut values = scaled(drawn, layer.init_scale);
            if layer.force_forget {
                forget_gate(&mut values, layer.hidden * inputs).for_each(|weight| *weight = weight.clamp(0.0, 0.1));
            }
            values
        }
        Start::RecurrentBias(k) => {
            let layer = &spec.layers[k];
            let drawn = init::uniform(&mut stream, count, 1.0 / (layer.hidden as f64).sqrt());
            let mut values = scaled(drawn, layer.init_scale);
            if layer.force_forget {
                forget_gate(&mut values, layer.hidden).for_each(|bias| *bias = bias.clamp(-10.0, 0.0));
            }
            if layer.cell == Cell::Lstm && slot.role.ends_with("bias_ih") {
                forget_gate(&mut values, layer.hidden).for_each(|bias| *bias += layer.forget_bias as f32);
            }
            values
        }
    }
}

fn scaled(values: Vec<f32>, scale: f64) -> Vec<f32> {
    values.into_iter().map(|value| value * scale as f32).collect()
}

/// The lstm's second block of rows.
fn forget_gate(values: &mut [f32], block: usize) -> impl Iterator<Item = &mut f32> {
    values.iter_mut().skip(block).take(block)
}

/// The fibre mask of a synthesizer's first layer and its shape, where the spec asks for one.
pub fn fibres(group: &SynthesizerGroup, seed: u64) -> Option<(Vec<f32>, (usize, usize))> {
    let fibres = group.spec.fibres?;
    let mut stream = Stream::new(seed, &format!("init.synthesizer{}.fibres", group.layers[0]), 0, 0);
    let units = group.shape.hidden.first().copied().unwrap_or(group.shape.state);
    Some((init::fibres(&mut stream, units, group.shape.state, fibres), (units, group.shape.state)))
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::*;
    use crate::spec::interface::{Input, Interface, Target, TargetKind, When};

    fn drawn(layer: &str, seed: u64) -> (Layout, Vec<Vec<f32>>) {
        let spec: ModelSpec = serde_json::from_str(&format!(r#"{{"layers": [{layer}]}}"#)).expect("a valid layer");
        let interface = Interface {
            input: Input::Dense { features: 3 },
            target: Target { kind: TargetKind::Values { size: 2 }, when: When::EveryStep },
            steps: Some(5),
            validates: true,
        };
        let layout = Layout::new(&spec, &interface);
        let values = layout.slots.iter().map(|slot| values(slot, &spec, seed)).collect();
        (layout, values)
    }

    #[test]
    fn a_synthesizer_changes_no_other_initial_weight() {
        let (_, plain) = drawn(r#"{"cell": "lstm", "hidden": 4}"#, 3);
        let (_, with) = drawn(r#"{"cell": "lstm", "hidden": 4, "dni": {"hidden": [5]}}"#, 3);
        assert_eq!(plain[..4], with[..4]);
        assert_eq!(plain[4..], with[8..]);
        assert!(with[6].iter().chain(&with[7]).all(|&v| v == 0.0), "the last layer starts at zero");
        assert!(with[4].iter().all(|&v| v != 0.0));
    }

    #[test]
    fn the_forget_gate_is_raised_once_and_nothing_else() {
        let (_, free) = drawn(r#"{"cell": "lstm", "hidden": 4}"#, 3);
        let (_, raised) = drawn(r#"{"cell": "lstm", "hidden": 4, "forget_bias": 2}"#, 3);
        assert_eq!((&free[..2], &free[3..]), (&raised[..2], &raised[3..]));
        for (index, (free, raised)) in free[2].iter().zip(&raised[2]).enumerate() {
            let expected = if (4..8).contains(&index) { free + 2.0 } else { *free };
            assert_eq!(*raised, expected, "{index}");
        }
    }

    #[test]
    fn the_forget_gate_is_clamped_and_nothing_else() {
        let (_, free) = drawn(r#"{"cell": "lstm", "hidden": 4, "init_scale": 2.0}"#, 3);
        let (_, forced) = drawn(r#"{"cell": "lstm", "hidden": 4, "init_scale": 2.0, "force_forget": true}"#, 3);
        assert_eq!(free[0][..12], forced[0][..12]);
        assert!(forced[0][12..24].iter().all(|w| (0.0..=0.1).contains(w)));
        assert!(forced[2][4..8].iter().all(|b| (-10.0..=0.0).contains(b)));
        assert_eq!(free[3][8..], forced[3][8..]);
        assert!(free[1].iter().any(|w| w.abs() > 0.5) && free[1].iter().all(|w| w.abs() <= 1.0));
    }
}
