//! How a spec's layers become one, where its values came from, what is refused, and the hash that names it.

use ccdni::plugins::Catalogue;
use ccdni::spec::Bptt;
use serde_json::json;

use crate::spec_support::{BASE, Folder, base, problems};

fn hash(set: &[&str]) -> String {
    base(set).unwrap_or_else(|error| panic!("{set:?}: {error}")).hash
}

#[test]
fn layers_go_from_defaults_over_files_and_variables_to_flags() {
    let folder = Folder::new(&[
        ("base/a.yaml", "train: {epochs: 1, batch_size: 1, bptt: 1, feedback_every: null}\nname: a\nnotes: a"),
        ("base/b.yaml", "extends: ../root.yaml\ntrain: {epochs: 2, batch_size: 2}\nname: b"),
        ("root.yaml", BASE),
        ("s.yaml", "extends: [base/a.yaml, base/b.yaml]\ntrain: {batch_size: 3, optimizer: {lr: 0.5}}"),
    ]);
    let env =
        [("CCDNI__TRAIN__OPTIMIZER__LR", "0.25"), ("CCDNI__TRAIN__KEEP", "best"), ("CCDNI_GOLDEN", "x"), ("PATH", "")];
    let resolved = folder.resolve("s.yaml", &["train.keep=last", "train.bptt=4", "train.bptt=5"], &env).unwrap();
    let train = &resolved.spec.train;
    assert_eq!((train.epochs, train.batch_size, train.bptt.as_ref()), (2, 3, Some(&Bptt::Steps(5))));
    assert_eq!(train.optimizer.keys["lr"], 0.25);
    assert_eq!(train.keep, ccdni::spec::Keep::Last);
    assert_eq!((resolved.spec.name.as_deref(), resolved.spec.notes.as_deref()), (Some("b"), Some("a")));
}

#[test]
fn keys_for_people_hold_anchors_and_are_not_hashed() {
    let folder = Folder::new(&[
        ("root.yaml", BASE),
        ("plain.yaml", "extends: root.yaml\ntrain: {optimizer: {kind: adam, lr: 0.5}}"),
        ("s.yaml", "x-rates: &fast {kind: adam, lr: 0.5}\nextends: root.yaml\ntrain:\n  optimizer: {<<: *fast}\n"),
        ("deep.yaml", "extends: root.yaml\ntrain: {x-rates: 1}"),
    ]);
    let resolve = |name: &str| folder.resolve(name, &[], &[]);
    assert_eq!(resolve("s.yaml").unwrap().hash, resolve("plain.yaml").unwrap().hash);
    assert!(resolve("deep.yaml").is_err(), "they stand at the top alone");
}

#[test]
fn paths_may_begin_at_home() {
    let home = std::env::home_dir().unwrap();
    let folder = Folder::new(&[("s.yaml", "extends: ~/no-such-spec-in-this-home.yaml")]);
    let error = folder.resolve("s.yaml", &[], &[]).unwrap_err().to_string();
    assert!(error.contains(&home.join("no-such-spec-in-this-home.yaml").display().to_string()), "{error}");
}

#[test]
fn two_letters_swapped_are_one_slip() {
    for (key, meant) in [("train.btpp=5", "bptt"), ("train.epohcs=5", "epochs"), ("train.optimizer.kind=adma", "adam")]
    {
        let error = base(&[key]).unwrap_err().to_string();
        assert!(error.contains(&format!("did you mean `{meant}`?")), "{key}: {error}");
    }
}

#[test]
fn every_value_knows_who_said_it() {
    let folder = Folder::new(&[
        ("root.yaml", BASE),
        ("s.yaml", "# a comment\nextends: root.yaml\nmodel:\n  layers:\n    0: {dni: {scale: 0.5}}\n"),
    ]);
    let env = [("CCDNI__TRAIN__BPTT", "2")];
    let resolved = folder.resolve("s.yaml", &["train.optimizer={kind: sgd, lr: 1}"], &env).unwrap();
    let place = |key: &str| {
        let found = resolved.origins.iter().find(|(said, _)| said == key).map(|(_, place)| place.clone());
        found.map(|place| place.replace(&folder.path("").display().to_string(), ""))
    };
    assert_eq!(place("model.layers.0.dni.scale").as_deref(), Some("s.yaml:5:15"));
    assert_eq!(place("model.layers.0.cell").as_deref(), Some("root.yaml:2:19"));
    assert_eq!(place("train.epochs").as_deref(), Some("root.yaml:3:9"));
    assert_eq!(place("train.bptt").as_deref(), Some("CCDNI__TRAIN__BPTT"));
    assert_eq!(place("train.optimizer.lr").as_deref(), Some("--set train.optimizer={kind: sgd, lr: 1}"));
    assert_eq!(place("train.optimizer.momentum"), None, "a default is said by nobody");
}

