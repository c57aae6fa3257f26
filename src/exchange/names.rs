//! Which tensor of a state dictionary is which parameter, by its name and neighbours.
//!
//! Names differ between programs (`rnn.weight_ih_l0`, `lstm.weight_ih_l0`, `module.decoder.rnn.rnn.weight_ih_l0`), what they end
//! with does not: PyTorch names the tensors of its modules. Recurrent layers and synthesizers are numbered by their names'
//! order; the readout is the one other linear layer of the decoder, and the embedding the one weight without a bias.

use std::collections::BTreeMap;

use crate::model::Layout;
use crate::model::encoder::PREFIX;

/// What a recurrent layer's tensors are called, in the order of [`Layout::layers`].
const RECURRENT: [&str; 4] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"];
/// What the names of a synthesizer's tensors contain.
const SYNTHESIZER: &str = "synthesizer.";
/// A tensor by which an image encoder is recognised.
const ENCODER: &str = "bn.running_mean";
/// A counter of batches, which nothing depends on.
const COUNTER: &str = "num_batches_tracked";
/// The name of the readout where there are several linear layers.
const READOUT: &str = "linear";

/// A tensor in one of several files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    /// Index of the file.
    pub file: usize,
    /// Its name there.
    pub name: String,
    /// Its shape.
    pub dims: Vec<usize>,
}

/// Tensors by the last part of their names.
type Group = BTreeMap<String, Named>;

/// The tensors of state dictionaries by what they are.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh` of each layer, bottom to top.
    layers: Vec<Group>,
    /// `input_trigger.weight` and so on, of each synthesizer.
    synthesizers: Vec<Group>,
    /// `weight` and `bias`.
    readout: Group,
    embedding: Option<Named>,
    /// `linear.weight`, `bn.running_mean` and so on.
    encoder: Group,
    all: Vec<Named>,
}

/// A name whose numbers are ordered as numbers: `rnn.2.` before `rnn.10.`.
fn natural(name: &str) -> Vec<(u64, String)> {
    let part = |part: &str| part.parse().map_or_else(|_| (0, part.to_string()), |number| (number, String::new()));
    name.split('.').map(part).collect()
}

/// `rnn.weight_ih_l0` as `rnn.`, 0 and `weight_ih`; a cell's names have no number.
fn recurrent(name: &str) -> Option<(&str, usize, &'static str)> {
    RECURRENT.into_iter().find_map(|what| {
        let (stem, layer) = name.rsplit_once(what)?;
        let whole = stem.is_empty() || stem.ends_with('.');
        let layer = if layer.is_empty() { 0 } else { layer.strip_prefix("_l")?.parse().ok()? };
        whole.then_some((stem, layer, what))
    })
}

impl Contents {
    /// Sorts the tensors of files, given as index of the file, name and shape.
    pub(super) fn of(tensors: Vec<Named>) -> Contents {
        let mut contents = Contents { all: tensors.clone(), ..Contents::default() };
        let encoder = |named: &Named| {
            let before = tensors.iter().filter(|other| other.file == named.file);
            let prefixes = before.filter_map(|other| other.name.strip_suffix(ENCODER));
            prefixes.filter(|prefix| prefix.is_empty() || prefix.ends_with('.')).find_map(|prefix| {
                let rest = named.name.strip_prefix(prefix)?;
                Some(rest.to_string())
            })
        };
        let (mut layers, mut synthesizers, mut linear) =
            (BTreeMap::<_, Group>::new(), BTreeMap::<_, Group>::new(), BTreeMap::<_, Group>::new());
        for named in &tensors {
            let (file, name) = (named.file, named.name.as_str());
            if let Some((stem, layer, what)) = recurrent(name) {
                layers.entry((natural(stem), layer, file)).or_default().insert(what.into(), named.clone());
            } else if let Some(at) = name.find(SYNTHESIZER) {
                let (stem, rest) = name.split_at(at + SYNTHESIZER.len());
                synthesizers.entry((natural(stem), file)).or_default().insert(rest.into(), named.clone());
            } else if let Some(rest) = encoder(named) {
                contents.encoder.insert(rest, named.clone());
            } else if let Some((stem, rest)) = name.rsplit_once('.') {
                linear.entry((stem, file)).or_default().insert(rest.into(), named.clone());
            }
        }
        contents.layers = layers.into_values().collect();
        contents.synthesizers = synthesizers.into_values().collect();
        let has_bias = |group: &Group| group.contains_key("weight") && group.contains_key("bias");
        let (linears, others): (Vec<_>, Vec<_>) = linear.into_iter().partition(|(_, group)| has_bias(group));
        let called = |stem: &str| stem.rsplit('.').next() == Some(READOUT);
        let readout = match linears.as_slice() {
            [one] => Some(one),
            several => several.iter().find(|((stem, _), _)| called(stem)),
        };
        contents.readout = readout.map_or_else(Group::new, |(_, group)| group.clone());
        let mut tables = others.into_iter().filter_map(|(_, mut group)| group.remove("weight"));
        contents.embedding = tables.next();
        contents
    }

