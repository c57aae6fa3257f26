//! Labels of runs and titles of panels: spec values in the papers' terms.

use serde_json::Value;

use super::keys::{CCRNN, CRNN, applies, at, network_of};
use crate::spec::whole_line;

/// Maximum length of a label; longer ones are cut, and are complete in the table.
pub(super) const LONGEST: usize = 60;

/// Values of synthesizers and initial weights shared by more than half of the runs: the baseline that the others vary.
pub(super) fn usual(trees: &[&Value], keys: &[String]) -> Vec<(String, Option<Value>)> {
    let mut usual = Vec::new();
    for key in keys.iter().filter(|key| is_treatment(key)) {
        let values: Vec<Option<&Value>> =
            trees.iter().filter(|tree| applies(tree, key)).map(|tree| at(tree, key)).collect();
        let many = |value: &&Option<&Value>| 2 * values.iter().filter(|other| other == value).count() > values.len();
        if let Some(value) = values.iter().find(many).filter(|_| values.len() > 2) {
            usual.push((key.clone(), value.cloned()));
        }
    }
    usual
}

/// A run's label from these keys of its spec. Values in `usual` are omitted; if nothing else is known of a synthesizer, the
/// run is "intact".
pub(super) fn label(tree: &Value, keys: &[String], usual: &[(String, Option<Value>)]) -> String {
    let mut words: Vec<String> = Vec::new();
    let (mut untreated, mut treated) = (false, false);
    for key in keys.iter().filter(|key| applies(tree, key)) {
        let is_usual = usual.iter().any(|(name, value)| name == key && value.as_ref() == at(tree, key));
        let word = if is_usual { None } else { word(tree, key, &short(key, keys)) };
        untreated |= is_treatment(key) && word.is_none();
        treated |= is_treatment(key) && word.is_some();
        words.extend(word);
    }
    // A network without a synthesizer has none that could be intact.
    if untreated && !treated && network_of(tree) != CRNN {
        words.push("intact".into());
    }
    if words.is_empty() { "default".into() } else { words.join(", ") }
}

/// Whether a key describes an intervention on a network, rather than the network.
fn is_treatment(key: &str) -> bool {
    key.contains(".dni.") || ["init", "init_scale"].contains(&last(key))
}

/// The title of a value's panel. Windows are in per cent of the sequence if its length is fixed.
pub(super) fn title(tree: &Value, key: &str, steps: Option<usize>) -> String {
    match (key, steps) {
        ("train.bptt", Some(steps)) => {
            let window = at(tree, key).and_then(Value::as_u64).map_or(steps as f64, |window| window as f64);
            format!("bptt {} %", (100.0 * window / steps.max(1) as f64).round())
        }
        _ => cut(&label(tree, &[key.to_owned()], &[])),
    }
}

/// The label of one value; `None` for the expected value.
fn word(tree: &Value, key: &str, name: &str) -> Option<String> {
    let value = at(tree, key);
    let layer = |text: &str| Some(format!("{}{text}", if name.starts_with("layer") { prefix(name) } else { "" }));
    match (key, last(key), value) {
        ("model", ..) => Some(network_of(tree).into()),
        ("name", _, value) => Some(value.and_then(Value::as_str).unwrap_or("no name").into()),
        // An interface between blocks makes no network of the papers.
        (_, "dni", value) if key.contains("blocks.") => {
            Some(if value.is_some() { "decoupled" } else { "locked" }.into())
        }
        (_, "dni", Some(_)) => layer(CCRNN),
        (_, "dni", None) => layer(CRNN),
        ("train.bptt", _, None) => Some("full BPTT".into()),
        (_, "lesion_at", value) => layer(&format!("lesion at epoch {}", value?)),
        (_, "freeze_at", value) => layer(&format!("frozen from epoch {}", value?)),
        (_, "learn", value) => (value == Some(&Value::Bool(false))).then(|| "fixed random synthesizer".into()),
        (_, "fibres", None) => layer("all fibres"),
        (_, "fibres", Some(count)) => layer(&format!("{count} fibres")),
        (_, "cell" | "kind", Some(Value::String(kind))) => Some(kind.clone()),
        (_, _, Some(Value::Bool(true))) => Some(name.into()),
        (_, _, None | Some(Value::Bool(false))) => Some(format!("no {name}")),
        (_, _, Some(value)) => Some(format!("{name} {}", whole_line(value))),
    }
}

