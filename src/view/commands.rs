//! The commands that make again what a page shows: what each does, and its text.

use std::path::Path;

use super::summary::Summary;
use crate::records::train_command;
use crate::shell::quote;

/// What a command does, and the command.
pub type Command = [String; 2];

/// `--outputs`, where it is not what it is by default.
pub fn outputs_flag(outputs: &Path) -> String {
    match outputs == Path::new("outputs") {
        true => String::new(),
        false => format!(" --outputs {}", quote(&outputs.to_string_lossy())),
    }
}

fn with_outputs<const N: usize>(outputs: &Path, commands: [(&str, String); N]) -> Vec<Command> {
    let flag = outputs_flag(outputs);
    commands.map(|(what, command)| [what.to_owned(), format!("ccdni {command}{flag}")]).into()
}

/// Those of all runs.
pub fn of_all(outputs: &Path) -> Vec<Command> {
    with_outputs(outputs, [("Print this list", "list".into()), ("Show these pages", "view".into())])
}

/// Those of a run; `is_drawn` if its network has drawn something, `is_recorded` if it has recordings.
pub fn of_run(run: &Path, summary: &Summary, outputs: &Path, [is_drawn, is_recorded]: [bool; 2]) -> Vec<Command> {
    let hash = &summary.run;
    let seeds: Vec<String> = summary.seeds.iter().map(|seed| seed.seed.to_string()).collect();
    let train = format!("{} --seeds {}", train_command(run), seeds.join(","));
    let mut commands = vec![["Train its seeds, or what is missing of them".to_owned(), train]];
    commands.extend(with_outputs(
        outputs,
        [
            ("Watch it in a terminal", format!("watch {hash}")),
            ("Draw its learning curves", format!("plot {hash}")),
            ("Write its numbers as a table", format!("table {hash}")),
            ("Write it as one page", format!("report {hash}")),
            ("Print its spec, provenance and results", format!("show {hash}")),
        ],
    ));
    if is_drawn {
        let decoder = quote(&run.join("decoder.safetensors").to_string_lossy());
        commands.push(["Run its best network".to_owned(), format!("ccdni sample --decoder {decoder}")]);
    }
    if is_recorded {
        commands.extend(with_outputs(outputs, [("Measure its recordings", format!("analyse {hash}"))]));
    }
    commands
}

/// Those of a comparison.
pub fn of_comparison(runs: &[&str], outputs: &Path) -> Vec<Command> {
    let runs = runs.join(" ");
    let named = [("Draw this", "plot"), ("Print these statistics", "compare"), ("Write one page", "report")];
    with_outputs(outputs, named.map(|(what, command)| (what, format!("{command} {runs}"))))
}

/// Those of a file with a sweep.
pub fn of_sweep(file: &Path, outputs: &Path) -> Vec<Command> {
    let file = quote(&file.to_string_lossy());
    let named =
        [("Train what is missing", "sweep"), ("Print statistics and tests", "compare"), ("Write one page", "report")];
    with_outputs(outputs, named.map(|(what, command)| (what, format!("{command} {file}"))))
}
