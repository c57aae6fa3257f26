//! Tables on standard output: the seeds of a run, the runs of a directory.

use super::clock;
use super::directory::Directory;
use super::progress::number;
use super::status::{Standing, look};
use crate::error::Result;

/// The seeds of a run: epochs, last training loss, validation and test metrics of the kept weights, wall clock. `failed`
/// are those that just did: not all that fails leaves a record.
///
/// # Errors
/// As [`look`].
pub fn seeds(directory: &Directory, seeds: &[u64], failed: &[u64]) -> Result<String> {
    let mut header: Vec<String> = ["seed", "state", "epochs", "train_loss"].map(Into::into).into();
    let mut metrics: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    for &seed in seeds {
        let (mut standing, record) = look(&directory.unit(seed))?;
        if standing == Standing::Waiting && failed.contains(&seed) {
            standing = Standing::Failed;
        }
        let mut row = vec![seed.to_string(), standing.to_string()];
        if let Some(result) = record.and_then(|record| record.result) {
            metrics = result.metrics.iter().map(|metric| metric.name.clone()).collect();
            row.extend([result.epochs.to_string(), number(result.train_loss)]);
            row.extend(result.validation.iter().chain(&result.test).map(|value| number(*value)));
            row.push(clock::seconds(result.seconds));
        }
        rows.push(row);
    }
    let tested = rows.iter().map(Vec::len).max().unwrap_or(0) > header.len() + metrics.len() + 1;
    header.extend(metrics.iter().map(|name| format!("val_{name}")));
    header.extend(metrics.iter().filter(|_| tested).map(|name| format!("test_{name}")));
    header.push("time".into());
    Ok(align(&header, &rows))
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