/// The horizontal axis of the epochs of lesions and freezing.
pub(super) const EVENT: &str = "event";

/// The horizontal axis of how much is unlocked.
pub(super) const UNLOCK: &str = "unlock";

/// The positions on the axis [`UNLOCK`].
pub(super) const UNLOCKED: [&str; 3] = ["locked", "update unlock", "full unlock"];

/// Axis label of a key, whose values are in `percent` of the sequence or as they are.
pub(super) fn axis(key: &str, percent: bool) -> &str {
    match key {
        "train.bptt" if percent => "bptt (% of the sequence)",
        "train.bptt" => "bptt (steps)",
        "train.feedback_every" => "interval of feedback (steps)",
        EVENT => "epoch of the lesion",
        UNLOCK => "decoupling",
        key => key.strip_prefix("model.layers.0.").or(key.strip_prefix("train.")).unwrap_or(key),
    }
}

/// `layer 1 ` of `layer 1 hidden`.
fn prefix(name: &str) -> &str {
    name.match_indices(' ').nth(1).map_or("", |(end, _)| &name[..=end])
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// The shortest suffix of a key that distinguishes it from the other keys; `layers.1` becomes "layer 1".
pub fn short(key: &str, keys: &[String]) -> String {
    let ends = key.rmatch_indices('.').map(|(dot, _)| &key[dot + 1..]).chain([key]);
    let unique = |end: &&str| {
        let same = |other: &&String| other.as_str() == *end || other.ends_with(&format!(".{end}"));
        keys.iter().filter(same).count() <= 1 && !end.starts_with(|c: char| c.is_ascii_digit())
    };
    let end = { ends }.find(unique).unwrap_or(key);
    let rest = end.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
    rest.map_or_else(|| end.to_owned(), |(index, rest)| format!("layer {index} {rest}"))
}

/// Cuts a label to [`LONGEST`] characters.
pub(super) fn cut(label: &str) -> String {
    if label.chars().count() <= LONGEST {
        return label.to_owned();
    }
    label.chars().take(LONGEST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::super::keys::differing;
    use super::*;
    use serde_json::json;

    fn labels(runs: &[Value]) -> Vec<String> {
        let keys = differing(&runs.iter().collect::<Vec<_>>());
        let usual = usual(&runs.iter().collect::<Vec<_>>(), &keys);
        runs.iter().map(|run| label(run, &keys, &usual)).collect()
    }

    fn run(layers: Value, train: Value) -> Value {
        json!({"model": {"layers": layers}, "train": train, "task": {"kind": "linedraw"}})
    }

    #[test]
    fn models_and_windows_have_the_papers_names() {
        let runs = [
            run(json!([{"hidden": 5}]), json!({"bptt": 1})),
            run(json!([{"hidden": 5, "dni": {"scale": 0.1}}]), json!({"bptt": 1})),
            run(json!([{"hidden": 5}]), json!({})),
        ];
        assert_eq!(labels(&runs), ["cRNN, bptt 1", "ccRNN, bptt 1", "cRNN, full BPTT"]);
        assert_eq!(label(&runs[1], &["model".into()], &[]), "ccRNN");
    }

    #[test]
    fn networks_of_blocks_are_locked_or_decoupled() {
        let blocks = |dni: Value| json!([{"kind": "linear"}, {"kind": "batch_norm", "dni": dni}]);
        let runs = [json!(null), json!({"scale": 1.0})].map(|dni| json!({"model": {"blocks": blocks(dni)}}));
        assert_eq!(labels(&runs), ["locked", "decoupled"]);
        let encoders = [json!(null), json!({"scale": 1.0})].map(
            |dni| json!({"model": {"layers": [{"hidden": 5}], "encoder": {"kind": "blocks", "blocks": blocks(dni)}}}),
        );
        assert_eq!(labels(&encoders), ["locked", "decoupled"]);
    }

    #[test]
    fn lesions_are_named_and_their_absence_is_intact() {
        let dni = |dni: Value| run(json!([{"dni": dni}]), json!({}));
        let runs = [
            dni(json!({"learn": true})),
            dni(json!({"learn": true, "lesion_at": 20})),
            dni(json!({"learn": true, "freeze_at": 20})),
            dni(json!({"learn": false})),
        ];
        assert_eq!(labels(&runs), ["intact", "lesion at epoch 20", "frozen from epoch 20", "fixed random synthesizer"]);
        let with_plain = [runs.as_slice(), &[run(json!([{}]), json!({}))]].concat();
        assert_eq!(labels(&with_plain)[0], "ccRNN, intact");
        assert_eq!(labels(&with_plain)[4], "cRNN");
    }

    #[test]
    fn variants_are_named_by_their_differences() {
        let layer = |layer: Value| run(json!([layer]), json!({}));
        let runs = [
            layer(json!({"init_scale": 1.0, "dni": {"hidden": [400]}})),
            layer(json!({"init_scale": 1.0, "dni": {"hidden": [400], "fibres": 4}})),
            layer(json!({"init_scale": 0.5, "dni": {"hidden": [400]}})),
            layer(json!({"init_scale": 1.0, "dni": {"hidden": [400], "lesion_at": 7}})),
        ];
        assert_eq!(labels(&runs), ["intact", "4 fibres", "init_scale 0.5", "lesion at epoch 7"]);
        assert_eq!(labels(&runs[1..3]), ["4 fibres, init_scale 1.0", "all fibres, init_scale 0.5"]);
    }

    #[test]
    fn other_keys_are_named_by_an_unambiguous_suffix() {
        let runs = [
            run(json!([{"hidden": 5, "dni": {"hidden": [9], "fibres": 4}}]), json!({"keep_hidden": true})),
            run(json!([{"hidden": 6, "dni": {"hidden": []}}]), json!({"keep_hidden": false})),
        ];
        assert_eq!(
            labels(&runs),
            [
                "4 fibres, dni.hidden [9], layer 0 hidden 5, keep_hidden",
                "all fibres, dni.hidden [], layer 0 hidden 6, no keep_hidden"
            ]
        );
        let two = |a: u64, b: u64| {
            run(json!([{"hidden": a, "dni": {"lesion_at": a}}, {"hidden": b, "dni": {"lesion_at": b}}]), json!({}))
        };
        assert_eq!(
            labels(&[two(1, 2), two(3, 3)])[0],
            "layer 0 lesion at epoch 1, layer 0 hidden 1, layer 1 lesion at epoch 2, layer 1 hidden 2"
        );
        let alike = |dni: Value| run(json!([{"dni": dni.clone()}, {"dni": dni}]), json!({}));
        assert_eq!(labels(&[alike(json!(null)), alike(json!({}))]), ["cRNN", "ccRNN"]);
    }

    #[test]
    fn windows_are_titled_in_per_cent_of_the_sequence() {
        let with = |train: Value| run(json!([]), train);
        assert_eq!(title(&with(json!({"bptt": 3})), "train.bptt", Some(28)), "bptt 11 %");
        assert_eq!(title(&with(json!({})), "train.bptt", Some(28)), "bptt 100 %");
        assert_eq!(title(&with(json!({"bptt": 3})), "train.bptt", None), "bptt 3");
        assert_eq!(title(&with(json!({"batch_size": 50})), "train.batch_size", Some(28)), "batch_size 50");
    }

    #[test]
    fn long_labels_are_cut() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"ä".repeat(100)).chars().count(), LONGEST);
    }
}