    /// The tensor of each parameter of a layout.
    pub(super) fn assign(&self, layout: &Layout) -> Vec<Option<&Named>> {
        let mut found: Vec<Option<&Named>> = vec![None; layout.slots.len()];
        for (group, indices) in self.layers.iter().zip(&layout.layers) {
            for (what, &index) in RECURRENT.iter().zip(indices) {
                found[index] = group.get(*what);
            }
        }
        for (group, synthesizer) in self.synthesizers.iter().zip(&layout.synthesizers) {
            for &index in &synthesizer.params {
                let role = layout.slots[index].role.split_once('.');
                found[index] = role.and_then(|(_, rest)| group.get(rest));
            }
        }
        for (what, index) in ["weight", "bias"].into_iter().zip(layout.readout) {
            found[index] = self.readout.get(what);
        }
        if let Some(index) = layout.embed {
            found[index] = self.embedding.as_ref();
        }
        for (index, slot) in layout.slots.iter().enumerate() {
            if let Some(rest) = slot.name.strip_prefix(PREFIX) {
                found[index] = self.encoder.get(rest);
            }
        }
        found
    }

    /// The tensors that are none of `used`.
    pub(super) fn left_over(&self, used: &[Option<&Named>]) -> Vec<&Named> {
        let is_used = |named: &&Named| used.iter().flatten().any(|used| used == named);
        self.all.iter().filter(|named| !named.name.ends_with(COUNTER) && !is_used(named)).collect()
    }

    /// Rows of the embedding: the number of words.
    pub(super) fn words(&self) -> Option<usize> {
        self.embedding.as_ref().and_then(|named| named.dims.first().copied())
    }

    /// What the network is, in the keys of a spec as far as they follow from shapes.
    pub(super) fn description(&self) -> String {
        let size = |group: &Group, what: &str, axis: usize| group.get(what)?.dims.get(axis).copied();
        let layer = |(k, group): (usize, &Group)| {
            let hidden = size(group, "weight_hh", 1).filter(|hidden| *hidden > 0)?;
            let cell = match size(group, "weight_hh", 0)? / hidden {
                4 => "lstm",
                3 => "gru",
                _ => "tanh or relu",
            };
            let dni = match self.synthesizers.len() {
                1 => self.synthesizers.first(),
                _ => self.synthesizers.get(k),
            };
            let dni = dni.map(|dni| format!(", dni: {{{}}}", synthesizer(dni, self.layers.len()))).unwrap_or_default();
            Some(format!("{{cell: {cell}, hidden: {hidden}{dni}}}"))
        };
        let layers: Vec<String> = self.layers.iter().enumerate().filter_map(layer).collect();
        let mut parts = vec![format!("layers: [{}]", layers.join(", "))];
        if let Some([words, width]) = self.embedding.as_ref().map(|named| named.dims.as_slice()) {
            parts.push(format!("embed: {{size: {width}}}, words: {words}"));
        } else if let Some(inputs) = self.layers.first().and_then(|group| size(group, "weight_ih", 1)) {
            parts.push(format!("inputs: {inputs}"));
        }
        parts.extend(size(&self.readout, "weight", 0).map(|outputs| format!("outputs: {outputs}")));
        parts.extend((!self.encoder.is_empty()).then(|| "an image encoder".to_string()));
        parts.join(", ")
    }
}

