//! The parameters of a model: names in files, roles, shapes. No values, no device.

use std::sync::Arc;

use super::Plugins;
use super::encoder::EncoderLayout;
use super::feedforward::FeedForward;
use super::slot::{Slot, Start};
use crate::dni::{Site, Synthesizer};
use crate::error::Result;
use crate::nn::Part;
use crate::nn::cells::{Cell, CellParameter};
use crate::spec::task_shape::{Input, TaskShape};
use crate::spec::{Context, DniSpec, FeedbackKind, ModelSpec, Readout};

/// A synthesizer and the layers that share it.
#[derive(Debug, Clone)]
pub struct SynthesizerGroup {
    /// The recurrent layers that share it, lowest first; none if it belongs to an interface between blocks.
    pub layers: Vec<usize>,
    /// Its spec.
    pub spec: DniSpec,
    /// What it computes.
    pub synthesizer: Arc<dyn Synthesizer>,
    /// Where it is used.
    pub site: Site,
    /// Indices of its parameters.
    pub params: Vec<usize>,
    /// What the roles of its parameters begin with.
    pub role: String,
}

/// All parameters of a model, in order: blocks, each with the synthesizers at its output; embedding, recurrent layers, synthesizers,
/// readout, encoder, if there are recurrent layers.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The parameters.
    pub slots: Vec<Slot>,
    /// The cell of each layer.
    pub cells: Vec<Arc<dyn Cell>>,
    /// Index of the embedding.
    pub embed: Option<usize>,
    /// For each layer, indices of `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`.
    pub layers: Vec<[usize; 4]>,
    /// For each layer, indices of the parameters of its feedback's cerebellum, in pairs of weight and bias; empty without one.
    pub feedback: Vec<Vec<usize>>,
    /// The synthesizers.
    pub synthesizers: Vec<SynthesizerGroup>,
    /// Indices of the readout's weight and bias; blocks have none.
    pub readout: Option<[usize; 2]>,
    /// The blocks, of a feed-forward network or of the image encoder.
    pub blocks: Option<FeedForward>,
    /// The image encoder, if it has a backbone.
    pub encoder: Option<EncoderLayout>,
}