#[test]
fn values_that_are_the_default_have_no_origin() {
    let set = ["train.optimizer={kind: adam, lr: 1.0e-3, eps: 1}", "train.keep=last", "seeds=[1]", "train.bptt=2"];
    let said: Vec<String> = base(&set).unwrap().origins.into_iter().map(|(key, _)| key).collect();
    for (key, expected) in [
        ("train.optimizer.kind", false),
        ("train.optimizer.lr", false),
        ("train.optimizer.eps", true),
        ("train.keep", false),
        ("seeds", false),
        ("train.bptt", true),
        ("task.kind", true),
    ] {
        assert_eq!(said.iter().any(|said| said == key), expected, "{key}: {said:?}");
    }
}

#[test]
fn null_takes_back_what_weaker_layers_said() {
    assert_eq!(hash(&["train.bptt=3", "train.bptt=null"]), hash(&[]));
    assert_eq!(hash(&["train.optimizer.lr=3", "train.optimizer=null"]), hash(&[]));
    assert_eq!(hash(&["train.optimizer.kind=sgd", "train.optimizer.kind=null"]), hash(&[]));
    assert!(base(&["model.layers.0.dni=null"]).unwrap().spec.model.layers[0].dni.is_none());
    assert_eq!(problems(base(&["train.epochs=null"]))[0].key, "train.epochs");
}

#[test]
fn another_kind_drops_the_siblings_and_the_same_kind_keeps_them() {
    let sgd = base(&["train.optimizer.eps=1", "train.optimizer.kind=sgd"]).unwrap();
    let expected = json!({"kind": "sgd", "lr": 1e-3, "weight_decay": 0.0, "momentum": 0.9});
    assert_eq!(json!(sgd.spec.train.optimizer), expected);
    let adam = base(&["train.optimizer.eps=1", "train.optimizer.kind=adam"]).unwrap();
    assert_eq!(
        (adam.spec.train.optimizer.kind.as_str(), &adam.spec.train.optimizer.keys["eps"]),
        ("adam", &json!(1.0))
    );
}

#[test]
fn another_cell_drops_the_keys_of_the_old_one_alone() {
    let layer = |set: &[&str]| base(set).unwrap().spec.model.layers.remove(0);
    let leaky = layer(&["model.layers.0={force_forget: true, init: xavier}", "model.layers.0.cell=leaky"]);
    assert_eq!(leaky, layer(&["model.layers.0.init=xavier", "model.layers.0={cell: leaky, tau: 2}"]));
    assert_eq!((leaky.hidden, json!(leaky.keys)), (10, json!({"tau": 2.0})));
    assert!(leaky.dni.is_some(), "a synthesizer is no key of the cell");
    let kept = layer(&["model.layers.0.force_forget=true", "model.layers.0.cell=lstm"]);
    assert_eq!(kept.keys["force_forget"], true);
    let again = problems(base(&["model.layers.0.cell=gru", "model.layers.0.force_forget=true"]));
    assert_eq!(again[0].key, "model.layers.0.force_forget", "set after the cell, it is an error");
}

#[test]
fn variables_have_no_order() {
    let folder = Folder::new(&[("s.yaml", BASE)]);
    let mut env = vec![
        ("CCDNI__TRAIN__OPTIMIZER__ALPHA", "0.5"),
        ("CCDNI__TRAIN__OPTIMIZER__KIND", "rmsprop"),
        ("CCDNI__TRAIN__OPTIMIZER", "{lr: 0.25}"),
        ("CCDNI__TRAIN__OPTIMIZER__MOMENTUM", "0.125"),
    ];
    let first = folder.resolve("s.yaml", &[], &env).unwrap();
    let expected =
        json!({"kind": "rmsprop", "lr": 1e-3, "weight_decay": 0.0, "alpha": 0.5, "eps": 1e-10, "momentum": 0.125});
    assert_eq!(
        json!(first.spec.train.optimizer),
        expected,
        "a kind drops what the weaker table said, not what stands beside it"
    );
    env.reverse();
    assert_eq!(folder.resolve("s.yaml", &[], &env).unwrap().hash, first.hash);
    let cell = [("CCDNI__MODEL__LAYERS__0__TAU", "4"), ("CCDNI__MODEL__LAYERS__0__CELL", "leaky")];
    assert_eq!(folder.resolve("s.yaml", &[], &cell).unwrap().spec.model.layers[0].keys["tau"], 4.0);
}

