//! Which tensor of a state dictionary is which parameter, by its name and neighbours.
//!
//! Names differ between programs (`rnn.weight_ih_l0`, `lstm.weight_ih_l0`, `module.decoder.rnn.rnn.weight_ih_l0`), what they end
//! with does not: PyTorch names the tensors of its modules. Recurrent layers and synthesizers are ordered by the numbers in their
//! names; the readout is the one other linear layer of the decoder, and the embedding the one weight without a bias.

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
    /// See [`Self::unordered`].
    unordered: Option<[String; 2]>,
    synthesizers: Vec<Synthesizer>,
    /// `weight` and `bias`.
    readout: Group,
    embedding: Option<Named>,
    /// `linear.weight`, `bn.running_mean` and so on.
    encoder: Group,
    all: Vec<Named>,
}

/// A synthesizer in a file.
#[derive(Debug)]
struct Synthesizer {
    /// The lowest layer that it belongs to, if its name says so.
    layer: Option<usize>,
    /// `input_trigger.weight` and so on.
    tensors: Group,
}

/// A name in pieces of text and numbers, so that `rnn2.` is before `rnn10.`.
type Pieces = Vec<(u64, String)>;

fn pieces(name: &str) -> Pieces {
    let mut pieces = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let other = |c: char| c.is_ascii_digit() != first.is_ascii_digit();
        let (piece, after) = rest.split_at(rest.find(other).unwrap_or(rest.len()));
        pieces.push(piece.parse().map_or_else(|_| (0, piece.to_string()), |number| (number, String::new())));
        rest = after;
    }
    pieces
}

/// Pieces that two names have in common at their beginning.
fn in_common(a: &Pieces, b: &Pieces) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The place of a layer: what its name begins with, its number in that module, its file.
type Place = (Pieces, usize, usize);

/// Whether it follows from the names that layer `a` is directly below layer `b`.
fn is_below(a: &Place, b: &Place) -> bool {
    let ((stem, layer, file), (above, layer_above, file_above)) = (a, b);
    let same = in_common(stem, above);
    let is_number = |pieces: &Pieces| pieces.get(same).is_some_and(|(_, text)| text.is_empty());
    let numbered = if stem == above { layer + 1 == *layer_above } else { is_number(stem) && is_number(above) };
    file == file_above && numbered
}

/// The layer with which a synthesizer has most of its name in common, if it is one; `layers` are sorted.
fn layer_of(stem: &Pieces, layers: &[&Place]) -> Option<usize> {
    // Names with most in common are neighbours in sorted order.
    let at = layers.partition_point(|place| place.0 < *stem);
    let from = at.saturating_sub(2);
    let near = layers.get(from..layers.len().min(at + 2))?;
    let in_common = |place: &&Place| in_common(stem, &place.0);
    let most = near.iter().map(in_common).max()?;
    let mut nearest = (from..).zip(near).filter(|(_, place)| in_common(place) == most);
    nearest.next().filter(|_| nearest.next().is_none()).map(|(layer, _)| layer)
}

/// What the names of the image encoder's tensors begin with in each file that has one.
fn encoders(tensors: &[Named]) -> BTreeMap<usize, &str> {
    let mut found = BTreeMap::<usize, &str>::new();
    for named in tensors {
        let Some(prefix) = named.name.strip_suffix(ENCODER) else { continue };
        let shorter = found.get(&named.file).is_none_or(|other| prefix.len() < other.len());
        if shorter && (prefix.is_empty() || prefix.ends_with('.')) {
            found.insert(named.file, prefix);
        }
    }
    found
}