impl Layout {
    /// The parameters of a model for a task.
    ///
    /// # Errors
    /// Fails if a part of the model is not registered or its keys are invalid.
    pub fn new(plugins: &Plugins, spec: &ModelSpec, shape: &TaskShape) -> Result<Layout> {
        let cells = plugins.cells_of(spec)?;
        let (mut slots, mut synthesizers) = (Vec::<Slot>::new(), Vec::new());
        let blocks = FeedForward::new(plugins, spec, shape, &mut slots, &mut synthesizers)?;
        if blocks.is_some() && spec.layers.is_empty() {
            let (embed, layers, feedback, readout, encoder) = (None, Vec::new(), Vec::new(), None, None);
            return Ok(Layout { slots, cells, embed, layers, feedback, synthesizers, readout, blocks, encoder });
        }
        let mut add = |name: String, role: String, part, dims: Vec<usize>, start| {
            slots.push(Slot { name, role, part, dims, start });
            slots.len() - 1
        };
        let below = blocks.as_ref().filter(|blocks| !blocks.encodes_images());
        let (mut width, embed) = match (below, &shape.input, &spec.embed) {
            (Some(below), ..) => (below.width(), None),
            (None, Input::Dense { .. } | Input::Image { .. }, _) => (shape.input.sample().iter().product(), None),
            (None, Input::Tokens { vocabulary, .. }, embed) => {
                let size = embed.as_ref().map_or(1, |embed| embed.size);
                let dims = vec![*vocabulary, size];
                let range = embed.as_ref().and_then(|embed| embed.range);
                let start = range.map_or(Start::Embedding, |bound| Start::Uniform { bound });
                (size, Some(add("embed.weight".into(), "embed".into(), Part::Network, dims, start)))
            }
        };
        let groups = share(plugins, spec, &cells, shape)?;
        let plain = is_plain(spec, &groups);
        let stack = match (plain, groups.is_empty()) {
            (true, true) => "rnn.",
            _ => "rnn.rnn.",
        };
        let (mut layers, out) = (Vec::new(), shape.target.width());
        for (k, layer) in spec.layers.iter().enumerate() {
            let part = if layer.learn { Part::Network } else { Part::Fixed };
            width += layer.feedback.as_ref().map_or(0, |_| out);
            let rows = cells[k].gates() * layer.hidden;
            let name = |what: &str| match plain {
                true => format!("{stack}{what}_l{k}"),
                false => format!("rnn.{k}.{what}_l0"),
            };
            let mut one = |what: &str, dims, parameter| {
                let start = Start::Recurrent(k, parameter);
                add(name(what), format!("layer{k}.{what}"), part, dims, start)
            };
            layers.push([
                one("weight_ih", vec![rows, width], CellParameter::WeightIh),
                one("weight_hh", vec![rows, layer.hidden], CellParameter::WeightHh),
                one("bias_ih", vec![rows], CellParameter::BiasIh),
                one("bias_hh", vec![rows], CellParameter::BiasHh),
            ]);
            width = layer.hidden;
        }
        let mut feedback = Vec::new();
        for (k, layer) in spec.layers.iter().enumerate() {
            let mut params = Vec::new();
            if let Some(spec) = layer.feedback.as_ref().filter(|spec| spec.kind == FeedbackKind::Cerebellum) {
                let mut inputs = layer.hidden;
                for (at, &units) in spec.hidden.iter().chain([&out]).enumerate() {
                    let mut one = |what: &str, dims| {
                        let role = format!("feedback{k}.layers.{at}.{what}");
                        add(format!("rnn.{role}"), role, Part::Network, dims, Start::linear(inputs))
                    };
                    params.extend([one("weight", vec![units, inputs]), one("bias", vec![units])]);
                    inputs = units;
                }
            }
            feedback.push(params);
        }
        for mut group in groups {
            let index = synthesizers.len();
            let lowest = group.layers[0];
            let prefix = match plain {
                true => "rnn.backward_interface.synthesizer".to_string(),
                false => format!("rnn.{lowest}.backward_interface.synthesizer"),
            };
            for parameter in group.synthesizer.parameters(group.site) {
                group.params.push(add(
                    format!("{prefix}.{}", parameter.name),
                    format!("{}.{}", group.role, parameter.name),
                    Part::Synthesizer(index),
                    parameter.dims,
                    Start::of_bound(parameter.bound),
                ));
            }
            synthesizers.push(group);
        }
        let (start, zero) = match spec.readout_range {
            Some(bound) => (Start::Uniform { bound }, Start::Zero),
            None => (Start::linear(width), Start::linear(width)),
        };
        let weight = match (spec.readout, embed) {
            (Readout::Tied, Some(embed)) => embed,
            _ => add("linear.weight".into(), "readout.weight".into(), Part::Network, vec![out, width], start),
        };
        let readout = [weight, add("linear.bias".into(), "readout.bias".into(), Part::Network, vec![out], zero)];
        let encoder = spec.encoder.as_ref().and_then(|encoder| EncoderLayout::new(encoder, spec, shape, &mut slots));
        let readout = Some(readout);
        Ok(Layout { slots, cells, embed, layers, feedback, synthesizers, readout, blocks, encoder })
    }

    /// Whether a model of this layout can start from the weights of one of layout `source`: parameters of equal role have
    /// equal shapes.
    ///
    /// # Errors
    /// Names the first parameter that has another shape.
    pub fn fits(&self, source: &Layout) -> Result<(), String> {
        for slot in &self.slots {
            let theirs = source.slots.iter().find(|theirs| theirs.role == slot.role);
            // A size of 0 depends on the data.
            let differ = |(a, b): (&usize, &usize)| a != b && *a != 0 && *b != 0;
            let other =
                |theirs: &&Slot| theirs.dims.len() != slot.dims.len() || theirs.dims.iter().zip(&slot.dims).any(differ);
            if let Some(theirs) = theirs.filter(other) {
                return Err(format!("`{}` has shape {:?} there, and {:?} here", theirs.name, theirs.dims, slot.dims));
            }
        }
        Ok(())
    }
}

/// The synthesizers of a stack: one per layer that has a `dni`, or one for all layers that name the same `share`.
fn share(
    plugins: &Plugins,
    spec: &ModelSpec,
    cells: &[Arc<dyn Cell>],
    shape: &TaskShape,
) -> Result<Vec<SynthesizerGroup>> {
    let mut groups: Vec<SynthesizerGroup> = Vec::new();
    for (k, layer) in spec.layers.iter().enumerate() {
        let Some(dni) = &layer.dni else { continue };
        let shared = groups.iter_mut().find(|group| dni.share.is_some() && group.spec.share == dni.share);
        if let Some(group) = shared {
            group.layers.push(k);
            continue;
        }
        let context = (dni.context == Context::Target).then(|| shape.target.width());
        let site = Site::of_state(cells[k].state_width(layer.hidden), context, dni.learn);
        let synthesizer = plugins.synthesizer(dni)?;
        let role = format!("synthesizer{k}");
        groups.push(SynthesizerGroup {
            layers: vec![k],
            spec: dni.clone(),
            synthesizer,
            site,
            params: Vec::new(),
            role,
        });
    }
    Ok(groups)
}

