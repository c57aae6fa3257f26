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
    assert!(explain(&["train.epochs"], 0).contains("a value is required"));
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
fn an_unknown_key_leads_to_a_known_one() {
    for (key, help) in [
        ("train.btpt", "did you mean `train.bptt`?"),
        ("bptt", "did you mean `train.bptt`?"),
        ("lesion_at", "did you mean `model.layers.0.dni.lesion_at`?"),
        ("model.layers.dni", "did you mean `model.layers.0.dni`?"),
        ("train.epochs.x", "`train.epochs` is a value"),
        ("train..bptt", "there is no key `train.`"),
    ] {
        let text = explain(&[key], 2);
        assert!(text.contains(help), "{key}: {text}");
    }
    assert!(explain(&["task", "--task", "linedrow"], 2).contains("there are: linedraw"));
}
