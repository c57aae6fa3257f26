//! Files of the details of an analysis: tables, arrays and figures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::details::{self, COMPONENTS, Components, Correlations, Epoch, Pair, QUANTILES, States};
use super::figures::{panel_of, words};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::report::grid::Grid;
use crate::report::panel::{Curve, EPOCH};
use crate::report::{arrays::npy, figure, tables};

/// The details of a run: by seed, then by epoch.
pub(super) type Details = BTreeMap<u64, BTreeMap<usize, Epoch>>;

/// Writes everything into `dir`, and returns the paths.
pub(super) fn write(details: &Details, dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Files { dir, written: Vec::new() };
    files.pairs(details)?;
    files.components(details)?;
    files.cosines(details)?;
    Ok(files.written)
}

struct Files<'a> {
    dir: &'a Path,
    written: Vec<PathBuf>,
}

/// Rows of a table, by epoch and seed.
fn rows(details: &Details) -> impl Iterator<Item = (u64, usize, &Epoch)> {
    details.iter().flat_map(|(&seed, epochs)| epochs.iter().map(move |(&number, epoch)| (seed, number, epoch)))
}

/// The keys that any epoch has.
fn keys<'a, K: Ord + Clone + 'a, V: 'a>(details: &'a Details, of: impl Fn(&'a Epoch) -> &'a BTreeMap<K, V>) -> Vec<K> {
    let mut keys: Vec<K> = rows(details).flat_map(|(.., epoch)| of(epoch).keys().cloned()).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// A curve per seed of what its epochs have.
fn curves(details: &Details, value: impl Fn(u64, usize, &Epoch) -> Option<f64>) -> Vec<Curve> {
    let of = |(&seed, epochs): (&u64, &BTreeMap<usize, Epoch>)| -> Curve {
        epochs.iter().filter_map(|(&number, epoch)| Some((number, value(seed, number, epoch)?))).collect()
    };
    details.iter().map(of).filter(|curve| !curve.is_empty()).collect()
}

impl Files<'_> {
    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.dir.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io("create the directory", folder))?;
        }
        write_atomically(&path, bytes)?;
        self.written.push(path);
        Ok(())
    }

    fn table(&mut self, name: &str, header: &[&str], rows: Vec<Vec<String>>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let header = header.iter().map(|&name| name.to_owned()).collect();
        self.put(name, tables::write(std::iter::once(header).chain(rows)).as_bytes())
    }

    fn figure(&mut self, name: &str, grid: Grid) -> Result<()> {
        if !grid.panels.is_empty() {
            self.written.extend(figure::save(&grid, self.dir, name, &figure::Format::ALL)?);
        }
        Ok(())
    }

    /// Quantiles of all pairs, matrices of some epochs.
    fn pairs(&mut self, details: &Details) -> Result<()> {
        let pairs = keys(details, |epoch| &epoch.pairs);
        let mut table = Vec::new();
        for (seed, number, epoch) in rows(details) {
            let first = details[&seed].values().next();
            for (pair, found) in &epoch.pairs {
                let mut row = vec![seed.to_string(), number.to_string(), pair.0.clone(), pair.1.clone()];
                row.extend(found.summary.iter().map(f64::to_string));
                let first = first.and_then(|first| first.pairs.get(pair)).filter(|first| first.is_kept());
                let change = first.filter(|_| found.is_kept()).map_or(f64::NAN, |first| found.change_since(first));
                row.push(change.to_string());
                table.push(row);
            }
        }
        let header = ["seed", "epoch", "of", "with", "p05", "p25", "p50", "p75", "p95", "mean", "sd", "change"];
        self.table("pairs.csv", &header, table)?;
        let names = QUANTILES.map(|quantile| format!("{} %", (100.0 * quantile).round()));
        let panel = |pair: &Pair| {
            let of = |at: usize| curves(details, |_, _, epoch| epoch.pairs.get(pair).map(|found| found.summary[at]));
            let series: Vec<(usize, Vec<Curve>)> = (0..QUANTILES.len()).map(|at| (at, of(at))).collect();
            let title = match pair.0 == pair.1 {
                true => format!("Within the {}", words(&pair.0)),
                false => format!("{} with {}", words(&pair.0), words(&pair.1)),
            };
            panel_of(&title, EPOCH, "Pearson r of pairs", series)
        };
        self.figure("pairs", super::figures::with_legend(pairs.iter().map(panel).collect(), &names))?;
        pairs.iter().try_for_each(|pair| self.matrices(details, pair))
    }

    /// `pairs/<of>__<with>.npy`, (seeds, epochs, of, with), and its axes.
    fn matrices(&mut self, details: &Details, pair: &Pair) -> Result<()> {
        let seeds: Vec<u64> = details.keys().copied().collect();
        let of =
            |seed: u64| details[&seed].iter().filter_map(|(&number, epoch)| Some((number, epoch.pairs.get(pair)?)));
        let kept = |seed: u64| of(seed).filter(|(_, found)| found.is_kept());
        let Some(epochs) = seeds.first().map(|&seed| kept(seed).map(|(number, _)| number).collect::<Vec<_>>()) else {
            return Ok(());
        };
        let all: Vec<&Correlations> = seeds.iter().flat_map(|&seed| kept(seed).map(|(_, found)| found)).collect();
        // Seeds that stopped early have other epochs, and no common array.
        if epochs.is_empty()
            || seeds.iter().any(|&seed| !kept(seed).map(|(number, _)| number).eq(epochs.iter().copied()))
        {
            return Ok(());
        }
        let [units, others] = all[0].shape;
        let name = format!("pairs/{}__{}", pair.0, pair.1);
        let numbers = all.iter().flat_map(|found| found.values()).map(|value| value as f32);
        self.put(&format!("{name}.npy"), &npy(&[seeds.len(), epochs.len(), units, others], numbers))?;
        let axes = json!({ "axes": ["seeds", "epochs", pair.0, pair.1], "seeds": seeds, "epochs": epochs });
        self.put(&format!("{name}.json"), format!("{axes:#}\n").as_bytes())
    }

    /// Principal components of every recorded population that has variance.
    fn components(&mut self, details: &Details) -> Result<()> {
        let (mut table, mut paths, mut panels) = (Vec::new(), Vec::new(), Vec::new());
        for name in keys(details, |epoch| &epoch.states) {
            let of = |epochs: &BTreeMap<usize, Epoch>| {
                let states: BTreeMap<usize, &States> =
                    epochs.iter().filter_map(|(&number, epoch)| Some((number, epoch.states.get(&name)?))).collect();
                details::components(&states)
            };
            let found: BTreeMap<u64, Components> =
                details.iter().filter_map(|(&seed, epochs)| Some((seed, of(epochs)?))).collect();
            for (seed, components) in &found {
                for (number, (ratio, shares, path)) in &components.epochs {
                    let key = |rest: [String; 3]| -> Vec<String> {
                        [seed.to_string(), number.to_string(), name.clone()].into_iter().chain(rest).collect()
                    };
                    table.push(key(["participation_ratio".into(), "-".into(), ratio.to_string()]));
                    for (at, share) in shares.iter().enumerate() {
                        let shared = components.explained[at];
                        table.push(key(["explained".into(), (at + 1).to_string(), share.to_string()]));
                        table.push(key(["explained_all_epochs".into(), (at + 1).to_string(), shared.to_string()]));
                    }
                    for (window, point) in path.iter().enumerate() {
                        let mut row =
                            vec![seed.to_string(), number.to_string(), name.clone(), (window + 1).to_string()];
                        row.extend(point.iter().map(f64::to_string));
                        row.resize(4 + COMPONENTS, String::new());
                        paths.push(row);
                    }
                }
            }
            panels.push(ratio_panel(&name, &found));
            panels.push(shares_panel(&name, &found));
            panels.extend(first_path_panel(&name, &found));
        }
        self.table("pca.csv", &["seed", "epoch", "of", "measure", "component", "value"], table)?;
        self.table("pca_paths.csv", &["seed", "epoch", "of", "window", "pc1", "pc2", "pc3"], paths)?;
        let names = (1..=COMPONENTS).map(|at| format!("component {at}")).collect::<Vec<_>>();
        self.figure("pca", super::figures::with_legend(panels, &names))
    }

    /// Cosines of synthetic gradients, window by window.
    fn cosines(&mut self, details: &Details) -> Result<()> {
        let mut table = Vec::new();
        for (seed, number, epoch) in rows(details) {
            for (pair, means) in &epoch.cosines {
                for (window, mean) in means.iter().enumerate() {
                    let row = [seed.to_string(), number.to_string(), pair.0.clone(), pair.1.clone()];
                    let rest = [(window + 1).to_string(), mean.value().to_string()];
                    table.push(row.into_iter().chain(rest).collect());
                }
            }
        }
        self.table("cosine_windows.csv", &["seed", "epoch", "of", "with", "window", "cosine"], table)?;
        let epochs =
            details.values().next().map(|epochs| epochs.keys().copied().collect::<Vec<_>>()).unwrap_or_default();
        let shown: Vec<usize> = details::kept(&epochs).into_iter().step_by(2).collect();
        let panel = |pair: &Pair| {
            let of = |number: usize| -> Vec<Curve> {
                let curve = |epoch: &Epoch| -> Option<Curve> {
                    Some(epoch.cosines.get(pair)?.iter().enumerate().map(|(at, mean)| (at + 1, mean.value())).collect())
                };
                details.values().filter_map(|epochs| curve(epochs.get(&number)?)).collect()
            };
            let series = shown.iter().enumerate().map(|(at, &number)| (at, of(number))).collect();
            panel_of(&format!("With the {}", words(&pair.1)), "Window", "cosine of the synthetic gradient", series)
        };
        let panels = keys(details, |epoch| &epoch.cosines).iter().map(panel).collect();
        let names: Vec<String> = shown.iter().map(|epoch| format!("epoch {epoch}")).collect();
        self.figure("cosine_windows", super::figures::with_legend(panels, &names))
    }
}

