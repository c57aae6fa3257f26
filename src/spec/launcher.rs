//! The `launcher` block: where the runs of a sweep are trained. It is not hashed.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Where the runs of a sweep are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LauncherBlock {
    /// Worker processes on this machine, or a job array on a cluster.
    #[serde(default)]
    pub kind: LauncherKind,
    /// The partition; the cluster's default if left out.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.,:@+-]+$"))]
    pub partition: Option<String>,
    /// The account to charge.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.,:@+-]+$"))]
    pub account: Option<String>,
    /// The quality of service.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.,:@+-]+$"))]
    pub qos: Option<String>,
    /// Time limit per task, in a format of `sbatch`.
    #[serde(default)]
    pub time: Option<TimeLimit>,
    /// Memory per task, in a format of `sbatch`: `4G`.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-9]+[KMGT]?$"))]
    pub memory: Option<String>,
    /// Cores per task. If `run.jobs` is `auto`, a task trains this number divided by `run.threads` of units at the same time.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1024))]
    pub cpus: usize,
    /// GPUs per task.
    #[serde(default)]
    #[schemars(range(min = 1, max = 64))]
    pub gpus: Option<usize>,
    /// Tasks in the array; at most the number of units to train.
    #[serde(default = "tasks")]
    #[schemars(range(min = 1, max = 100_000))]
    pub tasks: usize,
    /// Tasks that may run at the same time; by default limited by the cluster alone.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100_000))]
    pub at_once: Option<usize>,
    /// Seconds before its time limit at which a task writes its checkpoints and is requeued.
    #[serde(default = "grace")]
    #[schemars(range(min = 5, max = 3600))]
    pub grace: usize,
    /// Further options of `sbatch`, such as `--constraint=avx512`.
    #[serde(default)]
    #[schemars(inner(regex(pattern = r"^-[^\n\r]*$")))]
    pub sbatch: Vec<String>,
    /// Shell commands to run before the program, such as `module load cuda`.
    #[serde(default)]
    pub setup: Vec<String>,
}

fn one() -> usize {
    1
}

fn tasks() -> usize {
    16
}

fn grace() -> usize {
    120
}

impl Default for LauncherBlock {
    fn default() -> Self {
        LauncherBlock {
            kind: LauncherKind::default(),
            partition: None,
            account: None,
            qos: None,
            time: None,
            memory: None,
            cpus: one(),
            gpus: None,
            tasks: tasks(),
            at_once: None,
            grace: grace(),
            sbatch: Vec::new(),
            setup: Vec::new(),
        }
    }
}

/// What trains the units of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LauncherKind {
    /// Worker processes on this machine.
    #[default]
    Local,
    /// A job array on a SLURM cluster.
    Slurm,
}

/// A time limit in the formats of `sbatch`: `30` (minutes), `30:00`, `2:00:00`, `1-12`, `1-12:30`, `1-12:30:00`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct TimeLimit(pub String);

/// YAML reads `30` as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Minutes(u64),
    Text(String),
}

impl From<Written> for TimeLimit {
    fn from(written: Written) -> Self {
        TimeLimit(match written {
            Written::Minutes(minutes) => minutes.to_string(),
            Written::Text(text) => text.trim().to_owned(),
        })
    }
}

impl TimeLimit {
    /// The limit in seconds; `None` for an invalid format.
    pub fn seconds(&self) -> Option<u64> {
        let (days, rest) = match self.0.split_once('-') {
            Some((days, rest)) => (Some(days.parse::<u64>().ok()?), rest),
            None => (None, self.0.as_str()),
        };
        let parts: Vec<u64> = rest.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        // After days, the first number is hours; without days, one number is minutes and two are minutes and seconds.
        let (hours, minutes, seconds) = match (days, parts.as_slice()) {
            (Some(_), [hours]) => (*hours, 0, 0),
            (Some(_), [hours, minutes]) => (*hours, *minutes, 0),
            (None, [minutes]) => (0, *minutes, 0),
            (None, [minutes, seconds]) => (0, *minutes, *seconds),
            (_, [hours, minutes, seconds]) => (*hours, *minutes, *seconds),
            _ => return None,
        };
        let scaled = |count: u64, unit: u64| count.checked_mul(unit);
        let parts = [scaled(days.unwrap_or(0), 86_400), scaled(hours, 3600), scaled(minutes, 60), Some(seconds)];
        parts.into_iter().try_fold(0u64, |sum, part| sum.checked_add(part?))
    }
}

impl JsonSchema for TimeLimit {
    fn schema_name() -> Cow<'static, str> {
        "TimeLimit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "description": "minutes", "type": "integer", "minimum": 1 },
                {
                    "description": "a time such as `30:00`, `2:00:00`, `1-12` (days and hours)",
                    "type": "string",
                    "pattern": r"^\s*([0-9]+-[0-9]+(:[0-9]+){0,2}|[0-9]+(:[0-9]+){0,2})\s*$"
                },
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_parsed_as_by_sbatch() {
        for (text, seconds) in [
            ("30", Some(1800)),
            ("2:30", Some(150)),
            ("2:00:30", Some(7230)),
            ("1-12", Some(129_600)),
            ("1-0:30", Some(88_200)),
            ("1-0:0:1", Some(86_401)),
            ("", None),
            ("soon", None),
            ("1:2:3:4", None),
            ("99999999999999999999", None),
            ("18446744073709551615-0", None),
        ] {
            assert_eq!(TimeLimit(text.into()).seconds(), seconds, "{text}");
        }
    }

    #[test]
    fn a_number_is_minutes() {
        let block: LauncherBlock = serde_yaml::from_str("{kind: slurm, time: 30}").unwrap();
        assert_eq!((block.kind, block.time), (LauncherKind::Slurm, Some(TimeLimit("30".into()))));
    }
}
