//! Sweeps on a SLURM cluster: one job array, each task of which runs the same sweep.
//!
//! Tasks have no fixed work: each claims units, like any other sweep process, until none is left. A task replaces the batch
//! script's shell (`exec`), so signals to the script reach it: on `USR1`, sent some time before the limit, it writes
//! checkpoints and requeues itself; on `TERM`, from `scancel` or a preemption, it writes checkpoints and exits, and SLURM
//! decides whether to requeue it (`--requeue` allows it).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::run::claim::slurm_task;
use crate::run::manifest::VERSION;
use crate::shell::quote;
use crate::spec::LauncherBlock;

/// Subdirectory of the output directory for scripts and logs of arrays.
const FOLDER: &str = ".slurm";

/// Prefix of the line that identifies a script's sweep file, for `--status`.
const OF: &str = "# A job array that trains what is missing of ";

/// A job array to submit.
#[derive(Debug)]
pub struct Array<'a> {
    /// Resources to request.
    pub launcher: &'a LauncherBlock,
    /// The sweep's file, absolute.
    pub file: PathBuf,
    /// Tasks in the array.
    pub tasks: usize,
    /// Working directory of the tasks, to which paths in specs are relative.
    pub directory: PathBuf,
    /// Environment variables that affect the spec.
    pub variables: Vec<(String, String)>,
    /// Program and arguments of a task.
    pub command: Vec<String>,
}

impl Array<'_> {
    /// The batch script. Log paths are relative to the directory it is submitted from.
    pub fn script(&self) -> String {
        let LauncherBlock { partition, account, qos, time, memory, cpus, gpus, at_once, grace, sbatch, setup, .. } =
            self.launcher;
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        let plain = |letter: char| if letter.is_ascii_alphanumeric() || "_.-".contains(letter) { letter } else { '_' };
        let at_once = at_once.map_or_else(String::new, |count| format!("%{count}"));
        let mut options = vec![
            format!("--job-name={}", stem.chars().map(plain).collect::<String>()),
            format!("--array=0-{}{at_once}", self.tasks.max(1) - 1),
            "--output=%A_%a.log".into(),
            "--open-mode=append".into(),
            "--requeue".into(),
            format!("--signal=B:USR1@{grace}"),
            "--nodes=1".into(),
            "--ntasks=1".into(),
            format!("--cpus-per-task={cpus}"),
        ];
        let mut option =
            |name: &str, value: Option<String>| options.extend(value.map(|value| format!("--{name}={value}")));
        option("partition", partition.clone());
        option("account", account.clone());
        option("qos", qos.clone());
        option("time", time.as_ref().map(|time| time.0.clone()));
        option("mem", memory.clone());
        option("gres", gpus.map(|count| format!("gpu:{count}")));
        // In SLURM the last of repeated options counts.
        options.extend(sbatch.iter().cloned());

        let mut lines = vec!["#!/bin/bash".into(), self.mark()];
        lines.push(format!("# Written by ccdni {VERSION}. Logs go where it is submitted from."));
        lines.extend(options.iter().map(|option| format!("#SBATCH {option}")));
        lines.push("set -e".into());
        lines.push(format!("cd {}", quote(&self.directory.to_string_lossy())));
        lines.extend(self.variables.iter().map(|(name, value)| format!("export {name}={}", quote(value))));
        lines.extend(setup.iter().cloned());
        let words: Vec<String> = self.command.iter().map(|word| quote(word)).collect();
        // Replaces the shell, so that signals to the script reach the program.
        lines.push(format!("exec {}", words.join(" ")));
        lines.join("\n") + "\n"
    }

    /// Submits the array and stores the script beside the logs. Returns the job id.
    ///
    /// # Errors
    /// [`Error::Usage`] with the output of `sbatch`; no new files are then left. [`Error::Training`] if it was submitted but
    /// its id could not be parsed. [`Error::Io`].
    pub fn submit(&self, outputs: &Path) -> Result<String> {
        let folder = outputs.join(FOLDER);
        let before = [outputs.exists(), folder.exists()];
        std::fs::create_dir_all(&folder).map_err(Error::io("create the directory", &folder))?;
        let script = self.script();
        let printed = sbatch(&script, &folder).inspect_err(|_| {
            // Only directories that are empty and were created here.
            for (path, _) in
                [&folder, &outputs.to_path_buf()].into_iter().zip(before.iter().rev()).filter(|(_, before)| !**before)
            {
                let _ = std::fs::remove_dir(path);
            }
        })?;
        let job = job_number(&printed).ok_or_else(|| {
            Error::Training(format!(
                "the array was submitted, but `sbatch` printed no recognisable job id; `squeue --me` lists it, and \
                 `scancel` cancels it. It printed: {printed}"
            ))
        })?;
        write_atomically(&folder.join(format!("{job}.sh")), script.as_bytes())?;
        Ok(job)
    }

    fn mark(&self) -> String {
        mark(&self.file)
    }
}

/// The line of a script that identifies its sweep file.
fn mark(file: &Path) -> String {
    format!("{OF}{}", file.to_string_lossy().replace(['\n', '\r'], " "))
}