fn ratio_panel(name: &str, found: &BTreeMap<u64, Components>) -> crate::report::panel::Panel {
    let of =
        |components: &Components| components.epochs.iter().map(|(&number, (ratio, ..))| (number, *ratio)).collect();
    let seeds: Vec<Curve> = found.values().map(of).collect();
    panel_of(&format!("Dimension of the {}", words(name)), EPOCH, "participation ratio", vec![(COMPONENTS, seeds)])
}

fn shares_panel(name: &str, found: &BTreeMap<u64, Components>) -> crate::report::panel::Panel {
    let of = |components: &Components, at: usize| -> Curve {
        components.epochs.iter().filter_map(|(&number, (_, shares, _))| Some((number, *shares.get(at)?))).collect()
    };
    let series = |at: usize| (at, found.values().map(|components| of(components, at)).collect());
    panel_of(
        &format!("Components of the {}", words(name)),
        EPOCH,
        "explained variance",
        (0..COMPONENTS).map(series).collect(),
    )
}

/// The path of the first seed at its last epoch.
fn first_path_panel(name: &str, found: &BTreeMap<u64, Components>) -> Option<crate::report::panel::Panel> {
    let (seed, components) = found.iter().next()?;
    let (number, (.., path)) = components.epochs.iter().next_back()?;
    let of = |at: usize| -> Curve {
        path.iter().enumerate().filter_map(|(window, point)| Some((window + 1, *point.get(at)?))).collect()
    };
    let series = (0..COMPONENTS).map(|at| (at, vec![of(at)])).collect();
    let title = format!("{}, seed {seed}, epoch {number}", words(name));
    Some(panel_of(&title, "Window", "mean along the component", series))
}
