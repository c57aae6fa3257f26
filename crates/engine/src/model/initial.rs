//! Initial values of parameters, each from the random stream of its role: by default PyTorch's (embeddings standard normal,
//! linear layers uniform within `±1/√fan_in`, recurrent ones within `±1/√hidden`).

use std::sync::Arc;

use super::layout::SynthesizerGroup;
use super::slot::{Slot, Start};
use crate::nn::cells::{Cell, CellParameter};
use crate::nn::init;
use crate::rng::Stream;
use crate::spec::{InitScaled, ModelSpec};

/// The initial values of a parameter, row by row; `cells` has the cell of each layer.
pub fn values(slot: &Slot, spec: &ModelSpec, cells: &[Arc<dyn Cell>], seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(seed, &format!("init.{}", slot.role), 0, 0);
    let count = slot.dims.iter().product();
    match slot.start {
        Start::Embedding => init::normal(&mut stream, count),
        Start::Block(initial) => initial.values(&mut stream, count),
        Start::Zero => vec![0.0; count],
        Start::One => vec![1.0; count],
        Start::Backbone(kind) => kind.initial(count, &mut stream),
        Start::Uniform { bound } => init::uniform(&mut stream, count, bound),
        Start::Recurrent(k, parameter) => {
            let (layer, cell) = (&spec.layers[k], &cells[k]);
            let drawn = match parameter {
                CellParameter::WeightIh | CellParameter::WeightHh => {
                    init::recurrent_weight(&mut stream, layer.init, cell.gates(), layer.hidden, slot.dims[1])
                }
                CellParameter::BiasIh | CellParameter::BiasHh => {
                    init::uniform(&mut stream, count, 1.0 / (layer.hidden as f64).sqrt())
                }
            };
            let bias = matches!(parameter, CellParameter::BiasIh | CellParameter::BiasHh);
            let scale = if bias && layer.init_scaled == InitScaled::Weights { 1.0 } else { layer.init_scale as f32 };
            let mut values: Vec<f32> = drawn.into_iter().map(|value| value * scale).collect();
            cell.initialise(parameter, &mut values);
            values
        }
    }
}

/// The fibre mask of a synthesizer's first parameter, `[units, inputs]`, if it keeps only some inputs.
pub fn fibres(group: &SynthesizerGroup, first: &Slot, seed: u64) -> Option<Vec<f32>> {
    let fibres = group.synthesizer.fibres()?;
    let &[units, inputs] = first.dims.as_slice() else { return None };
    let mut stream = Stream::new(seed, &format!("init.{}.fibres", group.role), 0, 0);
    Some(init::fibres(&mut stream, units, inputs, fibres))
}

#[cfg(test)]
mod tests {
    use super::super::{Layout, Plugins};
    use super::*;
    use crate::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};

    fn drawn(layer: &str, seed: u64) -> (Layout, Vec<Vec<f32>>) {
        let spec: ModelSpec = serde_json::from_str(&format!(r#"{{"layers": [{layer}]}}"#)).expect("a valid layer");
        let shape = TaskShape {
            input: Input::Dense { features: 3 },
            target: Target { kind: TargetKind::Values { size: 2 }, when: When::EveryStep },
            steps: Some(5),
            validates: true,
        };
        let layout = Layout::new(&Plugins::built_in(), &spec, &shape).expect("cells of this crate");
        let values = layout.slots.iter().map(|slot| values(slot, &spec, &layout.cells, seed)).collect();
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
    fn the_factor_may_spare_the_biases() {
        let (_, plain) = drawn(r#"{"cell": "gru", "hidden": 4}"#, 3);
        let (_, all) = drawn(r#"{"cell": "gru", "hidden": 4, "init_scale": 2.0}"#, 3);
        let (_, weights) = drawn(r#"{"cell": "gru", "hidden": 4, "init_scale": 2.0, "init_scaled": "weights"}"#, 3);
        let double = |values: &Vec<f32>| values.iter().map(|value| 2.0 * value).collect::<Vec<f32>>();
        assert_eq!(all[..4], plain[..4].iter().map(double).collect::<Vec<_>>());
        assert_eq!((&weights[..2], &weights[2..]), (&all[..2], &plain[2..]));
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