#[test]
fn the_help_for_a_key_names_the_default_of_its_own_form() {
    for (optimizer, default) in [("adam", "1e-9"), ("rmsprop", "1e-10"), ("adadelta", "1e-6")] {
        let found = problems(base(&[&format!("train.optimizer={{kind: {optimizer}, eps: -1}}")]));
        let help = found[0].help.as_deref().unwrap();
        assert!(help.contains(&format!("`{default}`")), "{optimizer}: {help}");
    }
}

#[test]
fn items_of_lists_are_reached_by_number_from_every_layer() {
    let by_flag = base(&["model.layers.0.dni.hidden.0=30"]).unwrap();
    assert_eq!(by_flag.spec.model.layers[0].dni.as_ref().unwrap().keys["hidden"], serde_json::json!([30]));
    let folder =
        Folder::new(&[("r.yaml", BASE), ("s.yaml", "extends: r.yaml\nmodel: {layers: {0: {dni: {hidden: {0: 30}}}}}")]);
    assert_eq!(folder.resolve("s.yaml", &[], &[]).unwrap().hash, by_flag.hash);
    let by_variable = folder.resolve("r.yaml", &[], &[("CCDNI__MODEL__LAYERS__0__DNI__HIDDEN__0", "30")]);
    assert_eq!(by_variable.unwrap().hash, by_flag.hash);
    let beyond = problems(base(&["model.layers.1.hidden=3"]));
    assert_eq!(
        (beyond[0].key.as_str(), beyond[0].origin.as_deref()),
        ("model.layers.1", Some("--set model.layers.1.hidden=3"))
    );
    assert!(beyond[0].message.contains("beyond the end"));
}

#[test]
fn a_table_that_is_not_there_is_made() {
    let made = base(&["model.layers.0.dni=null", "model.layers.0.dni.hidden=[20]"]).unwrap();
    assert_eq!(made.hash, hash(&[]));
    assert!(base(&["record.cosine=true"]).unwrap().spec.record.unwrap().cosine);
}

#[test]
fn files_that_extend_one_another_in_a_circle_are_refused() {
    let folder = Folder::new(&[("a.yaml", "extends: b.yaml"), ("b.yaml", "x: 1\nextends: ./a.yaml")]);
    let found = problems(folder.resolve("a.yaml", &[], &[]));
    assert!(found[0].message.contains("circle"), "{found:?}");
    assert!(found[0].origin.as_ref().unwrap().ends_with("b.yaml:2:1"), "{found:?}");
    // A file may be reached twice, as long as it does not reach itself.
    let diamond = Folder::new(&[
        ("root.yaml", BASE),
        ("l.yaml", "extends: root.yaml"),
        ("r.yaml", "extends: root.yaml"),
        ("s.yaml", "extends: [l.yaml, r.yaml]"),
    ]);
    assert_eq!(diamond.resolve("s.yaml", &[], &[]).unwrap().hash, hash(&[]));
}

