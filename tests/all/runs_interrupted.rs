//! Runs that are killed, interrupted or shared, seen from outside: nothing is lost, nothing is trained twice, and the
//! bits are those of a run that was left alone.

use std::time::Duration;

use crate::lab::{Chance, Lab, Run};

/// The run that was left alone.
fn undisturbed(seeds: &str) -> (Lab, Run) {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml", "--seeds", seeds, "--jobs", "1"]).exits(0);
    let run = lab.run();
    (lab, run)
}

/// Kills again and again at random moments, resumes, and compares with the run that was left alone.
fn survives(seeds: &str, jobs: &str, kill: fn(&crate::lab::Running)) {
    let (_keep, expected) = undisturbed(seeds);
    let mut chance = Chance::new();
    let lab = Lab::new();
    let arguments = ["run", "spec.yaml", "--verbose", "--seeds", seeds, "--jobs", jobs];
    for _ in 0..4 {
        let mut running = lab.start(&arguments);
        let wanted = 1 + chance.below(5) as usize;
        if !running.saw_epochs(wanted) {
            break;
        }
        std::thread::sleep(Duration::from_millis(chance.below(40)));
        let run = lab.run();
        let reported: Vec<(u64, usize)> = (1..=4).map(|seed| (seed, running.last_epoch(seed))).collect();
        let begun: Vec<usize> = reported.iter().map(|(seed, _)| run.began_at(*seed).len()).collect();
        kill(&running);
        running.end();
        run.wait_until_free();

        // What was reported is not trained again: the next worker begins behind it.
        let mut resumed = lab.start(&arguments);
        resumed.saw_epochs(1);
        for ((seed, epoch), begun) in reported.into_iter().zip(begun) {
            if let Some(&(from, _)) = run.began_at(seed).get(begun) {
                assert!(from > epoch, "seed {seed} had reported epoch {epoch}; log:\n{}", run.log());
            }
        }
        kill(&resumed);
        resumed.end();
        run.wait_until_free();
    }
    lab.ccdni(&arguments).exits(0);
    lab.run().assert_equals(&expected);
    assert!(lab.run().began_at(1).len() > 1, "nothing was interrupted:\n{}", lab.run().log());
}

#[test]
fn killing_the_group_loses_nothing_with_one_job() {
    survives("1", "1", |running| running.signal_group("KILL"));
}

#[test]
fn killing_the_group_loses_nothing_with_two_jobs() {
    survives("1..3", "2", |running| running.signal_group("KILL"));
}

#[test]
fn killing_the_parent_alone_ends_its_workers_and_loses_nothing_with_one_job() {
    survives("1", "1", |running| running.signal("KILL"));
}

#[test]
fn killing_the_parent_alone_ends_its_workers_and_loses_nothing_with_two_jobs() {
    survives("1..3", "2", |running| running.signal("KILL"));
}

#[test]
fn ctrl_c_stops_behind_a_checkpoint_and_says_how_to_go_on() {
    let (_keep, expected) = undisturbed("1,2");
    // To the program alone, and to its group as a terminal does.
    let ways: [fn(&crate::lab::Running); 2] = [|running| running.signal("INT"), |running| running.signal_group("INT")];
    for interrupt in ways {
        let lab = Lab::new();
        let mut running = lab.start(&["run", "spec.yaml", "--seeds", "1,2", "--jobs", "2", "--force"]);
        assert!(running.saw_epochs(2));
        interrupt(&running);
        let said = running.end().exits(130);
        let line = said.lines().find(|line| line.contains(" run spec.yaml --seeds 1,2 --jobs 2")).expect(&said);
        assert!(!line.contains("--force"), "{line}");
        let run = lab.run();
        assert_eq!(std::fs::read(run.0.join("seeds/1/lock")).unwrap(), b"");

        let resumed =
            std::process::Command::new("sh").arg("-c").arg(line).current_dir(lab.dir.path()).output().unwrap();
        assert!(resumed.status.success(), "{resumed:?}");
        run.assert_equals(&expected);
        assert_eq!(run.times_done(1), 1);
    }
}

#[test]
fn nohup_outlives_its_terminal() {
    let lab = Lab::new();
    let program = lab.command(&[]).get_program().to_owned();
    // The shell ignores the signal, and so does what it starts; by itself the program would stop.
    let script = "trap '' HUP; \"$0\" run spec.yaml 2> said & while ! grep -q 'epoch 1/' said; do sleep 0.02; done; \
                  kill -s HUP $!; wait $!";
    let ended =
        std::process::Command::new("sh").arg("-c").arg(script).arg(program).current_dir(lab.dir.path()).output();
    assert!(ended.unwrap().status.success());
    assert_eq!(lab.run().began_at(1), [(1, 1)]);
}