/// The keys of a synthesizer.
fn synthesizer(group: &Group, layers: usize) -> String {
    let rows = |what: String| group.get(&what)?.dims.first().copied();
    let deep = (0..).take_while(|k| group.contains_key(&format!("layers.{k}.weight"))).count();
    let names = std::iter::once("input_trigger.weight".to_string());
    let names = names.chain((0..deep.saturating_sub(1)).map(|k| format!("layers.{k}.weight")));
    let hidden: Vec<String> = names.take(deep).filter_map(rows).map(|rows| rows.to_string()).collect();
    let context = if group.contains_key("input_context.weight") { ", context: target" } else { "" };
    let share = if layers > 1 { ", share: all" } else { "" };
    format!("hidden: [{}]{context}{share}", hidden.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(tensors: &[(usize, &str, &[usize])]) -> Contents {
        let named = |(file, name, dims): &(usize, &str, &[usize])| Named {
            file: *file,
            name: (*name).into(),
            dims: dims.to_vec(),
        };
        Contents::of(tensors.iter().map(named).collect())
    }

    #[test]
    fn names_of_recurrent_tensors_are_recognised() {
        for (name, expected) in [
            ("rnn.weight_ih_l0", Some(("rnn.", 0, "weight_ih"))),
            ("module.decoder.lstm.bias_hh_l12", Some(("module.decoder.lstm.", 12, "bias_hh"))),
            ("weight_hh_l1", Some(("", 1, "weight_hh"))),
            ("cell.weight_hh", Some(("cell.", 0, "weight_hh"))),
            ("rnn.weight_ih_l0_reverse", None),
            ("rnn.my_weight_ih_l0", None),
            ("linear.weight", None),
        ] {
            assert_eq!(recurrent(name), expected, "{name}");
        }
        assert!(natural("rnn.2.") < natural("rnn.10."));
    }

    #[test]
    fn a_network_with_a_synthesizer_is_described_by_its_shapes() {
        let contents = contents(&[
            (0, "rnn.rnn.weight_ih_l0", &[200, 1]),
            (0, "rnn.rnn.weight_hh_l0", &[200, 50]),
            (0, "rnn.backward_interface.synthesizer.input_trigger.weight", &[400, 100]),
            (0, "rnn.backward_interface.synthesizer.layers.0.weight", &[300, 400]),
            (0, "rnn.backward_interface.synthesizer.layers.1.weight", &[100, 300]),
            (0, "linear.weight", &[2, 50]),
            (0, "linear.bias", &[2]),
        ]);
        assert_eq!(
            contents.description(),
            "layers: [{cell: lstm, hidden: 50, dni: {hidden: [400, 300]}}], inputs: 1, outputs: 2"
        );
    }

    #[test]
    fn decoder_and_encoder_may_have_linear_layers_of_the_same_name() {
        let decoder: [(usize, &str, &[usize]); 5] = [
            (0, "embed.weight", &[30, 8]),
            (0, "lstm.weight_ih_l0", &[40, 8]),
            (0, "lstm.weight_hh_l0", &[40, 10]),
            (0, "linear.weight", &[30, 10]),
            (0, "linear.bias", &[30]),
        ];
        let encoder: [(usize, &str, &[usize]); 3] =
            [(1, "linear.weight", &[8, 64]), (1, "bn.running_mean", &[8]), (1, "bn.num_batches_tracked", &[])];
        let contents = contents(&[decoder.as_slice(), &encoder].concat());
        assert_eq!(contents.readout["weight"].dims, [30, 10]);
        assert_eq!(contents.encoder["linear.weight"].dims, [8, 64]);
        assert_eq!(contents.words(), Some(30));
        assert_eq!(
            contents.description(),
            "layers: [{cell: lstm, hidden: 10}], embed: {size: 8}, words: 30, outputs: 30, an image encoder"
        );
    }
}