#[test]
fn all_problems_are_reported_at_once_each_with_its_place() {
    let folder = Folder::new(&[(
        "s.yaml",
        "task: {kind: digits, nose: 1}\nmodel:\n  layers:\n    - {cell: gru, hidden: 0, force_forget: true}\n    - cell: lstmm\n\
         train:\n  epochs: five\n  batch_size: 5.0\n  bptt: 120%\n  feedback_every: 2\nseeds: [1, 1]\n",
    )]);
    let found = problems(folder.resolve("s.yaml", &["record.cosine=true", "train.keep=bset"], &[]));
    let folder = folder.path("").display().to_string();
    let lines: Vec<String> = found
        .iter()
        .map(|p| format!("{} {}", p.key, p.origin.clone().unwrap_or_default().replace(&folder, "")))
        .collect();
    for expected in [
        "task.nose s.yaml:1:22",
        "model.layers.0.hidden s.yaml:4:19",
        "model.layers.0.force_forget s.yaml:4:30",
        "model.layers.1.cell s.yaml:5:7",
        "model.layers.1.hidden s.yaml:5:7",
        "train.epochs s.yaml:7:3",
        "train.batch_size s.yaml:8:3",
        "train.bptt s.yaml:9:3",
        "train.feedback_every s.yaml:10:3",
        "train.keep --set train.keep=bset",
        "record.cosine --set record.cosine=true",
        "seeds s.yaml:11:1",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected} is not among {lines:#?}");
    }
    assert_eq!(lines.len(), 12, "what rests on a broken key is not judged: {lines:#?}");
    assert!(found.iter().all(|problem| problem.help.is_some()), "{found:#?}");
    let help = |key: &str| found.iter().find(|p| p.key == key).and_then(|p| p.help.clone()).unwrap();
    assert!(help("task.nose").contains("`noise`") && help("model.layers.1.cell").contains("`lstm`"));
    assert!(help("train.batch_size").contains("`5`"));
}

#[test]
fn a_broken_key_hides_only_what_rests_on_it() {
    let layer = |keys: &str| {
        let found = problems(base(&["model.layers.0.hidden=50", &format!("model.layers.0={{{keys}}}")]));
        let keys = found.iter().map(|problem| problem.key.replace("model.layers.0.", ""));
        keys.collect::<Vec<_>>()
    };
    let both = "force_forget: true, forget_bias: 1";
    assert_eq!(layer(&format!("{both}, dni: {{scale: far}}")), ["dni.scale", "forget_bias"]);
    assert_eq!(layer("init: far, dni: {learn: false, init_last: zero}"), ["init", "dni.init_last"]);
    // The width of the state is not known.
    assert_eq!(layer("hidden: 0, dni: {fibres: 60}").len(), 1);
    assert_eq!(layer("forget_bias: far, dni: {fibres: 200}"), ["forget_bias"]);
    assert_eq!(layer(&format!("{both}, dni: {{fibres: 60}}")), ["forget_bias"]);
}

#[test]
fn an_empty_spec_names_all_that_has_no_default() {
    let found = problems(Folder::new(&[("s.yaml", "")]).resolve("s.yaml", &[], &[]));
    let keys: Vec<&str> = found.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["train.epochs", "train.batch_size", "task.kind", "model.layers"]);
}

#[test]
fn different_ways_to_say_one_thing_have_one_hash() {
    let plain = hash(&[]);
    for set in [
        "train.bptt=28",
        "train.bptt=1000",
        "train.bptt=100%",
        "model.layers.0.dropout=0.5",
        "model.layers.0.dni.fibres=20",
        "model.layers.0.dni.kind=mlp",
        "model.layers.0.dni.init_last=zero",
        "model.layers.0.dni.frozen_in_norm=accumulate",
        "model.layers.0.dni.share=alone",
        "model.layers.0.dni.scale=1e-1",
        "model.layers.0.init_scale=1",
        "record={}",
        "task.noise=0",
        "seeds=1..10",
        "name=other",
        "run.threads=4",
        "run.device=cpu",
    ] {
        assert_eq!(hash(&[set]), plain, "{set}");
    }
    assert_eq!(hash(&["train.bptt=20%"]), hash(&["train.bptt=6"]));
    assert_eq!(hash(&["record={what: [true, hidden]}"]), hash(&["record={what: [hidden, 'true']}"]));
    let two = |names: [&str; 2]| {
        let layer = |name: &str| format!("{{cell: gru, hidden: 4, dni: {{share: {name}}}}}");
        hash(&[&format!("model.layers=[{}, {}]", layer(names[0]), layer(names[1]))])
    };
    assert_eq!(two(["a", "a"]), two(["b", "b"]));
    assert_eq!(two(["a", "b"]), two(["null", "null"]));
    assert_ne!(two(["a", "a"]), two(["a", "b"]));
}

