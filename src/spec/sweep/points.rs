//! The combinations of `sweep` blocks and `--grid` flags.

use std::collections::BTreeMap;

use figment::value::{Dict, Tag, Value};

use crate::error::Problem;
use crate::spec::forms::order;
use crate::spec::layers::{BLOCKS, Layers};
use crate::spec::yaml::{join, line, parse};

/// Upper limit, to catch typing errors.
const MOST_RUNS: usize = 100_000;

/// Keys that do not distinguish runs; seeds are an axis of every run.
const NOT_SWEPT: [&str; 3] = ["run", "notes", "extends"];

/// A value at a path, and where it was set.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Assignment {
    pub path: String,
    pub value: Value,
    pub origin: String,
}

impl Assignment {
    /// The value as YAML on one line.
    pub fn shown(&self) -> String {
        line(&self.value)
    }
}

/// One combination: the values that it sets in the spec.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Point {
    pub item: Option<String>,
    pub values: Vec<Assignment>,
}

impl Point {
    /// Its name in messages.
    pub fn label(&self) -> String {
        let values = self.values.iter().map(|set| format!("{}={}", set.path, set.shown()));
        self.item.iter().cloned().chain(values).collect::<Vec<_>>().join(", ")
    }

    /// Its values, each before those that it would drop.
    pub fn in_order(&self) -> Vec<&Assignment> {
        let mut values: Vec<&Assignment> = self.values.iter().collect();
        values.sort_by_key(|set| order(&set.path));
        values
    }

    /// The union of both, tables before their keys.
    fn with(&self, other: &Point) -> Point {
        let mut point = self.clone();
        point.item = point.item.or_else(|| other.item.clone());
        point.values.extend(other.values.iter().cloned());
        point.values.sort_by_key(|set| set.path.matches('.').count());
        point
    }
}

/// The values of one path.
struct Column {
    path: String,
    values: Vec<Assignment>,
}

/// Every combination of the `sweep` block and of `--grid` flags; without either, one that is empty.
pub(super) fn read(
    sweep: Option<&Value>,
    flags: &[String],
    layers: &Layers,
    problems: &mut Vec<Problem>,
) -> Vec<Point> {
    let flags = read_flags(flags, problems);
    let blocks: Vec<(String, &Value)> = match sweep {
        Some(Value::Array(_, blocks)) => {
            blocks.iter().enumerate().map(|(index, block)| (join("sweep", &index.to_string()), block)).collect()
        }
        Some(block) => vec![("sweep".into(), block)],
        None => Vec::new(),
    };
    let mut reader = Reader { layers, problems };
    let mut points = Vec::new();
    for (path, block) in &blocks {
        points.extend(reader.block(path, block, &flags));
    }
    if sweep.is_none() {
        points = product(&[flags.iter().map(alone).collect()], reader.problems);
    } else if blocks.is_empty() {
        reader.problems.push(Problem::new("sweep", "defines no run").help("add a `grid`, a `zip` or a `list` to it"));
    }
    if points.len() > MOST_RUNS {
        too_many(reader.problems);
    }
    reader.conflicts(&points);
    points
}

/// Parses `path=[...]` flags.
fn read_flags(flags: &[String], problems: &mut Vec<Problem>) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    for flag in flags {
        let origin = format!("--grid {}", flag.replace('\n', " "));
        let mut refuse = |key: &str, message: &str| {
            let problem = Problem { origin: Some(origin.clone()), ..Problem::new(key, message) };
            problems.push(problem.help("for example `--grid 'train.bptt=[1, 2, 3]'`, in quotes"));
        };
        let Some((path, text)) = flag.split_once('=') else {
            refuse(flag.trim(), "expected `path=[values]`");
            continue;
        };
        let path = path.trim().to_owned();
        match parse(text) {
            Err(bad) => refuse(&path, &format!("the value is not valid YAML: {}", bad.message)),
            Ok(Value::Array(_, values)) if values.is_empty() => refuse(&path, "an empty grid makes no run"),
            Ok(Value::Array(_, values)) => {
                if columns.iter().any(|column| column.path == path) {
                    refuse(&path, "is given twice");
                } else if let Some(message) = unfit(&path) {
                    refuse(&path, &message);
                } else {
                    let assignment = |value| Assignment { path: path.clone(), value, origin: origin.clone() };
                    columns.push(Column { path: path.clone(), values: values.into_iter().map(assignment).collect() });
                }
            }
            Ok(_) => refuse(&path, "expected a list of values"),
        }
    }
    columns
}