#[test]
fn a_second_ctrl_c_needs_no_patience_and_loses_nothing() {
    let lab = Lab::new();
    let mut running = lab.start(&["run", "spec.yaml"]);
    assert!(running.saw_epochs(2));
    running.signal_group("INT");
    running.signal_group("INT");
    running.end().exits(130);
    lab.run().wait_until_free();
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    lab.run().assert_equals(&undisturbed("1").1);
}

#[test]
fn an_interrupted_forced_run_goes_on_as_the_new_one() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    let run = lab.run();
    let before = run.results();
    let mut running = lab.start(&["run", "spec.yaml", "--force"]);
    assert!(running.saw_epochs(3));
    running.signal_group("KILL");
    running.end();
    run.wait_until_free();
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    let began = run.began_at(1);
    assert!(began.len() == 3 && began[2].0 > 3, "{began:?}");
    assert!(!run.0.join("seeds/1.old-2").exists());
    assert!(run.results() == before);
}

#[test]
fn force_does_not_go_on_with_a_unit_that_another_holds() {
    let lab = Lab::new();
    let mut first = lab.start(&["run", "spec.yaml"]);
    assert!(first.saw_epochs(1));
    first.signal_group("STOP");
    // It trains the seed that is free, and lets the other alone even where its holder has gone by then.
    let mut forced = lab.start(&["run", "spec.yaml", "--force", "--seeds", "1,2", "--jobs", "1"]);
    assert!(forced.saw_epochs(1));
    first.signal_group("KILL");
    first.end();
    let said = forced.end().exits(0);
    assert!(said.contains("others train the rest") && said.contains("seed 1 is held by process "), "{said}");
    let run = lab.run();
    assert_eq!((run.began_at(1).len(), run.began_at(2).len()), (1, 1), "{}", run.log());
    lab.ccdni(&["run", "spec.yaml", "--force", "--seeds", "1"]).exits(0);
    assert_eq!(run.began_at(1), [(1, 1), (1, 1)]);
    assert!(run.0.join("seeds/1.old-1").is_dir() && !run.0.join("seeds/2.old-1").exists());
}

#[test]
fn a_resume_on_another_processor_warns_and_keeps_the_note() {
    let lab = Lab::new();
    let mut running = lab.start(&["run", "spec.yaml"]);
    assert!(running.saw_epochs(1));
    running.signal("INT");
    running.end().exits(130);
    let run = lab.run();
    run.edit("seeds/1/unit.json", "\"instruction_set\": \"", "\"instruction_set\": \"strange+");
    let said = lab.ccdni(&["run", "spec.yaml"]).exits(0);
    assert!(said.contains("instruction set"), "{said}");
    assert!(run.json("seeds/1/unit.json")["notes"][0].as_str().unwrap().contains("strange"));
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let lab = Lab::new();
    let mut running = lab.start(&["run", "spec.yaml"]);
    assert!(running.saw_epochs(1));
    running.signal("INT");
    running.end().exits(130);
    let checkpoint = lab.run().0.join("seeds/1/checkpoint.safetensors");
    std::fs::write(&checkpoint, b"nonsense").unwrap();
    let said = lab.ccdni(&["run", "spec.yaml"]).exits(1);
    assert!(said.contains("checkpoint.safetensors") && said.contains("--force --seeds 1`"), "{said}");
    assert!(said.contains("1     failed") && !said.contains("run again"), "{said}");
    assert_eq!(lab.run().json("seeds/1/unit.json")["state"], "failed");
    lab.ccdni(&["run", "spec.yaml", "--force"]).exits(0);
}

#[test]
fn a_worker_that_was_killed_can_go_on() {
    let lab = Lab::new();
    let mut running = lab.start(&["run", "spec.yaml"]);
    assert!(running.saw_epochs(2));
    let run = lab.run();
    let worker = run.log().lines().find(|line| line.contains("trains from")).unwrap().to_string();
    let pid = worker.split(' ').nth(1).and_then(|who| who.rsplit(':').next()).unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "KILL", "--", &pid]).status().unwrap().success());
    let said = running.end().exits(1);
    assert!(
        said.contains("1     failed") && said.contains("signal 9") && said.contains("run again to go on"),
        "{said}"
    );
    assert_eq!(run.json("seeds/1/unit.json")["state"], "unfinished");
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    run.assert_equals(&undisturbed("1").1);
}