#[test]
fn a_key_of_another_cell_is_taken_at_its_default_alone() {
    // Specs that were written before cells had keys of their own have this one in every layer.
    let gru = |rest: &str| base(&[&format!("model.layers=[{{cell: gru, hidden: 4{rest}}}]")]);
    let plain = gru("").unwrap();
    assert_eq!(gru(", force_forget: false, forget_bias: 0").unwrap().spec, plain.spec);
    assert!(plain.canonical.contains(r#""force_forget":false"#), "{}", plain.canonical);
    for rest in [", force_forget: true", ", forget_bias: 1"] {
        let found = problems(gru(rest));
        assert!(found.len() == 1 && found[0].message.contains("only `lstm`"), "{found:?}");
    }
    let both = problems(base(&["model.layers.0.force_forget=true", "model.layers.0.forget_bias=1"]));
    assert_eq!(both.iter().map(|p| p.key.as_str()).collect::<Vec<_>>(), ["model.layers.0.forget_bias"]);
}

#[test]
fn whatever_could_change_a_number_changes_the_hash() {
    let mut hashes = vec![hash(&[])];
    for set in [
        "train.bptt=27",
        "train.epochs=11",
        "train.keep=best",
        "train.optimizer.lr=0.01",
        "train.clip={norm: 1}",
        "train.clip={norm: 1, scope: separate}",
        "train.activity_l2=0.1",
        "model.input_dropout=0.1",
        "model.layers.0.init=xavier",
        "model.layers.0.dni.context=target",
        "model.layers.0.dni.fibres=19",
        "model.layers.0.dni.learn=false",
        "model.layers.0.dni={hidden: [20], learn: false, frozen_in_norm: accumulate}",
        "model.layers.0.dni=null",
        "task.noise=0.1",
        "record={what: [hidden]}",
        "record={what: [hidden], every: 2}",
        "record={certainty: true}",
    ] {
        hashes.push(hash(&[set]));
    }
    let all = hashes.len();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), all);
}

#[test]
fn a_resolved_spec_runs_again_and_hashes_to_the_same() {
    for set in [
        vec![],
        vec!["seeds=[3, 5..7]", "name='it''s: \"odd\" # name'", "run.checkpoint_every={epochs: 2}", "run.jobs=2"],
        vec!["train.bptt=20%", "train.optimizer={kind: adadelta}", "train.schedule={kind: reduce_on_plateau}"],
        vec![
            "model.layers.0.dni={learn: false, frozen_in_norm: accumulate, scale: 1e-20}",
            "train.early_stopping.patience=3",
        ],
        vec!["record={what: [true, weights], cosine: true, every: 7}", "notes=|\n  a\n  b"],
    ] {
        let first = base(&set).unwrap();
        let again = Folder::new(&[("spec.yaml", &first.to_yaml())]).resolve("spec.yaml", &[], &[]).unwrap();
        assert_eq!(again.hash, first.hash, "{}", first.to_yaml());
        assert_eq!(again.spec, first.spec);
        assert_eq!(again.to_yaml(), first.to_yaml());
    }
    assert!(!base(&[]).unwrap().to_yaml().contains("frozen_in_norm"));
}

#[test]
fn a_resolved_spec_has_numbers_that_every_yaml_reader_takes_for_numbers() {
    let set = ["train.optimizer.eps=2.5e-7", "train.activity_l2=1e-30", "model.layers.0.init_scale=1e20"];
    let text = base(&set).unwrap().to_yaml();
    for number in ["eps: 2.5e-7\n", "activity_l2: 1.0e-30\n", "init_scale: 1.0e+20\n"] {
        assert!(text.contains(number), "{number}: {text}");
    }
    // Words are left as they were written.
    let notes = base(&["notes=\"one\\nlr: 1e-9\"", set[1]]).unwrap();
    let again = Folder::new(&[("spec.yaml", &notes.to_yaml())]).resolve("spec.yaml", &[], &[]).unwrap();
    assert_eq!(again.spec, notes.spec);
}

