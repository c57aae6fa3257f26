//! State of a sweep's job arrays as reported by SLURM, if it responds.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::thread;

/// Timeout for the controller's response.
const PATIENCE: Duration = Duration::from_secs(5);

/// Maximum number of arrays to query; the newest are.
const ARRAYS: usize = 50;

/// Tasks of arrays as reported by SLURM.
#[derive(Debug, Default, PartialEq)]
pub struct Queue {
    /// Tasks by id: `12_3`, or `12_[4-7]` for several pending ones.
    tasks: BTreeMap<String, Task>,
    /// Whether `squeue` responded, so that a task it does not list has left the queue.
    answered: bool,
}

#[derive(Debug, PartialEq)]
struct Task {
    /// Such as `running`.
    state: String,
    /// Time used and limit, or the reason for waiting.
    detail: String,
}

impl Queue {
    /// Queries `squeue`, and `sacct` for jobs that have left the queue.
    pub fn of(arrays: &[u64]) -> Self {
        let newest = &arrays[arrays.len().saturating_sub(ARRAYS)..];
        let mut queue = Queue::default();
        if newest.is_empty() {
            return queue;
        }
        let list = |jobs: &[u64]| jobs.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let jobs = format!("--jobs={}", list(newest));
        let mut squeue = Command::new("squeue");
        squeue.args(["--noheader", "--array", &jobs, "--format=%i|%T|%M|%l|%R"]);
        if let Some(output) = ask(squeue) {
            queue.answered = true;
            queue.read(&output, |fields| match fields {
                ["PENDING", _, _, why] => why.trim_matches(['(', ')']).to_owned(),
                [_, used, limit, place] => format!("{used} of {limit} on {place}"),
                _ => String::new(),
            });
        }
        let gone: Vec<u64> = newest.iter().copied().filter(|job| queue.tasks_of(*job).next().is_none()).collect();
        if !gone.is_empty() {
            let jobs = format!("--jobs={}", list(&gone));
            let mut sacct = Command::new("sacct");
            sacct.args(["--noheader", "--parsable2", "--allocations", &jobs, "--format=JobID,State,Elapsed"]);
            if let Some(output) = ask(sacct) {
                queue.read(&output, |_| String::new());
            }
        }
        queue
    }

    fn read(&mut self, output: &str, detail: impl Fn(&[&str]) -> String) {
        for line in output.lines() {
            let mut fields = line.trim().split('|');
            let (Some(task), Some(state)) = (fields.next(), fields.next()) else { continue };
            let rest: Vec<&str> = std::iter::once(state).chain(fields).collect();
            // `CANCELLED by 1000`.
            let state = state.split(' ').next().unwrap_or_default().to_lowercase();
            self.tasks.insert(task.to_owned(), Task { state, detail: detail(&rest) });
        }
    }

    fn tasks_of(&self, job: u64) -> impl Iterator<Item = &Task> {
        let begin = format!("{job}_");
        self.tasks.iter().filter(move |(task, _)| task.starts_with(&begin)).map(|(_, task)| task)
    }

    /// One line per array known to SLURM: number of tasks per state, with the reasons of pending ones.
    pub fn lines(&self, arrays: &[u64]) -> Vec<String> {
        let line = |job: &u64| {
            let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
            for task in self.tasks_of(*job) {
                let why = if task.state == "pending" { task.detail.as_str() } else { "" };
                *counts.entry((&task.state, why)).or_default() += 1;
            }
            let words: Vec<String> = counts
                .into_iter()
                .map(|((state, why), count)| {
                    let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
                    format!("{count} {state}{why}")
                })
                .collect();
            (!words.is_empty()).then(|| format!("job {job}: {}", words.join(", ")))
        };
        arrays.iter().filter_map(line).collect()
    }

    /// Describes one task, by the id in its claims.
    pub fn task(&self, job: &str) -> Option<String> {
        let task = self.tasks.get(job)?;
        let detail = if task.detail.is_empty() { String::new() } else { format!(", {}", task.detail) };
        Some(format!("{}{detail}", task.state))
    }

    /// Whether any task may still train; `None` if SLURM did not respond.
    pub fn is_busy(&self) -> Option<bool> {
        let is_active = |task: &Task| {
            ["pending", "running", "configuring", "completing", "requeued", "suspended", "requeue_hold"]
                .contains(&task.state.as_str())
        };
        self.answered.then(|| self.tasks.values().any(is_active))
    }
}

/// Runs a program and returns its output; `None` if it is missing, fails or times out. An unknown job id is not a failure.
fn ask(mut command: Command) -> Option<String> {
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = started.ok()?;
    let begun = Instant::now();
    // Read in threads: a full pipe would block the program.
    let pipes = (child.stdout.take()?, child.stderr.take()?);
    let read = |mut pipe: Box<dyn std::io::Read + Send>| {
        thread::start(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let (output, errors) = (read(Box::new(pipes.0)).ok()?, read(Box::new(pipes.1)).ok()?);
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break status,
            None if begun.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let (output, errors) = (output.join().ok()?, errors.join().ok()?);
    (status.success() || errors.contains("Invalid job id")).then_some(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_counted_by_state_and_described_one_by_one() {
        let mut queue = Queue { answered: true, ..Queue::default() };
        queue.read(
            "12_0|RUNNING|0:41|10:00|node1\n12_1|PENDING|0:00|10:00|(Resources)\n12_2|PENDING|0:00|10:00|(Resources)\n",
            |fields| match fields {
                ["PENDING", _, _, why] => why.trim_matches(['(', ')']).to_owned(),
                [_, used, limit, place] => format!("{used} of {limit} on {place}"),
                _ => String::new(),
            },
        );
        queue.read("7_0|COMPLETED|00:01:00\n7_1|CANCELLED by 0|00:00:03\n", |_| String::new());
        assert_eq!(
            queue.lines(&[7, 9, 12]),
            ["job 7: 1 cancelled, 1 completed", "job 12: 2 pending (Resources), 1 running"]
        );
        assert_eq!(queue.task("12_0").unwrap(), "running, 0:41 of 10:00 on node1");
        assert_eq!((queue.task("12_9"), queue.is_busy()), (None, Some(true)));
        assert_eq!(Queue::default().is_busy(), None);
    }
}
