//! The Python script that computes an exported network with PyTorch.

use std::fmt::Write;

use super::Format;
use crate::model::Model;
use crate::spec::LayerSpec;

/// Layers that are one PyTorch module.
struct Module {
    /// What the names of its weights begin with.
    prefix: String,
    /// The module's constructor.
    call: String,
}

/// The PyTorch module of a cell, and its further arguments; `None` if PyTorch has no such cell.
pub(super) fn torch_module(cell: &str) -> Option<(&'static str, &'static str)> {
    match cell {
        "lstm" => Some(("LSTM", "")),
        "gru" => Some(("GRU", "")),
        "tanh" => Some(("RNN", ", nonlinearity=\"tanh\"")),
        "relu" => Some(("RNN", ", nonlinearity=\"relu\"")),
        _ => None,
    }
}

/// The modules of a recurrent stack, bottom to top; `None` if PyTorch lacks one of the cells.
fn modules(model: &Model, layers: &[LayerSpec]) -> Option<Vec<Module>> {
    let mut modules: Vec<Module> = Vec::new();
    let prefixes: Vec<String> = model.layers.iter().map(|layer| prefix(model, layer.weights[0])).collect();
    for (k, spec) in layers.iter().enumerate() {
        let (class, more) = torch_module(&spec.cell).filter(|_| spec.feedback.is_none())?;
        if k > 0 && prefixes[k] == prefixes[k - 1] {
            continue;
        }
        let count = prefixes[k..].iter().take_while(|prefix| **prefix == prefixes[k]).count();
        let deep = if count > 1 { format!(", num_layers={count}") } else { String::new() };
        let inputs = model.params.get(model.layers[k].weights[0]).dims()[1];
        let call = format!("torch.nn.{class}({inputs}, {}{deep}{more}, batch_first=True)", spec.hidden);
        modules.push(Module { prefix: prefixes[k].clone(), call });
    }
    Some(modules)
}

/// A text as Python writes it: the notation of JSON is valid there, too.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What a parameter's name begins with: `rnn.` of `rnn.weight_ih_l0`.
fn prefix(model: &Model, index: usize) -> String {
    let name = &model.params.get(index).name;
    name[..name.rfind('.').map_or(0, |dot| dot + 1)].into()
}

/// A script that loads the weights, computes the outputs for the exported inputs and compares them with those computed here;
/// `None` if PyTorch lacks one of the cells, or the network is one of blocks. `folder` is a Python expression of the files' directory, `name` the file of the
/// weights in it, `stem` what the names of the arrays begin with.
pub(super) fn script(
    model: &Model,
    layers: &[LayerSpec],
    format: Format,
    (folder, name, stem): (&str, &str, &str),
    features: bool,
) -> Option<String> {
    let modules = modules(model, layers)?;
    let (import, load) = match format {
        Format::Torch => ("", "torch.load(folder / NAME, weights_only=True)"),
        Format::Safetensors => ("from safetensors.torch import load_file\n", "load_file(folder / NAME)"),
        Format::Numpy => ("", "{name: torch.from_numpy(array) for name, array in numpy.load(folder / NAME).items()}"),
    };
    let mut text = format!("from pathlib import Path\n\nimport numpy\nimport torch\n{import}\nfolder = {folder}\n");
    let _ = writeln!(text, "weights = {}", load.replace("NAME", &quoted(name)));
    text += "\n\ndef load(module, prefix):\n";
    text += "    module.load_state_dict({name: weights[prefix + name] for name in module.state_dict()})\n";
    text += "    return module\n\n\ndef array(name):\n";
    let _ =
        writeln!(text, "    return torch.from_numpy(numpy.load(folder / ({} + name)))", quoted(&format!("{stem}.")));
    text += "\n\nlayers = [\n";
    for Module { prefix, call } in modules {
        let _ = writeln!(text, "    load({call}, {}),", quoted(&prefix));
    }
    text += "]\n";
    let [weight, bias] = model.readout_indices().ok()?;
    let dims = model.params.get(weight).dims();
    // A tied readout has the weight of another module.
    let _ = match prefix(model, weight) == prefix(model, bias) {
        true => {
            let prefix = quoted(&prefix(model, weight));
            writeln!(text, "linear = load(torch.nn.Linear({}, {}), {prefix})", dims[1], dims[0])
        }
        false => {
            let [weight, bias] = [weight, bias].map(|index| quoted(&model.params.get(index).name));
            let state = format!("{{\"weight\": weights[{weight}], \"bias\": weights[{bias}]}}");
            writeln!(text, "linear = torch.nn.Linear({}, {})\nlinear.load_state_dict({state})", dims[1], dims[0])
        }
    };
    match model.embedding_index() {
        Some(index) => {
            let dims = model.params.get(index).dims();
            let prefix = quoted(&prefix(model, index));
            let _ = writeln!(text, "embed = load(torch.nn.Embedding({}, {}), {prefix})", dims[0], dims[1]);
            text += "\nwith torch.no_grad():\n    states = embed(array(\"ids.npy\"))\n";
            if features {
                text += "    states = torch.cat([array(\"features.npy\").unsqueeze(1), states], 1)\n";
            }
        }
        None => text += "\nwith torch.no_grad():\n    states = array(\"inputs.npy\")\n",
    }
    text += "    for layer in layers:\n        states, _ = layer(states)\n    outputs = linear(states)\n";
    text += "difference = (outputs - array(\"predictions.npy\")).abs().max().item()\n";
    text += "print(f\"largest difference from predictions.npy: {difference:.1e}\")\n";
    Some(text)
}