/// A value without the tags of its file, where its path was that of a list item.
pub(super) fn untagged(value: Value) -> Value {
    let tag = Tag::Default;
    match value {
        Value::String(_, text) => Value::String(tag, text),
        Value::Char(_, letter) => Value::Char(tag, letter),
        Value::Bool(_, truth) => Value::Bool(tag, truth),
        Value::Num(_, number) => Value::Num(tag, number),
        Value::Empty(_, empty) => Value::Empty(tag, empty),
        Value::Dict(_, table) => {
            Value::Dict(tag, table.into_iter().map(|(key, value)| (key, untagged(value))).collect())
        }
        Value::Array(_, items) => Value::Array(tag, items.into_iter().map(untagged).collect()),
    }
}

/// Why a path cannot be swept.
fn unfit(path: &str) -> Option<String> {
    let first = path.split('.').next().unwrap_or_default();
    if path.split('.').any(str::is_empty) {
        Some("a key on the way is empty: dots stand between levels, as in `train.bptt`".into())
    } else if NOT_SWEPT.contains(&first) || BLOCKS.contains(&first) {
        Some(format!("`{first}` makes no other run, so it cannot be swept"))
    } else {
        None
    }
}

fn alone(column: &Column) -> Vec<Point> {
    column.values.iter().map(|set| Point { item: None, values: vec![set.clone()] }).collect()
}

/// The Cartesian product of the factors.
fn product(factors: &[Vec<Vec<Point>>], problems: &mut Vec<Problem>) -> Vec<Point> {
    let mut points = vec![Point::default()];
    for factor in factors.iter().flatten() {
        if points.len().saturating_mul(factor.len()) > MOST_RUNS {
            too_many(problems);
            return Vec::new();
        }
        points = points.iter().flat_map(|point| factor.iter().map(|other| point.with(other))).collect();
    }
    points
}

fn too_many(problems: &mut Vec<Problem>) {
    let problem = Problem::new("sweep", format!("makes more than {MOST_RUNS} runs"));
    problems.push(problem.help("leave out some values, or split it into several files"));
}

