//! `metrics.csv` and `results.csv`: every epoch of every seed, and one row a seed.

use super::units::Unit;

/// The rows of all units below one header, each cell as the unit wrote it.
pub(super) fn metrics(units: &[Unit]) -> Vec<u8> {
    let header = units.iter().take(1).map(|unit| unit.table.header.clone());
    let rows = units.iter().flat_map(|unit| &unit.table.rows);
    write(header.chain(rows.map(|row| row.iter().map(str::to_owned).collect())))
}

/// One row a seed: epochs, the last epoch's losses and metrics, the metrics of the best epoch, the test's, the sentences'
/// scores.
///
/// What a unit does not have (no test, no validation) is an empty cell, or no column where no unit has it.
pub(super) fn results(units: &[Unit]) -> Vec<u8> {
    let Some(first) = units.first() else { return Vec::new() };
    let validation: Vec<&String> = first.table.header.iter().filter(|name| name.starts_with("val_")).collect();
    let tested = if units.iter().any(|unit| !unit.test.is_empty()) { first.metrics.as_slice() } else { &[] };

    let mut header: Vec<String> =
        ["seed", "epochs", "best_epoch", "kept_epoch", "train_loss", "train_loss_original"].map(str::to_owned).into();
    header.extend(validation.iter().map(|name| (*name).clone()));
    header.extend(validation.iter().map(|name| format!("best_{name}")));
    header.extend(tested.iter().map(|metric| format!("test_{}", metric.name)));
    header.extend(first.scores.iter().map(|(name, _)| name.clone()));

    let rows = units.iter().map(|unit| {
        let last = |name: &str| number(unit.table.column(name).last().copied());
        let mut row: Vec<String> =
            [unit.seed, unit.table.rows.len() as u64, unit.best_epoch as u64, unit.kept_epoch as u64]
                .map(|whole| whole.to_string())
                .into();
        row.extend([last("train_loss"), last("train_loss_original")]);
        row.extend(validation.iter().map(|name| last(name)));
        row.extend(validation.iter().map(|name| number(unit.table.at(name, unit.best_epoch))));
        row.extend((0..tested.len()).map(|index| number(unit.test.get(index).copied())));
        row.extend(
            first
                .scores
                .iter()
                .map(|(name, _)| number(unit.scores.iter().find(|(other, _)| other == name).map(|(_, value)| *value))),
        );
        row
    });
    write(std::iter::once(header.clone()).chain(rows))
}

fn number(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Rows as CSV.
pub(super) fn write(rows: impl Iterator<Item = Vec<String>>) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        // Into memory, and rows of one length: there is nothing that could fail.
        let _ = writer.write_record(row);
    }
    writer.into_inner().unwrap_or_default()
}