/// The readout and the embedding among the modules that have a weight, by name and file.
fn linear_layers(modules: BTreeMap<(&str, usize), Group>) -> (Group, Option<Named>) {
    let has_bias = |group: &Group| group.contains_key("weight") && group.contains_key("bias");
    let (linears, others): (Vec<_>, Vec<_>) = modules.into_iter().partition(|(_, group)| has_bias(group));
    let is_readout = |stem: &str| stem.rsplit('.').next() == Some(READOUT);
    let readout = match linears.as_slice() {
        [one] => Some(one),
        several => several.iter().find(|((stem, _), _)| is_readout(stem)),
    };
    let readout = readout.map_or_else(Group::new, |(_, group)| group.clone());
    (readout, others.into_iter().find_map(|(_, mut group)| group.remove("weight")))
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
        let encoders = encoders(&tensors);
        let encoder = |named: &Named| Some(named.name.strip_prefix(encoders.get(&named.file)?)?.to_string());
        let mut contents = Contents::default();
        let (mut layers, mut synthesizers, mut linear) =
            (BTreeMap::<Place, Group>::new(), BTreeMap::<_, Group>::new(), BTreeMap::<_, Group>::new());
        for named in &tensors {
            let (file, name) = (named.file, named.name.as_str());
            if let Some((stem, layer, what)) = recurrent(name) {
                layers.entry((pieces(stem), layer, file)).or_default().insert(what.into(), named.clone());
            } else if let Some(at) = name.find(SYNTHESIZER) {
                let (stem, rest) = name.split_at(at + SYNTHESIZER.len());
                synthesizers.entry((pieces(stem), file)).or_default().insert(rest.into(), named.clone());
            } else if let Some(rest) = encoder(named) {
                contents.encoder.insert(rest, named.clone());
            } else if let Some((stem, rest)) = name.rsplit_once('.') {
                linear.entry((stem, file)).or_default().insert(rest.into(), named.clone());
            }
        }
        let places: Vec<&Place> = layers.keys().collect();
        let unordered = places.windows(2).find(|pair| !is_below(pair[0], pair[1]));
        let called = |place: &Place| layers[place].values().next().map(|named| named.name.clone()).unwrap_or_default();
        contents.unordered = unordered.map(|pair| [called(pair[0]), called(pair[1])]);
        let of_layer =
            |((stem, _), tensors): ((Pieces, usize), Group)| Synthesizer { layer: layer_of(&stem, &places), tensors };
        contents.synthesizers = synthesizers.into_iter().map(of_layer).collect();
        contents.layers = layers.into_values().collect();
        (contents.readout, contents.embedding) = linear_layers(linear);
        contents.all = tensors;
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
        for (number, synthesizer) in layout.synthesizers.iter().enumerate() {
            let lowest = synthesizer.layers.first().copied();
            let named = self.synthesizers.iter().find(|theirs| theirs.layer.is_some() && theirs.layer == lowest);
            let theirs = named.or_else(|| self.synthesizers.get(number).filter(|theirs| theirs.layer.is_none()));
            for &index in &synthesizer.params {
                let role = layout.slots[index].role.split_once('.');
                found[index] = theirs.zip(role).and_then(|(theirs, (_, rest))| theirs.tensors.get(rest));
            }
        }
        for (what, index) in ["weight", "bias"].into_iter().zip(layout.readout.into_iter().flatten()) {
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

    /// A tensor of a layer, and one of the layer above it as the names are sorted, if their numbers do not say that it is above.
    pub(super) fn unordered(&self) -> Option<&[String; 2]> {
        self.unordered.as_ref()
    }

    /// Rows of the embedding: the number of words.
    pub(super) fn words(&self) -> Option<usize> {
        self.embedding.as_ref().and_then(|named| named.dims.first().copied())
    }

    /// What the network is, in the keys of a spec as far as they follow from shapes.
    pub(super) fn description(&self) -> String {
        let size = |group: &Group, what: &str, axis: usize| group.get(what)?.dims.get(axis).copied();
        let shared = matches!(self.synthesizers.as_slice(), [Synthesizer { layer: None, .. }]);
        let layer = |(k, group): (usize, &Group)| {
            let hidden = size(group, "weight_hh", 1).filter(|hidden| *hidden > 0)?;
            let cell = match size(group, "weight_hh", 0)? / hidden {
                4 => "lstm",
                3 => "gru",
                _ => "tanh or relu",
            };
            let of_layer = |(number, theirs): &(usize, &Synthesizer)| {
                theirs.layer.map_or(shared || *number == k, |layer| layer == k)
            };
            let dni = self.synthesizers.iter().enumerate().find(of_layer);
            let share = if shared && self.layers.len() > 1 { ", share: all" } else { "" };
            let dni =
                dni.map(|(_, dni)| format!(", dni: {{{}{share}}}", synthesizer(&dni.tensors))).unwrap_or_default();
            Some(format!("{{cell: {cell}, hidden: {hidden}{dni}}}"))
        };
        let layers: Vec<String> = self.layers.iter().enumerate().filter_map(layer).collect();
        let mut parts = match layers.as_slice() {
            [] => vec!["no recurrent layers".to_string()],
            layers => vec![format!("layers: [{}]", layers.join(", "))],
        };
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
fn synthesizer(group: &Group) -> String {
    let rows = |what: String| group.get(&what)?.dims.first().copied();
    let deep = (0..).take_while(|k| group.contains_key(&format!("layers.{k}.weight"))).count();
    let names = std::iter::once("input_trigger.weight".to_string());
    let names = names.chain((0..deep.saturating_sub(1)).map(|k| format!("layers.{k}.weight")));
    let hidden: Vec<String> = names.take(deep).filter_map(rows).map(|rows| rows.to_string()).collect();
    let context = if group.contains_key("input_context.weight") { ", context: target" } else { "" };
    format!("hidden: [{}]{context}", hidden.join(", "))
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
    }

    /// The sizes of the layers as they are ordered, and whether the names say so.
    fn order(names: &[(usize, &str)]) -> (Vec<usize>, bool) {
        let tensors: Vec<(usize, String, [usize; 2])> =
            names.iter().enumerate().map(|(size, (file, name))| (*file, name.to_string(), [size, size])).collect();
        let tensors: Vec<(usize, &str, &[usize])> =
            tensors.iter().map(|(file, name, dims)| (*file, name.as_str(), dims.as_slice())).collect();
        let contents = contents(&tensors);
        let sizes = contents.layers.iter().map(|group| group["weight_hh"].dims[0]).collect();
        (sizes, contents.unordered().is_none())
    }

    #[test]
    fn layers_are_ordered_by_the_numbers_in_their_names() {
        for names in [
            ["rnn.weight_hh_l0", "rnn.weight_hh_l1", "rnn.weight_hh_l2"],
            ["cells.2.weight_hh", "cells.9.weight_hh", "cells.10.weight_hh"],
            ["lstm1.weight_hh_l0", "lstm2.weight_hh_l0", "lstm10.weight_hh_l0"],
            ["rnn.0.rnn.weight_hh_l0", "rnn.1.weight_hh_l0", "rnn.2.rnn.weight_hh_l0"],
        ] {
            let names = names.map(|name| (0, name));
            assert_eq!(order(&names), (vec![0, 1, 2], true), "{names:?}");
        }
    }

    #[test]
    fn layers_without_such_numbers_have_no_order() {
        for names in [
            [(0, "encoder.lstm.weight_hh_l0"), (0, "decoder.lstm.weight_hh_l0")],
            [(0, "lstm.weight_hh_l0"), (0, "lstm2.weight_hh_l0")],
            [(0, "lstm.weight_hh_l0"), (0, "lstm.weight_hh_l2")],
            [(0, "lstm.weight_hh_l0"), (1, "lstm.weight_hh_l0")],
            [(0, "lstm.weight_hh_l0"), (1, "lstm.weight_hh_l1")],
        ] {
            assert!(!order(&names).1, "{names:?}");
        }
    }

    #[test]
    fn a_synthesizer_belongs_to_the_layer_in_its_name() {
        let layer = |k: usize| -> [(usize, String, Vec<usize>); 2] {
            [(0, format!("rnn.{k}.weight_hh_l0"), vec![16, 4]), (0, format!("rnn.{k}.weight_ih_l0"), vec![16, 4])]
        };
        let synthesizer = (0, "rnn.1.backward_interface.synthesizer.input_trigger.weight".to_string(), vec![8, 8]);
        let tensors = [layer(0).to_vec(), layer(1).to_vec(), vec![synthesizer]].concat();
        let tensors: Vec<(usize, &str, &[usize])> =
            tensors.iter().map(|(file, name, dims)| (*file, name.as_str(), dims.as_slice())).collect();
        let contents = contents(&tensors);
        assert_eq!(contents.synthesizers[0].layer, Some(1));
        assert_eq!(
            contents.description(),
            "layers: [{cell: lstm, hidden: 4}, {cell: lstm, hidden: 4, dni: {hidden: []}}], inputs: 4"
        );
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