#[test]
fn of_two_programs_on_one_seed_one_trains_and_the_other_names_it() {
    let lab = Lab::new();
    let mut first = lab.start(&["run", "spec.yaml"]);
    assert!(first.saw_epochs(1));
    // Held still, so that it cannot finish before the second has looked.
    first.signal_group("STOP");
    let second = lab.ccdni(&["run", "spec.yaml"]);
    first.signal_group("CONT");
    let said = second.exits(1);
    assert!(said.contains("seed 1 is held by process "), "{said}");
    first.end().exits(0);
    let run = lab.run();
    assert_eq!((run.times_done(1), run.began_at(1).len()), (1, 1));
    run.assert_equals(&undisturbed("1").1);
}

#[test]
fn a_seed_is_trained_on_if_its_holder_ended_or_failed_meanwhile() {
    for fails in [false, true] {
        let lab = Lab::new();
        let mut first = lab.start(&["run", "spec.yaml"]);
        assert!(first.saw_epochs(1));
        let run = lab.run();
        first.hold(&run.0.join("seeds/1"));
        let mut second = lab.start(&["run", "spec.yaml", "--seeds", "1,2", "--jobs", "1"]);
        assert!(second.saw_epochs(1));
        second.signal_group("STOP");
        first.signal_group("KILL");
        first.end();
        std::fs::File::open(run.0.join("seeds/1/lock")).unwrap().lock_shared().unwrap();
        if fails {
            // Clocks of hosts differ.
            let failed = "\"state\": \"failed\", \"ended\": \"2999-01-01T00:00:00Z\"";
            run.edit("seeds/1/unit.json", "\"state\": \"unfinished\"", failed);
        }
        second.signal_group("CONT");
        second.end().exits(0);
        assert_eq!([1, 2].map(|seed| (run.times_done(seed), run.began_at(seed).len())), [(1, 2), (1, 1)]);
        run.assert_equals(&undisturbed("1,2").1);
    }
}

#[test]
fn a_worker_whose_claim_was_taken_over_writes_nothing_more() {
    let lab = Lab::new();
    let mut first = lab.start(&["run", "spec.yaml"]);
    assert!(first.saw_epochs(2));
    let unit = lab.run().0.join("seeds/1");
    first.hold(&unit);
    // As another machine would take it over.
    lab.run().edit("seeds/1/lock", "\"token\":", "\"token\": \"another\", \"was\":");
    lab.run().edit("seeds/1/lock", "\"host\":", "\"host\": \"elsewhere\", \"from\":");
    let files = || {
        let read = |name| std::fs::read(unit.join(name)).unwrap();
        [read("checkpoint.safetensors"), read("unit.json")]
    };
    let before = files();
    first.signal_group("CONT");
    assert!(first.end().exits(1).contains("elsewhere"));
    assert!(files() == before, "it wrote to a unit that is another's");
    assert_eq!(lab.run().times_done(1), 0);
}

#[test]
fn programs_share_the_seeds_of_one_directory() {
    let lab = Lab::new();
    let arguments = ["run", "spec.yaml", "--seeds", "1..4", "--jobs", "1"];
    let both = [lab.start(&arguments), lab.start(&arguments)];
    for ran in both.map(crate::lab::Running::end) {
        // One that found everything held or done trained nothing.
        if ran.code != Some(0) {
            assert!(ran.exits(1).contains("is held by process "));
        }
    }
    let run = lab.run();
    for seed in 1..=4 {
        assert_eq!((run.times_done(seed), run.began_at(seed)), (1, vec![(1, 1)]), "{}", run.log());
    }
    let said = lab.ccdni(&arguments).exits(0);
    assert!(said.contains("finished already"), "{said}");
    run.assert_equals(&undisturbed("1..4").1);
}

#[test]
fn many_programs_may_make_one_directory_at_the_same_time() {
    let lab = Lab::new();
    let all: Vec<_> = (0..4).map(|_| lab.start(&["run", "spec.yaml", "--set", "train.epochs=1"])).collect();
    let codes: Vec<_> = all.into_iter().map(|running| running.end().code).collect();
    assert!(codes.contains(&Some(0)) && codes.iter().all(|code| matches!(code, Some(0 | 1))), "{codes:?}");
    assert_eq!(lab.run().times_done(1), 1);
}