struct Reader<'a> {
    layers: &'a Layers,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    /// The points of one block.
    fn block(&mut self, path: &str, block: &Value, flags: &[Column]) -> Vec<Point> {
        let before = self.problems.len();
        let table = |key: &str| block.find_ref(key).and_then(Value::as_dict);
        let mut columns = self.columns(&join(path, "grid"), table("grid"));
        columns.retain(|column| flags.iter().all(|flag| flag.path != column.path));
        let mut grid: Vec<Vec<Point>> = columns.iter().chain(flags).map(alone).collect();
        let rows = self.columns(&join(path, "zip"), table("zip"));
        let list = self.list(&join(path, "list"), block.find_ref("list").and_then(Value::as_array));
        if grid.is_empty() && rows.is_empty() && list.is_empty() && self.problems.len() == before {
            let tag = block.tag();
            self.refuse(path, tag, "defines no run", "add a `grid`, a `zip` or a `list` to it");
        }
        let zip = self.zip(&join(path, "zip"), rows, block.tag());
        grid.splice(0..0, [list, zip].into_iter().filter(|points| !points.is_empty()));
        if self.problems.len() > before {
            return Vec::new();
        }
        product(&[grid], self.problems)
    }

    /// The lists of a `grid` or `zip`.
    fn columns(&mut self, path: &str, table: Option<&Dict>) -> Vec<Column> {
        let mut columns = Vec::new();
        for (key, value) in table.into_iter().flatten() {
            let here = join(path, key);
            if let Some(message) = unfit(key) {
                self.refuse(&here, value.tag(), &message, "sweep a key of `task`, `model`, `train` or `record`");
                continue;
            }
            match value.as_array() {
                Some([]) => self.refuse(
                    &here,
                    value.tag(),
                    "an empty list makes no run",
                    "give at least one value, or leave the key out",
                ),
                Some(values) => {
                    let assignment =
                        |(index, value): (usize, &Value)| self.assignment(&join(&here, &index.to_string()), key, value);
                    columns.push(Column {
                        path: key.clone(),
                        values: values.iter().enumerate().map(assignment).collect(),
                    });
                }
                None => {
                    let help = format!(
                        "for one value, write `[{}]`; keys are dotted paths: `train.bptt: [1, 2]`",
                        line(value)
                    );
                    self.refuse(&here, value.tag(), "expected a list of values", &help);
                }
            }
        }
        columns
    }

    /// The rows of a `zip`: the i-th values of all columns.
    fn zip(&mut self, path: &str, columns: Vec<Column>, tag: Tag) -> Vec<Point> {
        let Some(length) = columns.first().map(|column| column.values.len()) else { return Vec::new() };
        if columns.iter().any(|column| column.values.len() != length) {
            let lengths: Vec<String> =
                columns.iter().map(|column| format!("`{}` has {}", column.path, column.values.len())).collect();
            let message = format!("lists side by side must be of one length: {}", lengths.join(", "));
            self.refuse(path, tag, &message, "make them equally long, or use `grid` for all combinations");
            return Vec::new();
        }
        let row = |index: usize| columns.iter().filter_map(|column| column.values.get(index).cloned()).collect();
        (0..length).map(|index| Point::default().with(&Point { item: None, values: row(index) })).collect()
    }

    fn list(&mut self, path: &str, items: Option<&[Value]>) -> Vec<Point> {
        let mut points: Vec<Point> = Vec::new();
        for (index, item) in items.into_iter().flatten().enumerate() {
            let here = join(path, &index.to_string());
            let name = item.find_ref("name").and_then(Value::as_str).unwrap_or_default().trim().to_owned();
            if name.is_empty() || points.iter().any(|point| point.item.as_deref() == Some(&name)) {
                let message = if name.is_empty() { "has no name" } else { "has the name of another item" };
                self.refuse(&join(&here, "name"), item.tag(), message, "give every run of a list a name of its own");
            }
            let mut values = Vec::new();
            for (key, value) in item.find_ref("set").and_then(Value::as_dict).into_iter().flatten() {
                let here = join(&join(&here, "set"), key);
                match unfit(key) {
                    Some(message) => {
                        self.refuse(&here, value.tag(), &message, "set a key of `task`, `model`, `train` or `record`")
                    }
                    None => values.push(self.assignment(&here, key, value)),
                }
            }
            points.push(Point::default().with(&Point { item: Some(name), values }));
        }
        points
    }

    fn assignment(&self, place: &str, path: &str, value: &Value) -> Assignment {
        let origin = self.layers.place(value.tag(), place).unwrap_or_else(|| "sweep".into());
        Assignment { path: path.to_owned(), value: untagged(value.clone()), origin }
    }

    fn refuse(&mut self, path: &str, tag: Tag, message: &str, help: &str) {
        let problem = Problem { origin: self.layers.place(tag, path), ..Problem::new(path, message) };
        self.problems.push(problem.help(help));
    }

    /// Reports values that would silently override one another.
    fn conflicts(&mut self, points: &[Point]) {
        let mut reported: BTreeMap<String, Problem> = BTreeMap::new();
        for point in points {
            for (index, set) in point.values.iter().enumerate() {
                let problem = |message: String, help: &str| {
                    Problem { origin: Some(set.origin.clone()), ..Problem::new(&set.path, message) }.help(help)
                };
                if let Some((_, by)) = self.layers.assigned.iter().find(|(path, _)| *path == set.path) {
                    let message = format!("is swept, and `{by}` sets it too");
                    reported.entry(message.clone()).or_insert_with(|| {
                        problem(message, "leave out one of the two; `--grid` replaces a list of the file's grid")
                    });
                }
                for before in &point.values[..index] {
                    let within = set.path.strip_prefix(&before.path).is_some_and(|rest| rest.starts_with('.'));
                    if before.path == set.path {
                        reported.entry(set.path.clone()).or_insert_with(|| {
                            problem(
                                "is swept in two places of one block".into(),
                                "list all of its values in one of them",
                            )
                        });
                    } else if within && matches!(before.value, Value::Empty(..)) {
                        reported.entry(set.path.clone()).or_insert_with(|| {
                            let message =
                                format!("is set within `{}`, which is `null` in the same combination", before.path);
                            problem(message, "spell such runs out in a `list`, or make `sweep` a list of two blocks")
                        });
                    }
                }
            }
        }
        self.problems.extend(reported.into_values());
    }
}
