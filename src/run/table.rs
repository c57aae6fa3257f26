//! Tables on standard output: the seeds of a run, the runs of a directory.

use super::clock;
use super::directory::Directory;
use super::progress::number;
use super::status::{SeedStatus, Standing};
use crate::error::Result;
use crate::records::{SeedResult, SeedRun};
use crate::report::units::read_table;

/// The seeds of a run: epochs, last training loss, the first validation metric at its best and at the last epoch, further
/// validation metrics and test metrics of the kept weights, wall clock. `failed` are those that just did: not all that
/// fails leaves a record.
///
/// # Errors
/// As [`SeedStatus::read`].
pub fn seeds(directory: &Directory, seeds: &[u64], failed: &[u64]) -> Result<String> {
    let mut header: Vec<String> = ["seed", "state", "epochs", "train_loss"].map(Into::into).into();
    let mut columns: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    for &seed in seeds {
        let unit = directory.unit(seed);
        let status = SeedStatus::read(&unit)?;
        let standing = match status.standing {
            Standing::Waiting if failed.contains(&seed) => Standing::Failed,
            standing => standing,
        };
        let mut row = vec![seed.to_string(), standing.to_string()];
        if let Some(result) = status.result() {
            columns = metric_columns(result);
            row.extend([result.epochs.to_string(), number(result.train_loss)]);
            if !result.validation.is_empty() {
                row.extend(best_and_last(&unit, result));
            }
            row.extend(result.validation.iter().skip(1).chain(&result.test).map(|value| number(*value)));
            row.push(clock::seconds(result.seconds));
        }
        rows.push(row);
    }
    header.extend(columns);
    header.push("time".into());
    Ok(align(&header, &rows))
}

/// Names of the columns of metrics.
fn metric_columns(result: &SeedResult) -> Vec<String> {
    let names = || result.metrics.iter().map(|metric| &metric.name);
    let first = names().take(1).flat_map(|name| [format!("best_val_{name}"), format!("last_val_{name}")]);
    let validation = first.chain(names().skip(1).map(|name| format!("val_{name}")));
    let test = names().map(|name| format!("test_{name}"));
    validation.filter(|_| !result.validation.is_empty()).chain(test.filter(|_| !result.test.is_empty())).collect()
}

/// The first validation metric at the best epoch and at the last, with a mark at the one whose weights are kept: an unlucky
/// last epoch is no failure.
fn best_and_last(unit: &SeedRun, result: &SeedResult) -> [String; 2] {
    // Metrics that are damaged or gone must not hide the rest of the table.
    let table = read_table(unit).ok();
    let at = |epoch: usize| {
        let column = format!("val_{}", result.metrics.first()?.name);
        table.as_ref()?.at(&column, epoch).filter(|value| value.is_finite())
    };
    let (best, last) = (number(at(result.best_epoch)), number(at(result.epochs)));
    let epoch = result.best_epoch;
    match result.kept_epoch == result.epochs {
        true => [format!("{best} (epoch {epoch})"), format!("{last} (kept)")],
        false => [format!("{best} (epoch {epoch}, kept)"), last],
    }
}

/// Columns that line up, the first row being the header.
pub fn align(header: &[String], rows: &[Vec<String>]) -> String {
    let lines: Vec<&[String]> = std::iter::once(header).chain(rows.iter().map(Vec::as_slice)).collect();
    let columns = lines.iter().map(|line| line.len()).max().unwrap_or(0);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_short_rows_are_short() {
        let words = |line: &str| line.split(' ').map(String::from).collect::<Vec<_>>();
        let text = align(&words("seed state"), &[words("1 done 0.5"), words("34521 failed")]);
        assert_eq!(text, "seed   state\n1      done    0.5\n34521  failed\n");
    }
}