#[test]
fn a_run_to_start_from_is_hashed_by_what_it_is_not_where() {
    let first = base(&["train.epochs=3"]).unwrap();
    let folder =
        Folder::new(&[("one/spec.yaml", &first.to_yaml()), ("two/spec.yaml", &first.to_yaml()), ("one/seeds/4/x", "")]);
    let from = |text: String| base(&[&format!("train.init_from={text}")]);
    let path = |name: &str| folder.path(name).display().to_string();
    let one = from(path("one")).unwrap();
    assert_eq!(one.hash, from(path("two")).unwrap().hash);
    assert!(
        one.canonical.contains(&format!(r#""init_from":{{"run":"{}","seed":null}}"#, first.hash)),
        "{}",
        one.canonical
    );
    assert!(one.to_yaml().contains(&path("one")), "the path stays, so that the spec can be run again");
    assert_ne!(one.hash, hash(&[]));
    assert_ne!(from(format!("{{run: {}, seed: 4}}", path("one"))).unwrap().hash, one.hash);
    for (text, key) in [
        (path("none"), "train.init_from"),
        (path(""), "train.init_from"),
        (format!("{{run: {}, seed: 5}}", path("one")), "train.init_from.seed"),
        (format!("{{run: {}, seed: 5}}", path("none")), "train.init_from.run"),
    ] {
        let found = problems(from(text));
        assert!(found.len() == 1 && found[0].key == key && found[0].help.is_some(), "{found:?}");
    }
}

#[test]
fn combinations_that_cannot_work_are_refused() {
    let words = ["task={kind: words}", "model.embed.size=8"];
    for (set, key) in [
        (vec!["model.layers.0.cell=gru", "model.layers.0.force_forget=true"], "model.layers.0.force_forget"),
        (vec!["model.layers.0.dni.fibres=21"], "model.layers.0.dni.fibres"),
        (vec!["model.layers.0.cell=gru", "model.layers.0.dni.fibres=11"], "model.layers.0.dni.fibres"),
        (vec!["model.layers.0.dni={learn: false, init_last: zero}"], "model.layers.0.dni.init_last"),
        (vec!["model.layers.0.dni={learn: false, freeze_at: 2}"], "model.layers.0.dni.freeze_at"),
        (vec!["model.layers.0.dni.lesion_at=11"], "model.layers.0.dni.lesion_at"),
        (vec!["model.layers.0.dni.freeze_at=11"], "model.layers.0.dni.freeze_at"),
        (vec!["model.layers.0.dni={freeze_at: 5, lesion_at: 5}"], "model.layers.0.dni.freeze_at"),
        (
            vec!["model.layers=[{cell: gru, hidden: 4, dni: {share: a}}, {cell: lstm, hidden: 4, dni: {share: a}}]"],
            "model.layers.1.dni.share",
        ),
        (
            vec![
                "model.layers=[{cell: gru, hidden: 8, dni: {share: a}}, {cell: lstm, hidden: 4, dni: {share: a, scale: 1}}]",
            ],
            "model.layers.1.dni.share",
        ),
        (vec!["train.feedback_every=2"], "train.feedback_every"),
        (vec!["train.bptt=0%"], "train.bptt"),
        (vec!["train.bptt=101%"], "train.bptt"),
        (vec!["train.schedule={kind: reduce_on_plateau, min_lr: 0.1}"], "train.schedule.min_lr"),
        (vec!["model.embed.size=4"], "model.embed"),
        (vec!["task={kind: words}"], "model.embed"),
        (vec![words[0], words[1], "train.bptt=20%"], "train.bptt"),
        (vec![words[0], words[1], "train.keep_hidden=true"], "train.keep_hidden"),
        (vec!["model.layers.0.dni=null", "record.what=[hidden, synthetic]"], "record.what.1"),
        (vec!["model.layers.0.dni=null", "record.cosine=true"], "record.cosine"),
        (vec!["task.steps=7"], "task.steps"),
    ] {
        let found = problems(base(&set));
        let keys: Vec<&str> = found.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, [key], "{set:?}: {found:#?}");
        assert!(found[0].help.is_some() && found[0].origin.is_some(), "{found:?}");
    }
    assert!(base(&[words[0], words[1], "train.feedback_every=2"]).is_ok());
    let equal = "model.layers=[{cell: gru, hidden: 8, dni: {share: a}}, {cell: lstm, hidden: 4, dni: {share: a, init_last: zero}}]";
    assert!(base(&[equal]).is_ok(), "states of equal width, tables that say the same");
}

#[test]
fn no_optimizer_divides_a_zero_gradient_by_zero() {
    for kind in ccdni::train::optimizer::built_in().kinds().into_iter().filter(|kind| *kind != "sgd") {
        let found = problems(base(&[&format!("train.optimizer={{kind: {kind}, eps: 0}}")]));
        assert!(found.len() == 1 && found[0].key == "train.optimizer.eps", "{kind}: {found:#?}");
    }
}
