//! `ccdni export` and `ccdni import`: weights go to PyTorch's files and come back, and those of PyTorch compute the same here.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{Device, Tensor};
use ccdni::data::{Batch, Inputs, Predictor, Targets};
use ccdni::exchange::Format;
use ccdni::model::encoder::TensorFile;
use ccdni::run::trained_network::{Beside, TrainedNetwork};
use ccdni::tasks::Registry;

use crate::lab::{Lab, Ran};

/// Largest difference between outputs computed here and elsewhere.
const CLOSE: f32 = 1e-5;

type Weights = Vec<(String, Tensor)>;

fn cases(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// A lab with a trained network, and the path of its run.
fn trained(seeds: &str, more: &[&str]) -> (Lab, String) {
    let lab = Lab::new();
    lab.ccdni(&[&["run", "spec.yaml", "--set", "train.epochs=2", "--seeds", seeds], more].concat()).exits(0);
    let run = lab.run().0.strip_prefix(lab.dir.path()).unwrap().display().to_string();
    (lab, run)
}

fn tensors(path: &Path) -> Weights {
    let mut file = TensorFile::open(path).unwrap();
    let names: Vec<String> = file.shapes().map(|(name, _)| name.to_string()).collect();
    names.into_iter().map(|name| (name.clone(), file.read(&name).unwrap())).collect()
}

#[track_caller]
fn same(a: &Weights, b: &Weights) {
    assert_eq!(a.iter().map(|(name, _)| name).collect::<Vec<_>>(), b.iter().map(|(name, _)| name).collect::<Vec<_>>());
    for ((name, a), (_, b)) in a.iter().zip(b) {
        assert_eq!(distance(a, b), 0.0, "{name}");
    }
}

#[track_caller]
fn distance(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// The network of a run's directory.
fn network(run: &Path) -> TrainedNetwork {
    let beside = Beside { decoder: run.join("decoder.safetensors"), ..Beside::default() };
    TrainedNetwork::load(&beside, &Device::Cpu, &Registry::built_in()).unwrap()
}

/// Its outputs at every step, `[batch, time, size]`.
fn outputs(run: &Path, inputs: &Tensor) -> Tensor {
    let targets = Targets::Values(inputs.clone());
    let batch = Batch::new(Inputs::Dense(inputs.clone()), targets);
    network(run).predictor(|trained| trained.predict(&batch)).unwrap()
}

#[test]
fn weights_come_back_as_they_went_in_every_format_that_is_imported() {
    let (lab, run) = trained("1,2", &[]);
    let spec = ["--as", "spec.yaml", "--set", "train.epochs=2"];
    for (format, file) in [("torch", "seed-2.pt"), ("safetensors", "seed-2.safetensors")] {
        lab.ccdni(&["export", &run, "--format", format, "--seed", "2"]).exits(0);
        let exported = format!("{run}/export/{file}");
        let original = tensors(&lab.path(&format!("{run}/seeds/2/decoder.safetensors")));
        same(&tensors(&lab.path(&exported)), &original);
        let out = format!("imported-{format}");
        let said = lab.ccdni(&[&["import", &exported, "-o", &out, "--seed", "2"], &spec[..]].concat()).exits(0);
        let imported = lab.only_run(&out);
        assert!(said.contains(&imported.file_name().unwrap().to_string_lossy().into_owned()), "{said}");
        assert_eq!(imported.file_name(), lab.path(&run).file_name(), "the same spec has the same hash");
        same(&tensors(&imported.join("decoder.safetensors")), &original);
    }
    let few = ["import", &format!("{run}/decoder.safetensors"), "-o", "few", "--set", "model.layers.0.dni.fibres=2"];
    let said = lab.ccdni(&[&few[..], &spec].concat()).exits(2);
    assert!(said.contains("a unit with 12 inputs, and `dni.fibres` is 2") && !lab.path("few").exists(), "{said}");
}

#[test]
fn a_pickled_vocabulary_is_read_without_its_class() {
    let vocabulary = ccdni::exchange::import::vocabulary(&cases("cases/torch/vocab.pkl")).unwrap();
    assert_eq!(vocabulary.words(), ["<pad>", "<start>", "<end>", "<unk>", "a", "dog", "café"]);
}

#[test]
fn exported_outputs_are_those_of_the_run() {
    let (lab, run) = trained("1,2", &[]);
    let said = lab.ccdni(&["export", &run, "--format", "torch", "--seed", "2", "-o", "there/net.pt"]).exits(0);
    for line in ["torch.nn.LSTM(1, 6, batch_first=True), \"rnn.rnn.\"", "torch.nn.Linear(6, 2), \"linear.\""] {
        assert!(said.contains(line), "{said}");
    }
    let script = std::fs::read_to_string(lab.path("there/net.py")).unwrap();
    let printed = script.replace("Path(__file__).parent", "Path(\"there\")");
    assert!(printed != script && said.starts_with(&printed) && said.contains("there/net.inputs.npy"), "{said}");
    let predictions = Tensor::read_npy(lab.path("there/net.predictions.npy")).unwrap();
    let all = Tensor::read_npy(lab.path(&format!("{run}/predictions.npy"))).unwrap();
    assert_eq!(distance(&predictions, &all.get(1).unwrap()), 0.0);
    let inputs = Tensor::read_npy(lab.path("there/net.inputs.npy")).unwrap();
    assert_eq!(inputs.dims(), [7, 10, 1]);

    let alone = lab.ccdni(&["export", &run, "--format", "numpy", "-o", "alone", "--weights-only"]).exits(0);
    assert!(!alone.contains("import"), "{alone}");
    assert_eq!(std::fs::read_dir(lab.path("alone")).unwrap().count(), 1);
    let said = lab.ccdni(&["export", &run, "--format", "numpy", "--seed", "5"]).exits(2);
    assert!(said.contains("no weights of seed 5") && said.contains("1, 2"), "{said}");
}

#[test]
fn files_that_an_export_would_destroy_or_confuse_are_refused() {
    let (lab, run) = trained("1,2", &[]);
    let export = |out: &str, format: &str| lab.ccdni(&["export", &run, "--format", format, "-o", out]);
    for (out, format, expected) in [
        ("net.py", "torch", "ends in `.pt`"),
        ("net.pt", "numpy", "ends in `.npz`"),
        (&format!("{run}/decoder.safetensors"), "safetensors", "a file of the run itself"),
        (&format!("{run}/seeds/1/decoder.safetensors"), "safetensors", "a file of the run itself"),
    ] {
        let said = export(out, format).exits(2);
        assert!(said.contains(out) && said.contains(expected), "{said}");
    }
    assert!(!lab.path("net.py").exists() && !lab.path("net.pt").exists());
    // Names of any other ending, and an earlier export, are fine.
    for _ in 0..2 {
        export("net.ckpt", "torch").exits(0);
        export(&format!("{run}/export/seed-1.pt"), "torch").exits(0);
    }
}

#[test]
fn a_cell_that_pytorch_lacks_has_weights_and_no_script() {
    let layers = "model.layers=[{cell: leaky, hidden: 5, tau: 2.0}]";
    let (lab, run) = trained("1", &["--set", layers, "--set", "record=null"]);
    let said = lab.ccdni(&["export", &run, "--format", "torch"]).exits(2);
    assert!(said.contains("layer 0") && said.contains("`leaky`") && said.contains("--format safetensors"), "{said}");
    assert!(!lab.path(&format!("{run}/export")).exists());
    let said = lab.ccdni(&["export", &run, "--format", "numpy", "-o", "leaky"]).exits(0);
    assert!(said.contains(".npz") && said.contains(".predictions.npy") && !said.contains("torch"), "{said}");
}

#[test]
fn files_of_pytorch_compute_here_what_they_computed_there() {
    let lab = Lab::new();
    lab.write(
        "two.yaml",
        "task: {kind: linedraw}\nmodel: {layers: [{cell: lstm, hidden: 4}, {cell: lstm, hidden: 4}]}\n\
         train: {epochs: 1, batch_size: 10}\n",
    );
    let inputs = Tensor::read_npy(cases("cases/torch/inputs.npy")).unwrap();
    let expected = Tensor::read_npy(cases("cases/torch/outputs.npy")).unwrap();
    for (name, out) in [("lstm.pt", "new"), ("lstm-legacy.pth", "old")] {
        let file = cases("cases/torch").join(name).display().to_string();
        lab.ccdni(&["import", &file, "--as", "two.yaml", "-o", out]).exits(0);
        let off = distance(&outputs(&lab.only_run(out), &inputs), &expected);
        assert!(off < CLOSE, "{name}: {off}");
    }
}

/// The golden cases whose data a built-in task describes: their last weights, and their outputs for `eval.input`.
#[test]
fn weights_of_the_papers_code_compute_its_outputs() {
    let lines = |row: usize| {
        format!("{{kind: seqmnist, mode: lines, row: {row}, source: {{kind: glyphs, train: 40, test: 0}}}}")
    };
    let classes = "{kind: seqmnist, source: {kind: glyphs, train: 40, test: 0}}".to_string();
    let line = "{kind: linedraw}".to_string();
    let layer = |cell: &str, hidden: usize, dni: &str| format!("{{cell: {cell}, hidden: {hidden}{dni}}}");
    for (case, task, layer) in [
        ("lstm_T1_sparse2", line.clone(), layer("lstm", 12, "")),
        ("dni_lstm_T1_sparse2", line, layer("lstm", 12, ", dni: {hidden: [20, 20]}")),
        ("gru_T3", lines(4), layer("gru", 9, "")),
        ("dni_gru_T3", lines(4), layer("gru", 9, ", dni: {hidden: [14, 14]}")),
        ("dni_lstm_T3_sparse4_seq28", lines(28), layer("lstm", 10, ", dni: {hidden: [20]}")),
        ("cdni_lstm_T5_predict_last", classes, layer("lstm", 10, ", dni: {hidden: [16, 16], context: target}")),
    ] {
        let lab = Lab::new();
        let golden =
            candle_core::safetensors::load(cases(&format!("golden/rnn/{case}/tensors.safetensors")), &Device::Cpu);
        let golden = golden.unwrap();
        let last = |name: &String| name.strip_prefix("batch2.after.").map(String::from);
        let weights: Weights = golden.iter().filter_map(|(name, tensor)| Some((last(name)?, tensor.clone()))).collect();
        std::fs::write(lab.path("state.pth"), Format::Torch.bytes(&weights).unwrap()).unwrap();
        let spec =
            format!("task: {task}\nmodel: {{layers: [{layer}]}}\ntrain: {{epochs: 1, batch_size: 4, bptt: 2}}\n");
        lab.write("case.yaml", &spec);
        lab.ccdni(&["import", "state.pth", "--as", "case.yaml", "-o", "imported"]).exits(0);
        let all = outputs(&lab.only_run("imported"), &golden["eval.input"]);
        let expected = &golden["eval.prediction"];
        let all = match expected.dims() {
            [_, _] => all.get_on_dim(1, all.dim(1).unwrap() - 1).unwrap(),
            _ => all,
        };
        let off = distance(&all, expected);
        assert!(off < CLOSE, "{case}: {off}");
    }
}

#[test]
fn imported_weights_are_used_and_not_taken_for_training() {
    let (lab, run) = trained("1,2", &[]);
    let spec = ["--as", "spec.yaml", "--set", "train.epochs=2"];
    let decoder = format!("{run}/seeds/1/decoder.safetensors");
    let said = lab.ccdni(&[&["import", &decoder, "-o", "outputs"], &spec[..]].concat()).exits(2);
    assert!(said.contains("trained here") && said.contains("-o DIR"), "{said}");
    let import = |seed: &str| lab.ccdni(&[&["import", &decoder, "-o", "there", "--seed", seed], &spec[..]].concat());
    import("1").exits(0);
    import("3").exits(0);
    assert!(import("3").exits(2).contains("imported weights of seed 3 already"));

    let imported = lab.only_run("there");
    let hash = imported.file_name().unwrap().to_str().unwrap();
    let record = std::fs::read_to_string(imported.join("seeds/1/unit.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let digest = blake3::hash(&std::fs::read(lab.path(&decoder)).unwrap()).to_hex().to_string();
    assert_eq!(record["state"], "imported");
    assert_eq!(record["imported"], serde_json::json!([{ "file": decoder, "blake3": digest }]));
    for absent in ["epochs", "seconds", "validation", "train_loss"] {
        assert!(record.get(absent).is_none(), "{record}");
    }
    assert!(!imported.join("seeds/1/metrics.csv").exists());

    let listed = lab.ccdni(&["list", "--outputs", "there"]).exits(0);
    assert!(listed.contains("imported") && !listed.contains("damaged"), "{listed}");
    let shown = lab.ccdni(&["show", hash, "--outputs", "there"]).exits(0);
    assert!(shown.contains(&format!("seed 1: imported from {decoder}")), "{shown}");
    for command in [
        &["run", "spec.yaml", "--set", "train.epochs=2", "--outputs", "there"][..],
        &["run", "spec.yaml", "--set", "train.epochs=2", "--outputs", "there", "--seeds", "2"],
        &["plot", hash, "--outputs", "there"],
        &["analyse", hash, "--outputs", "there"],
        &["compare", hash, "--outputs", "there"],
        &["report", hash, "--outputs", "there"],
    ] {
        let said = lab.ccdni(command).exits(2);
        assert!(said.contains("imported from") && said.contains("no training"), "{command:?}: {said}");
    }
    let of = |decoder: &str| lab.ccdni(&["sample", "--decoder", decoder]).exits(0);
    assert_eq!(of(imported.to_str().unwrap()), of(&decoder));
    let from = format!("train.init_from={}", imported.display());
    let seeds = ["--seeds", "1,3", "--set", "record=null", "--set", &from, "--outputs", "on"];
    lab.ccdni(&[&["run", "spec.yaml", "--set", "train.epochs=1"], &seeds[..]].concat()).exits(0);
    let said = lab.ccdni(&["export", imported.to_str().unwrap(), "--format", "torch"]).exits(0);
    assert!(said.contains("seed-1.pt"), "{said}");
}

#[test]
fn weights_that_do_not_fit_are_refused_with_what_they_are() {
    let lab = Lab::new();
    let file = cases("cases/torch/lstm.pt").display().to_string();
    let held = "layers: [{cell: lstm, hidden: 4}, {cell: lstm, hidden: 4}], inputs: 1, outputs: 2";
    assert_eq!(lab.ccdni(&["import", &file]).exits(0), format!("{held}\n"));
    let other: Weights =
        vec![("fc.weight".into(), Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap())];
    std::fs::write(lab.path("other.pth"), Format::Torch.bytes(&other).unwrap()).unwrap();
    assert!(lab.ccdni(&["import", "other.pth"]).exits(0).starts_with("no recurrent layers"));
    let said = lab.ccdni(&["import", &file, "-o", "imported"]).exits(2);
    assert!(said.contains(held) && said.contains("--as SPEC"), "{said}");
    let with = |layers: &str, more: &[&str]| {
        let set = format!("model.layers={layers}");
        let arguments = ["import", &file, "--as", "spec.yaml", "-o", "imported", "--set", "record=null", "--set", &set];
        lab.ccdni(&[&arguments[..], more].concat()).exits(2)
    };
    for (layers, expected) in [
        ("[{cell: lstm, hidden: 4}]", "`state_dict.lstm.bias_hh_l1`, `state_dict.lstm.bias_ih_l1`"),
        ("[{cell: lstm, hidden: 4}]", "and 1 more would be left over"),
        (
            "[{cell: lstm, hidden: 5}, {cell: lstm, hidden: 4}]",
            "`state_dict.lstm.weight_ih_l0` has shape [16, 1], and [20, 1]",
        ),
        ("[{cell: gru, hidden: 4}, {cell: gru, hidden: 4}]", "`state_dict.lstm.bias_ih_l1` has shape [16], and [12]"),
        (
            "[{cell: lstm, hidden: 4}, {cell: lstm, hidden: 4, dni: {}}]",
            "they lack `rnn.1.backward_interface.synthesizer",
        ),
        ("[{cell: lstm, hidden: 4}, {cell: lstm, hidden: 4}, {cell: lstm, hidden: 4}]", "they lack `rnn.weight_ih_l2`"),
    ] {
        let said = with(layers, &[]);
        assert!(said.contains(expected) && said.contains(held), "{layers}: {said}");
    }
    let two = "[{cell: lstm, hidden: 4}, {cell: lstm, hidden: 4}]";
    assert!(
        with(two, &["--vocabulary", &cases("cases/torch/vocab.pkl").display().to_string()]).contains("no vocabulary")
    );
    lab.write("text.pth", "weights");
    let said = lab.ccdni(&["import", "text.pth"]).exits(2);
    assert!(said.contains("text.pth: is not a file of PyTorch weights"), "{said}");
    assert!(lab.ccdni(&["import", "none.pth"]).exits(2).contains("none.pth: cannot be read"));
    assert!(!lab.path("imported").exists(), "nothing is left behind");
}

#[test]
fn layers_whose_order_is_not_known_are_refused() {
    let lab = Lab::new();
    let layer = |name: &str| -> Weights {
        let weights = tensors(&cases("cases/torch/lstm.pt")).into_iter();
        let upper = weights
            .filter_map(|(name, tensor)| Some((name.strip_suffix("_l1")?.rsplit_once('.')?.1.to_string(), tensor)));
        upper.map(|(what, tensor)| (format!("{name}.{what}_l0"), tensor)).collect()
    };
    let readout = tensors(&cases("cases/torch/lstm.pt")).into_iter().filter(|(name, _)| name.contains("fc."));
    let readout: Weights = readout.collect();
    lab.write(
        "lines.yaml",
        "task: {kind: seqmnist, mode: lines, row: 4, source: {kind: glyphs, train: 40, test: 0}}\n\
         model: {layers: [{cell: lstm, hidden: 4}, {cell: lstm, hidden: 4}]}\ntrain: {epochs: 1, batch_size: 4}\n",
    );
    for (names, code) in [(["encoder", "decoder"], 2), (["lstm2", "lstm10"], 0)] {
        let weights = [layer(names[0]), layer(names[1]), readout.clone()].concat();
        std::fs::write(lab.path("two.pth"), Format::Torch.bytes(&weights).unwrap()).unwrap();
        let said = lab.ccdni(&["import", "two.pth", "--as", "lines.yaml", "-o", "two"]).exits(code);
        let unknown = "belongs to the lower layer does not follow from their names";
        assert_eq!(said.contains(unknown) && said.contains("`rnn.0.*`"), code == 2, "{said}");
    }
}

#[cfg(unix)]
#[test]
fn an_import_onto_a_full_disk_leaves_no_run() {
    let lab = Lab::new();
    let zeros = |(name, dims): &(&str, &[usize])| {
        (name.to_string(), Tensor::zeros(*dims, candle_core::DType::F32, &Device::Cpu).unwrap())
    };
    let tensors: [(&str, &[usize]); 6] = [
        ("rnn.weight_ih_l0", &[256, 1]),
        ("rnn.weight_hh_l0", &[256, 64]),
        ("rnn.bias_ih_l0", &[256]),
        ("rnn.bias_hh_l0", &[256]),
        ("linear.weight", &[2, 64]),
        ("linear.bias", &[2]),
    ];
    let weights: Weights = tensors.iter().map(zeros).collect();
    std::fs::write(lab.path("state.pth"), Format::Torch.bytes(&weights).unwrap()).unwrap();
    lab.write(
        "wide.yaml",
        "task: {kind: linedraw}\nmodel: {layers: [{cell: lstm, hidden: 64}]}\ntrain: {epochs: 1, batch_size: 4}\n",
    );
    // Files beyond this size, as the weights are, fail as on a full disk.
    let script = "trap '' XFSZ; ulimit -f 32; exec \"$0\" import state.pth --as wide.yaml -o there";
    let mut limited = Command::new("sh");
    limited.args(["-c", script, env!("CARGO_BIN_EXE_ccdni")]).current_dir(lab.dir.path());
    let said = Ran::of(limited.output().unwrap()).exits(1);
    assert!(said.contains("decoder.safetensors"), "{said}");
    assert_eq!(std::fs::read_dir(lab.path("there")).unwrap().count(), 0);
    lab.ccdni(&["import", "state.pth", "--as", "wide.yaml", "-o", "there"]).exits(0);
}

/// A tiny captioning network, with an encoder that learns.
const CAPTIONS: &str = "
task:
  kind: captioning
  source: {kind: scenes, dir: scenes, train: 40, validation: 4, size: 32}
  threshold: 2
  lengths: [11, 18]
  resize: 32
  validation_batch_size: 4
model:
  encoder: {kind: conv, channels: [4, 6], trainable: all}
  embed: {size: 8}
  layers: [{cell: lstm, hidden: 10}]
train: {epochs: 1, batch_size: 5, bptt: 5, step_every: window}
run: {device: cpu}
";

/// Words as a pickled dictionary.
fn pickled(words: &[String]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    for (id, word) in words.iter().enumerate() {
        pickle.push(b'X');
        pickle.extend((word.len() as u32).to_le_bytes());
        pickle.extend(word.as_bytes());
        pickle.push(b'J');
        pickle.extend((id as i32).to_le_bytes());
    }
    pickle.extend(b"u.");
    pickle
}

#[test]
fn a_decoder_and_an_encoder_with_the_tutorials_names_describe_images() {
    let lab = Lab::new();
    lab.write("captions.yaml", CAPTIONS);
    lab.ccdni(&["run", "captions.yaml"]).exits(0);
    let run = lab.run().0;
    let renamed = |name: &str, change: fn(&str) -> String| -> Weights {
        let weights = tensors(&run.join(name)).into_iter();
        weights.map(|(name, tensor)| (change(&name), tensor)).collect()
    };
    let decoder = renamed("decoder.safetensors", |name| name.replace("rnn.", "lstm."));
    let encoder = renamed("encoder.safetensors", |name| format!("module.{name}"));
    for (name, weights) in [("decoder.ckpt", &decoder), ("encoder.ckpt", &encoder)] {
        std::fs::write(lab.path(name), Format::Torch.bytes(weights).unwrap()).unwrap();
    }
    let words = network(&run).vocabulary.unwrap().words().to_vec();
    std::fs::write(lab.path("vocab.pkl"), pickled(&words)).unwrap();
    std::fs::write(lab.path("short.pkl"), pickled(&words[..words.len() - 1])).unwrap();
    let import = |more: &[&str]| {
        lab.ccdni(&[&["import", "decoder.ckpt", "encoder.ckpt", "--as", "captions.yaml", "-o", "there"], more].concat())
    };
    assert!(import(&[]).exits(2).contains("--vocabulary FILE"));
    let said = import(&["--vocabulary", "short.pkl"]).exits(2);
    assert!(said.contains(&format!("has {} rows", words.len())), "{said}");
    import(&["--vocabulary", "vocab.pkl"]).exits(0);
    let mut swapped = words.clone();
    swapped.swap(5, 6);
    std::fs::write(lab.path("swapped.pkl"), pickled(&swapped)).unwrap();
    let said = import(&["--vocabulary", "swapped.pkl", "--seed", "2"]).exits(2);
    assert!(said.contains("the same in another order"), "{said}");
    import(&["--vocabulary", "vocab.pkl", "--seed", "2"]).exits(0);
    let there = lab.only_run("there");
    let sample = |run: &Path| {
        lab.ccdni(&["sample", "--decoder", run.to_str().unwrap(), "--image", "scenes/validation"]).exits(0)
    };
    assert_eq!(sample(&there), sample(&run));

    // Features and words instead of inputs; what the encoder makes of images is not part of the script.
    let said = lab.ccdni(&["export", there.to_str().unwrap(), "--format", "torch", "-o", "net"]).exits(0);
    assert!(said.contains("torch.nn.Embedding(") && said.contains("net/seed-1.features.npy"), "{said}");
    let back = ["import", "net/seed-1.pt", "--as", "captions.yaml", "--vocabulary", "vocab.pkl", "-o", "back"];
    lab.ccdni(&back).exits(0);
    let back = lab.only_run("back");
    for name in ["decoder.safetensors", "encoder.safetensors"] {
        same(&tensors(&back.join(name)), &tensors(&run.join(name)));
    }
}

/// A Python with PyTorch: the one that `CCDNI_PYTHON` names, which then has to have it, or `python3`.
fn python() -> Option<PathBuf> {
    let named = std::env::var_os("CCDNI_PYTHON").map(PathBuf::from);
    let python = named.clone().unwrap_or_else(|| PathBuf::from("python3"));
    let output = Command::new(&python).args(["-c", "import torch, numpy"]).output();
    let has_torch = output.is_ok_and(|output| output.status.success());
    assert!(has_torch || named.is_none(), "{} has no torch", python.display());
    has_torch.then_some(python)
}

#[test]
fn pytorch_computes_what_was_exported() {
    let Some(python) = python() else {
        // The harness hides what goes through `eprintln!`.
        let why = "python3 has no torch (CCDNI_PYTHON names another Python)";
        let _ = writeln!(std::io::stderr(), "pytorch_computes_what_was_exported was skipped: {why}");
        return;
    };
    let compute = |lab: &Lab, run: &str, format: &str| {
        lab.ccdni(&["export", run, "--format", format, "-o", "net"]).exits(0);
        let output = Command::new(&python).arg("seed-1.py").current_dir(lab.path("net")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let off = said.trim().rsplit(' ').next().and_then(|number| number.parse::<f32>().ok());
        let off = off.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
        assert!(off < CLOSE, "{said}");
    };
    let dni = ", dni: {hidden: [5]}";
    for layers in [
        "{cell: lstm, hidden: 6}".to_string(),
        format!("{{cell: gru, hidden: 6{dni}}}"),
        "{cell: tanh, hidden: 6}, {cell: tanh, hidden: 6}".into(),
        format!("{{cell: relu, hidden: 6}}, {{cell: gru, hidden: 4{dni}}}, {{cell: lstm, hidden: 3}}"),
    ] {
        let set = format!("model.layers=[{layers}]");
        let (lab, run) = trained("1", &["--set", &set, "--set", "record=null"]);
        ["torch", "numpy"].iter().for_each(|format| compute(&lab, &run, format));
    }
    let lab = Lab::new();
    lab.write("captions.yaml", CAPTIONS);
    lab.ccdni(&["run", "captions.yaml"]).exits(0);
    compute(&lab, lab.run().0.to_str().unwrap(), "torch");
}