/// Whether the stack could be a single PyTorch module: equal layers, and no synthesizer or one for all of them.
fn is_plain(spec: &ModelSpec, groups: &[SynthesizerGroup]) -> bool {
    let equal = spec.layers.windows(2).all(|pair| (&pair[0].cell, pair[0].hidden) == (&pair[1].cell, pair[1].hidden));
    equal && (groups.is_empty() || groups.len() == 1 && groups[0].layers.len() == spec.layers.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::task_shape::{Target, TargetKind, When};

    fn layout(layers: &str) -> Layout {
        let spec: ModelSpec = serde_json::from_str(&format!(r#"{{"layers": [{layers}]}}"#)).expect("layers are valid");
        let shape = TaskShape {
            input: Input::Dense { features: 3 },
            target: Target { kind: TargetKind::Values { size: 2 }, when: When::EveryStep },
            steps: Some(5),
            validates: true,
        };
        Layout::new(&Plugins::built_in(), &spec, &shape).expect("cells of this crate")
    }

    fn names(layout: &Layout) -> Vec<&str> {
        layout.slots.iter().map(|slot| slot.name.as_str()).collect()
    }

    #[test]
    fn a_plain_stack_has_pytorchs_names() {
        let layout = layout(r#"{"cell": "lstm", "hidden": 4}, {"cell": "lstm", "hidden": 4}"#);
        assert_eq!(names(&layout)[..4], ["rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0", "rnn.bias_hh_l0"]);
        assert_eq!(
            names(&layout)[4..],
            [
                "rnn.weight_ih_l1",
                "rnn.weight_hh_l1",
                "rnn.bias_ih_l1",
                "rnn.bias_hh_l1",
                "linear.weight",
                "linear.bias"
            ]
        );
        assert_eq!(layout.slots[4].dims, [16, 4]);
    }

    #[test]
    fn one_synthesizer_for_all_layers_sits_beside_the_stack() {
        let dni = r#""dni": {"hidden": [6], "share": "one"}"#;
        let layout =
            layout(&format!(r#"{{"cell": "gru", "hidden": 4, {dni}}}, {{"cell": "gru", "hidden": 4, {dni}}}"#));
        assert_eq!(layout.synthesizers.len(), 1);
        assert_eq!(layout.slots[0].name, "rnn.rnn.weight_ih_l0");
        assert_eq!(layout.slots[8].name, "rnn.backward_interface.synthesizer.input_trigger.weight");
        assert_eq!(layout.slots[8].dims, [6, 4]);
    }

    #[test]
    fn any_other_stack_names_each_layer() {
        let layout = layout(r#"{"cell": "lstm", "hidden": 4}, {"cell": "gru", "hidden": 5, "dni": {}}"#);
        assert_eq!(names(&layout)[0], "rnn.0.weight_ih_l0");
        assert_eq!(names(&layout)[8], "rnn.1.backward_interface.synthesizer.input_trigger.weight");
        assert_eq!(layout.slots[8].role, "synthesizer1.input_trigger.weight");
    }

    #[test]
    fn weights_fit_where_shapes_of_equal_role_are_equal() {
        let target = layout(r#"{"cell": "lstm", "hidden": 4}"#);
        for (source, fits) in [
            (r#"{"cell": "lstm", "hidden": 4, "dni": {"hidden": [3]}}"#, true),
            (r#"{"cell": "lstm", "hidden": 5}"#, false),
            (r#"{"cell": "gru", "hidden": 4}"#, false),
        ] {
            assert_eq!(target.fits(&layout(source)).is_ok(), fits, "{source}");
        }
        let error = target.fits(&layout(r#"{"cell": "lstm", "hidden": 5}"#)).unwrap_err();
        assert!(error.contains("`rnn.weight_ih_l0` has shape [20, 3] there, and [16, 3] here"), "{error}");
    }

    #[test]
    fn roles_do_not_depend_on_the_synthesizer() {
        let with = layout(r#"{"cell": "lstm", "hidden": 4, "dni": {"hidden": [3]}}"#);
        let without = layout(r#"{"cell": "lstm", "hidden": 4}"#);
        let roles = |layout: &Layout| -> Vec<String> {
            let network = layout.slots.iter().filter(|slot| slot.part == Part::Network);
            network.map(|slot| slot.role.clone()).collect()
        };
        assert_eq!(roles(&with), roles(&without));
    }
}
