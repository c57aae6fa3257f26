//! `ccdni explain`: keys are explained from their declarations, and one that is unknown leads to one that is known.

use crate::lab::Lab;

fn explain(arguments: &[&str], code: i32) -> String {
    Lab::new().ccdni(&[&["explain"], arguments].concat()).exits(code)
}

#[test]
fn a_value_has_a_meaning_a_type_a_default_and_a_figure() {
    let text = explain(&["train.bptt"], 0);
    for part in ["Window of truncated", "whole number >= 1 | text", "default  none, optional", "NeurIPS 2021, Fig. 2"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for required in ["train.epochs", "task", "model.layers.0.hidden"] {
        assert!(explain(&[required], 0).contains("a value is required"), "{required}");
    }
    let text = explain(&["model.layers.0.dni"], 0);
    assert!(text.contains("whole number 1 to 1000000 | null"), "{text}");
    let text = explain(&["model.layers.0.cell"], 0);
    assert!(text.contains("lstm") && text.contains("Gated recurrent unit."), "{text}");
}

#[test]
fn a_table_lists_its_keys() {
    let text = explain(&["model.layers.0.dni"], 0);
    for key in ["hidden", "lesion_at", "context"] {
        assert!(text.contains(&format!("\n  {key} ")), "{key}: {text}");
    }
    let text = explain(&["task", "--task", "linedraw"], 0);
    assert!(text.contains("kind: linedraw") && text.contains("  seq_len"), "{text}");
    assert!(!text.contains("kind: seqmnist"), "{text}");
}

#[test]
fn a_key_of_several_tables_names_them() {
    let text = explain(&["train.optimizer.lr"], 0);
    assert!(text.contains("kind: adam") && text.contains("kind: sgd"), "{text}");
    assert!(explain(&["task.points"], 0).contains("task.points (kind: linedraw)"));
}

#[test]
fn a_selector_is_one_declaration_with_every_choice() {
    for (key, default, choices) in [
        ("model.layers.0.cell", "none, a value is required", vec!["lstm: Long short-term memory.", "leaky: "]),
        ("model.layers.0.dni.kind", "mlp", vec!["mlp: a multilayer perceptron"]),
        ("task.kind", "none, a value is required", vec!["linedraw: ", "seqmnist: "]),
        ("train.optimizer.kind", "adam", vec!["adam: Adam", "sgd: Stochastic"]),
        (
            "model.encoder.kind",
            "none, a value is required",
            vec!["resnet: A residual network", "conv: A small network"],
        ),
    ] {
        let text = explain(&[key], 0);
        assert_eq!(text.matches("  values  ").count(), 1, "{text}");
        for part in choices.into_iter().map(|choice| format!("\n    {choice}")) {
            assert!(text.contains(&part), "{part}: {text}");
        }
        assert!(text.contains(&format!("  default  {default}\n")), "{key}: {text}");
    }
    let one = explain(&["task.kind", "--task", "linedraw"], 0);
    assert!(one.contains("values   linedraw\n"), "{one}");
}

#[test]
fn a_table_with_forms_lists_common_keys_once_and_each_form_with_its_own() {
    let text = explain(&["model.layers.0"], 0);
    assert!(text.contains("values   table\n"), "{text}");
    assert_eq!(text.matches("\n  cell  ").count(), 1, "{text}");
    for part in
        ["\n    scale  ", "\n    kind: mlp  ", "\n      fibres  ", "\n  cell: gru  Gated", "\n  cell: leaky  Leaky"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("\n  tau  "), "{text}");
    assert!(explain(&["model.layers.0.tau"], 0).starts_with("model.layers.0.tau (cell: leaky)"));
    let nested = explain(&["task.source.dataset"], 0);
    assert!(nested.starts_with("task.source.dataset (kind: seqmnist or kind: classify, kind: hub)"), "{nested}");
    assert!(explain(&["model.layers.0.nothing"], 2).contains("cell"));
}

#[test]
fn an_unknown_key_leads_to_a_known_one() {
    for (key, help) in [
        ("train.btpt", "did you mean `train.bptt`?"),
        ("bptt", "did you mean `train.bptt`?"),
        ("lesion_at", "did you mean `model.blocks.0.dni.lesion_at`?"),
        ("model.layers.dni", "did you mean `model.layers.0.dni`?"),
        ("train.epochs.x", "`train.epochs` is a value"),
        ("train..bptt", "there is no key `train.`"),
    ] {
        let text = explain(&[key], 2);
        assert!(text.contains(help), "{key}: {text}");
    }
    assert!(explain(&["task", "--task", "linedrow"], 2).contains("there are: linedraw"));
}