/// Job ids of the arrays submitted for a file (an absolute path), ascending.
pub fn arrays(outputs: &Path, file: &Path) -> Vec<u64> {
    let of = |path: PathBuf| -> Option<u64> {
        let job = path.file_name()?.to_str()?.strip_suffix(".sh")?.parse().ok()?;
        let script = std::fs::read_to_string(&path).ok()?;
        (script.lines().nth(1) == Some(mark(file).as_str())).then_some(job)
    };
    let entries = std::fs::read_dir(outputs.join(FOLDER)).into_iter().flatten().flatten();
    let mut jobs: Vec<u64> = entries.filter_map(|entry| of(entry.path())).collect();
    jobs.sort_unstable();
    jobs
}

/// The directory of scripts and logs.
pub fn folder(outputs: &Path) -> PathBuf {
    outputs.join(FOLDER)
}

/// Checks that SLURM is available.
///
/// # Errors
/// [`Error::Usage`].
pub fn find() -> Result<()> {
    let advice = "submit from a machine of a SLURM cluster, or train here with `--launcher local`";
    let refused = |what: String| Error::Usage(format!("the slurm launcher needs `sbatch`: {what}; {advice}"));
    output_of(Command::new("sbatch").arg("--version"), "").map(drop).map_err(refused)
}

/// Requeues the current task. SLURM then ends this process.
///
/// # Errors
/// [`Error::Training`] if that fails: the rest of the sweep has to be submitted again.
pub fn requeue() -> Result<()> {
    let refused = |what: String| Error::Training(format!("this task could not go back into the queue: {what}"));
    let job = slurm_task().ok_or_else(|| refused("SLURM_JOB_ID is not set".into()))?;
    output_of(Command::new("scontrol").args(["requeue", &job]), "").map(drop).map_err(refused)
}

/// Submits a script from `folder`.
fn sbatch(script: &str, folder: &Path) -> Result<String> {
    let refused = |what: String| Error::Usage(format!("nothing was submitted: {what}"));
    output_of(Command::new("sbatch").arg("--parsable").current_dir(folder), script).map_err(refused)
}

/// Parses the job id printed by `sbatch --parsable`: `12` or `12;cluster`, possibly after a login banner.
fn job_number(printed: &str) -> Option<String> {
    let number = |line: &str| {
        let line = line.trim();
        let (job, cluster) = line.split_once(';').unwrap_or((line, "-"));
        let is_number = !job.is_empty() && job.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = !cluster.is_empty() && !cluster.contains(char::is_whitespace);
        (is_number && is_name).then(|| job.to_owned())
    };
    let sentence = |line: &str| number(line.trim().strip_prefix("Submitted batch job ")?.split(' ').next()?);
    printed.lines().rev().find_map(number).or_else(|| printed.lines().rev().find_map(sentence))
}

/// Runs a program with `input` and returns its standard output, or an error message.
fn output_of(command: &mut Command, input: &str) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("`{name}` is not on the PATH"),
        _ => format!("`{name}` cannot be started ({error})"),
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that fails may not read all of its input; its message is reported below.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| format!("`{name}` was lost ({error})"))?;
    let [printed, errors] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
    match (output.status.success(), errors.is_empty() && printed.is_empty()) {
        (true, _) => Ok(printed),
        (false, true) => Err(format!("`{name}` failed without a message ({})", output.status)),
        (false, false) => Err(format!("`{name}` failed: {}", format!("{errors}\n{printed}").trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_job_is_found_among_what_else_is_printed() {
        for (printed, job) in [
            ("12\n", Some("12")),
            ("12;cluster\n", Some("12")),
            ("-----\n  Welcome to the cluster\n--> Verifying keys...OK\n12345\n", Some("12345")),
            ("2024\r\nhello; 3 nodes\r\n7;west\r\n\r\n", Some("7")),
            ("Submitted batch job 31 on cluster west\n", Some("31")),
            ("5 jobs are queued\n", None),
            ("", None),
            (";\n", None),
        ] {
            assert_eq!(job_number(printed).as_deref(), job, "{printed}");
        }
    }

    #[test]
    fn a_script_asks_for_what_the_launcher_says_and_quotes_what_the_shell_would_take_apart() {
        let launcher: LauncherBlock = serde_yaml::from_str(
            "{kind: slurm, partition: gpu, account: lab, qos: high, time: '2:00:00', memory: 4G, cpus: 2, gpus: 1, \
             at_once: 3, grace: 60, sbatch: [--constraint=avx512], setup: [module load cuda]}",
        )
        .unwrap();
        let array = Array {
            launcher: &launcher,
            file: "/my lab/a sweep.yaml".into(),
            tasks: 8,
            directory: "/my lab".into(),
            variables: vec![("CCDNI__NAME".into(), "it's".into())],
            command: ["/bin/ccdni", "sweep", "/my lab/a sweep.yaml"].map(String::from).to_vec(),
        };
        assert_eq!(
            array.script(),
            format!(
                "#!/bin/bash
# A job array that trains what is missing of /my lab/a sweep.yaml
# Written by ccdni {VERSION}. Logs go where it is submitted from.
#SBATCH --job-name=a_sweep
#SBATCH --array=0-7%3
#SBATCH --output=%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@60
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --qos=high
#SBATCH --time=2:00:00
#SBATCH --mem=4G
#SBATCH --gres=gpu:1
#SBATCH --constraint=avx512
set -e
cd '/my lab'
export CCDNI__NAME='it'\\''s'
module load cuda
exec /bin/ccdni sweep '/my lab/a sweep.yaml'
"
            )
        );
    }
}
