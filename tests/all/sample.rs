//! `ccdni sample`: a trained network answers from its file as it did when training ended.

use crate::lab::Lab;

fn trained() -> (Lab, String) {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml", "--set", "train.epochs=2", "--seeds", "1,2"]).exits(0);
    let run = lab.run().0.strip_prefix(lab.dir.path()).unwrap().display().to_string();
    (lab, run)
}

#[test]
fn a_network_answers_from_its_file_as_it_did_at_the_end() {
    let (lab, run) = trained();
    for seed in [1, 2] {
        let decoder = format!("{run}/seeds/{seed}/decoder.safetensors");
        let said = lab.ccdni(&["sample", "--decoder", &decoder, "--out", "lines.npy"]).exits(0);
        assert!(said.contains("cue -3") && said.contains("(8.66, 5.00)"), "{said}");

        // (seeds, patterns, time, 2) in f32: this seed's part of the run's own array.
        let all = std::fs::read(lab.path(&format!("{run}/predictions.npy"))).unwrap();
        let one = std::fs::read(lab.path("lines.npy")).unwrap();
        let size = 7 * 10 * 2 * 4;
        let part = &all[all.len() - size * (3 - seed)..][..size];
        assert_eq!(&one[one.len() - size..], part, "seed {seed}");
    }
    lab.ccdni(&["sample", "--decoder", &format!("{run}/decoder.safetensors")]).exits(0);
}

#[test]
fn a_network_answers_after_the_run_that_it_began_from_is_gone() {
    let (lab, run) = trained();
    let from = format!("train.init_from={run}");
    lab.ccdni(&["run", "spec.yaml", "--set", "train.epochs=1", "--set", &from, "--outputs", "second"]).exits(0);
    std::fs::rename(lab.path("outputs"), lab.path("elsewhere")).unwrap();
    let second = std::fs::read_dir(lab.path("second")).unwrap().next().unwrap().unwrap().path();
    let decoder = second.join("decoder.safetensors").display().to_string();
    assert!(lab.ccdni(&["sample", "--decoder", &decoder]).exits(0).contains("cue -3"));
}

#[test]
fn what_is_no_trained_network_is_named() {
    let (lab, run) = trained();
    let said = lab.ccdni(&["sample", "--decoder", "nowhere.safetensors"]).exits(2);
    assert!(said.contains("nowhere.safetensors") && said.contains("ccdni list"), "{said}");

    std::fs::create_dir_all(lab.path("far/from/home")).unwrap();
    lab.write("far/from/home/decoder.safetensors", "not weights");
    let said = lab.ccdni(&["sample", "--decoder", "far/from/home/decoder.safetensors"]).exits(2);
    assert!(said.contains("spec.yaml"), "{said}");

    let inside = format!("{run}/broken.safetensors");
    lab.write(&inside, "not weights");
    let said = lab.ccdni(&["sample", "--decoder", &inside]).exits(2);
    assert!(said.contains("broken.safetensors") && said.contains("safetensors"), "{said}");
    assert!(!lab.path("lines.npy").exists());

    let decoder = format!("{run}/decoder.safetensors");
    let said = lab.ccdni(&["sample", "--decoder", &decoder, "--backbone", "random"]).exits(2);
    assert!(said.contains("`--backbone`") && said.contains("--image FILE"), "{said}");
    let said = lab.ccdni(&["sample", "--decoder", &decoder, "--out", "nowhere/lines.npy"]).exits(2);
    assert!(said.contains("--out") && said.contains("nowhere") && !said.contains("cue"), "{said}");
}
