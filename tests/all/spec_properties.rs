//! What holds for every spec: the hash does not depend on how it was written, and nothing makes resolving panic.

use std::fmt::Write;

use proptest::prelude::*;

use crate::spec_support::{BASE, Folder, base};

/// Assignments that may be laid over the base spec together, in any order and from any layer.
const CHOICES: [(&str, &str); 10] = [
    ("train.bptt", "5"),
    ("train.epochs", "7"),
    ("train.keep", "best"),
    ("train.optimizer.lr", "0.01"),
    ("train.clip.norm", "2"),
    ("train.activity_l2", "0.5"),
    ("model.input_dropout", "0.25"),
    ("task.noise", "0.5"),
    ("task.steps", "12"),
    ("record.what", "[hidden, weights]"),
];

/// Where an assignment is made.
#[derive(Debug, Clone, Copy)]
enum Route {
    Base,
    File,
    Variable,
    Flag,
}

/// A YAML file that says these, one nested table each, merged under `top.second` in the order given.
fn file(extends: &str, said: &[(&str, &str)]) -> String {
    let mut text = format!("extends: {extends}\n");
    let mut tops: Vec<&str> = Vec::new();
    for (path, _) in said {
        let top = path.split('.').next().unwrap();
        if !tops.contains(&top) {
            tops.push(top);
        }
    }
    for top in tops {
        let _ = writeln!(text, "{top}:");
        for (path, value) in said {
            let keys: Vec<&str> = path.split('.').collect();
            match keys.as_slice() {
                [first, key] if *first == top => writeln!(text, "  {key}: {value}").unwrap(),
                [first, table, key] if *first == top => writeln!(text, "  {table}: {{{key}: {value}}}").unwrap(),
                _ => {}
            }
        }
    }
    text
}

fn routes() -> impl Strategy<Value = Vec<(usize, Route)>> {
    let route = prop_oneof![Just(Route::Base), Just(Route::File), Just(Route::Variable), Just(Route::Flag)];
    let chosen = prop::sample::subsequence((0..CHOICES.len()).collect::<Vec<_>>(), 0..=CHOICES.len());
    chosen.prop_shuffle().prop_flat_map(move |indices| {
        let count = indices.len();
        prop::collection::vec(route.clone(), count)
            .prop_map(move |routes| indices.iter().copied().zip(routes).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_hash_does_not_depend_on_order_or_route(choices in routes()) {
        let flags: Vec<String> = choices.iter().map(|(index, _)| format!("{}={}", CHOICES[*index].0, CHOICES[*index].1)).collect();
        let mut sorted = flags.clone();
        sorted.sort();
        let expected = base(&sorted.iter().map(String::as_str).collect::<Vec<_>>()).unwrap().hash;

        let (mut weak, mut strong, mut env, mut set) = (vec![], vec![], vec![], vec![]);
        for (index, route) in &choices {
            let (path, value) = CHOICES[*index];
            match route {
                Route::Base => weak.push((path, value)),
                Route::File => strong.push((path, value)),
                Route::Variable => env.push((format!("CCDNI__{}", path.to_uppercase().replace('.', "__")), value)),
                Route::Flag => set.push(format!("{path}={value}")),
            }
        }
        let folder = Folder::new(&[("root.yaml", BASE), ("weak.yaml", &file("root.yaml", &weak)), ("s.yaml", &file("weak.yaml", &strong))]);
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let resolved = folder.resolve("s.yaml", &set, &env).unwrap();
        prop_assert_eq!(&resolved.hash, &expected);

        // A resolved spec is a spec, and resolves to itself.
        let again = Folder::new(&[("spec.yaml", &resolved.to_yaml())]).resolve("spec.yaml", &[], &[]).unwrap();
        prop_assert_eq!(&again.hash, &expected);
        prop_assert_eq!(again.spec, resolved.spec);
    }
}

/// Keys of the spec and others, so that random tables get far.
fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "task",
        "kind",
        "model",
        "layers",
        "cell",
        "hidden",
        "dni",
        "share",
        "fibres",
        "learn",
        "train",
        "epochs",
        "batch_size",
        "bptt",
        "optimizer",
        "betas",
        "lr",
        "clip",
        "norm",
        "schedule",
        "record",
        "what",
        "every",
        "seeds",
        "run",
        "jobs",
        "checkpoint_every",
        "init_from",
        "extends",
        "steps",
        "0",
        "1",
        "nonsense",
        "",
    ])
    .prop_map(str::to_owned)
}

fn scalar() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "null",
        "true",
        "false",
        "0",
        "1",
        "-1",
        "5",
        "5.0",
        "1e-3",
        ".nan",
        ".inf",
        "-.inf",
        "18446744073709551615",
        "lstm",
        "gru",
        "digits",
        "words",
        "adam",
        "sgd",
        "reduce_on_plateau",
        "20%",
        "1..3",
        "3..1",
        "10s",
        "auto",
        "hidden",
        "\"\"",
        "'a b'",
        "1e400",
        "-0.0",
        "!tag x",
        "s.yaml",
        ".",
        "none.yaml",
        "~",
        "0x1F",
        "99999999999999999999",
    ])
    .prop_map(str::to_owned)
}

/// Flow YAML of any shape.
fn yaml() -> impl Strategy<Value = String> {
    scalar().prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec((key(), inner.clone()), 0..6).prop_map(|entries| {
                let entries: Vec<String> =
                    entries.into_iter().map(|(key, value)| format!("'{key}': {value}")).collect();
                format!("{{{}}}", entries.join(", "))
            }),
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
        ]
    })
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(key(), 0..5).prop_map(|keys| keys.join("."))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_makes_resolving_panic(whole in yaml(), sets in prop::collection::vec((path(), yaml()), 0..4), raw in ".{0,30}") {
        let set: Vec<String> = sets.iter().map(|(path, value)| format!("{path}={value}")).chain([raw.clone()]).collect();
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let env = [("CCDNI__TRAIN", raw.as_str())];
        let folder = Folder::new(&[("s.yaml", &whole), ("base.yaml", BASE)]);
        for (name, set, env) in [("s.yaml", &set[..], &env[..]), ("base.yaml", &set[..set.len() - 1], &[])] {
            // Whatever comes of it, it comes as a value, and every problem can be printed.
            match folder.resolve(name, set, env) {
                Ok(resolved) => {
                    prop_assert_eq!(resolved.hash.len(), 12);
                    let again = Folder::new(&[("spec.yaml", &resolved.to_yaml())]).resolve("spec.yaml", &[], &[]);
                    prop_assert_eq!(again.unwrap().hash, resolved.hash);
                }
                Err(error) => {
                    prop_assert!(!error.to_string().is_empty());
                    prop_assert_eq!(error.exit_code(), 2);
                }
            }
        }
    }
}
