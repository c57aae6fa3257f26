//! `ccdni compare`: statistics of groups of finished runs.

use std::path::PathBuf;

use super::which_runs;
use crate::error::Result;
use crate::report::compare::{Groups, Test, correct};
use crate::run::table::align;
use crate::spec::Seeds;
use crate::tasks::Registry;

/// Compare finished runs in groups: mean, standard error and interval over seeds, and paired tests.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni compare experiments/paper/fig2.yaml
  ccdni compare 3f9a 5c11 77d0 --by train.bptt,model --format markdown

A spec file stands for all its runs, with exactly its seeds. Intervals hold the means of
95 % of 10,000 bootstrap samples; p is of Wilcoxon's signed-rank test over the seeds that two groups
have in common, p (t) of the paired t-test; both two-sided.")]
pub struct Args {
    /// The runs: first digits of their hashes, or their directories; or one spec file.
    #[arg(value_name = "RUN|FILE", required = true)]
    runs: Vec<String>,
    /// Keys to group by, instead of all that differ; may be repeated, or separated by commas.
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    by: Vec<String>,
    /// A column of metrics.csv: `val_mse` or `mse`, `train_loss`; by default the first validation metric.
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// Keys to test, by pairs of groups that differ in one of them alone; by default keys with two values.
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    test: Vec<String>,
    /// Correct p for the number of tests (Holm).
    #[arg(long)]
    holm: bool,
    /// The output format.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Exactly these seeds of every run: `3`, `1,2,7`, or `1..10`.
    #[arg(long, value_name = "SEEDS")]
    seeds: Option<Seeds>,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
}

/// The output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Plain text.
    Table,
    /// A Markdown table.
    Markdown,
    /// Machine-readable: every number unrounded in its own column, without tests.
    Csv,
    /// A LaTeX table.
    Latex,
}

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let found = which_runs::find(&args.runs, false, args.seeds.as_ref(), &args.outputs, registry)?;
    let groups = Groups::new(&found.runs, &args.by, args.metric.as_deref(), registry)?;
    let mut tests = groups.tests(&args.test)?;
    if args.holm {
        correct(&mut tests);
    }
    if args.format == Format::Csv {
        return super::print(&groups.csv());
    }
    let (header, rows) = groups.table();
    let mut text = write(args.format, &header, &rows);
    if !tests.is_empty() {
        let (header, rows) = test_table(&tests);
        text += &format!("\n{}", write(args.format, &header, &rows));
    }
    super::print(&(text + &found.notes))
}

fn test_table(tests: &[Test]) -> (Vec<String>, Vec<Vec<String>>) {
    let header = ["first", "second", "pairs", "mean difference", "p", "p (t)"].map(String::from).to_vec();
    let row = |test: &Test| {
        let [first, second] = test.names.clone();
        let [difference, p, t] = [test.difference, test.p, test.t].map(|number| format!("{number:.4}"));
        vec![first, second, test.pairs.to_string(), difference, p, t]
    };
    (header, tests.iter().map(row).collect())
}

/// A table in a human-readable format.
fn write(format: Format, header: &[String], rows: &[Vec<String>]) -> String {
    match format {
        Format::Table | Format::Csv => align(header, rows),
        Format::Markdown => {
            let line = |cells: &[String]| {
                format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
            };
            let rule = format!("|{}\n", "---|".repeat(header.len()));
            [line(header), rule].into_iter().chain(rows.iter().map(|row| line(row))).collect()
        }
        Format::Latex => {
            let line = |cells: &[String]| {
                format!("  {} \\\\\n", cells.iter().map(|cell| latex(cell)).collect::<Vec<_>>().join(" & "))
            };
            let body: String = rows.iter().map(|row| line(row)).collect();
            format!(
                "\\begin{{tabular}}{{{}}}\n  \\hline\n{}  \\hline\n{body}  \\hline\n\\end{{tabular}}\n",
                "l".repeat(header.len()),
                line(header)
            )
        }
    }
}

/// A cell, escaped for LaTeX.
fn latex(cell: &str) -> String {
    let letter = |letter: char| match letter {
        '&' | '%' | '$' | '#' | '_' | '{' | '}' => format!("\\{letter}"),
        '±' => "$\\pm$".into(),
        '\\' => "\\textbackslash{}".into(),
        '~' => "\\textasciitilde{}".into(),
        '^' => "\\textasciicircum{}".into(),
        letter => letter.into(),
    };
    cell.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_survive_their_format() {
        let (header, rows) =
            (vec!["a_b".to_owned(), "95 %".to_owned()], vec![vec!["x|y".to_owned(), "1 ± 2".to_owned()]]);
        assert_eq!(write(Format::Markdown, &header, &rows), "| a_b | 95 % |\n|---|---|\n| x\\|y | 1 ± 2 |\n");
        let latex = write(Format::Latex, &header, &rows);
        assert!(latex.contains("  a\\_b & 95 \\% \\\\\n") && latex.contains("x|y & 1 $\\pm$ 2 \\\\"), "{latex}");
    }
}
