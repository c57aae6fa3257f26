//! The page that `ccdni report` writes: every number in it is that of a file, and nothing gets out of its place.

use std::collections::BTreeMap;

use crate::lab::Lab;

/// Two networks of three seeds, and a name that wants to be more than text.
const FILE: &str = "
name: '<b>bold & \"quoted\"</b>'
task: {kind: linedraw, train_size: 200, test_size: 20}
model:
  layers: [{cell: lstm, hidden: 12}]
train: {epochs: 2, batch_size: 4, bptt: 1, feedback_every: 2, optimizer: {kind: adam, lr: 1.0e-2}}
run: {device: cpu}
sweep:
  list:
    - {name: short}
    - {name: '<i>long</i>', set: {train.epochs: 20}}
seeds: 1..3
figure: {y: val_mse, color: [epochs]}
claims:
  - {kind: below, run: '<i>long</i>', than: short}
  - {kind: below, run: short, than: '<i>long</i>'}
";

/// A cell: its text, and the whole numbers behind it.
#[derive(Debug)]
struct Cell {
    text: String,
    values: Vec<String>,
}

/// The first table behind `mark`, header first.
fn table(html: &str, mark: &str) -> Vec<Vec<Cell>> {
    let rest = html.split_once(mark).unwrap_or_else(|| panic!("no {mark}")).1;
    let table = rest.split_once("<table>").unwrap().1.split_once("</table>").unwrap().0;
    let cell = |part: &str| {
        let inner = part.split_once('>').unwrap().1;
        let inner = inner.split("</th>").next().unwrap().split("</td>").next().unwrap();
        let values = inner.split("<data value=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        let mut text = String::new();
        let mut inside = false;
        for letter in inner.chars() {
            match letter {
                '<' => inside = true,
                '>' => inside = false,
                letter if !inside => text.push(letter),
                _ => {}
            }
        }
        Cell { values: values.collect(), text }
    };
    let row = |row: &str| row.replace("<th", "<td").split("<td").skip(1).map(cell).collect();
    table.split("<tr").skip(1).map(|text| row(&text.replace("<thead", ""))).collect()
}

fn csv(path: std::path::PathBuf) -> (Vec<String>, Vec<BTreeMap<String, String>>) {
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let rows = lines.map(|line| header.iter().cloned().zip(line).collect()).collect();
    (header, rows)
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

#[track_caller]
fn assert_close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-12 * b.abs().max(1e-12), "{a} and {b}");
}

/// What is shown is the value, to the digits that are shown.
#[track_caller]
fn assert_shown(text: &str, values: &[String]) {
    for (shown, value) in text.split(" ± ").zip(values) {
        let (shown, value) = (number(&shown.replace('\u{2212}', "-")), number(value));
        assert!((shown - value).abs() <= 6e-4 * value.abs(), "{shown} and {value}");
    }
}

fn page(lab: &Lab, arguments: &[&str]) -> String {
    lab.ccdni(&[&["report"], arguments, &["-o", "pages/page.html"]].concat()).exits(0);
    std::fs::read_to_string(lab.path("pages/page.html")).unwrap()
}

fn trained() -> Lab {
    let lab = Lab::new();
    lab.write("file.yaml", FILE);
    lab.ccdni(&["sweep", "file.yaml"]).exits(0);
    lab
}

#[test]
fn every_number_is_that_of_a_file() {
    let lab = trained();
    let html = page(&lab, &["file.yaml"]);
    let mut checked = 0;
    let summary = table(&html, "<h2>Runs</h2>");
    assert_eq!(summary.len(), 3, "{summary:?}");
    for row in &summary[1..] {
        let hash = &row[0].text;
        let run = lab.path("outputs").join(hash);
        let (header, results) = csv(run.join("results.csv"));
        assert_eq!(results.len(), 3);
        for (name, cell) in summary[0].iter().zip(row) {
            if !header.contains(&name.text)
                || ["seed", "epochs", "best_epoch", "kept_epoch"].contains(&name.text.as_str())
            {
                assert!(cell.values.is_empty());
                continue;
            }
            let values: Vec<f64> = results.iter().map(|row| number(&row[&name.text])).collect();
            let mean = values.iter().sum::<f64>() / 3.0;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 2.0;
            assert_close(number(&cell.values[0]), mean);
            assert_close(number(&cell.values[1]), (variance / 3.0).sqrt());
            assert_shown(&cell.text, &cell.values);
            checked += 2;
        }
        let seeds = table(&html, &format!("<h3 id=\"{hash}\">"));
        for (row, result) in seeds[1..].iter().zip(&results) {
            let unit: serde_json::Value = serde_json::from_slice(
                &std::fs::read(run.join(format!("seeds/{}/unit.json", result["seed"]))).unwrap(),
            )
            .unwrap();
            // The last row of what the seed itself left behind.
            let (columns, epochs) = csv(run.join(format!("seeds/{}/metrics.csv", result["seed"])));
            for (name, cell) in seeds[0].iter().map(|cell| &cell.text).zip(row) {
                match (name.as_str(), cell.values.as_slice()) {
                    ("seconds", [value]) => assert_eq!(number(value), unit["seconds"].as_f64().unwrap()),
                    (name, [value]) => {
                        assert_eq!(value, &result[name]);
                        if columns.iter().any(|column| column == name) {
                            assert_eq!(value, &epochs.last().unwrap()[name]);
                        }
                        assert_shown(&cell.text, &cell.values);
                    }
                    (name, _) if result.contains_key(name) => assert_eq!(cell.text, result[name]),
                    (name, _) => assert_eq!(cell.text, unit[name].as_str().unwrap()),
                }
                checked += cell.values.len();
            }
        }
    }
    assert_eq!(html.matches("<data value=").count(), checked, "there are numbers that nobody has checked");
    // What claims say is rounded from the same files.
    let claims = table(&html, "<h2>Claims</h2>");
    let median = |row: usize| -> f64 {
        let (_, results) = csv(lab.path("outputs").join(&summary[row][0].text).join("results.csv"));
        let mut values: Vec<f64> = results.iter().map(|row| number(&row["val_mse"])).collect();
        values.sort_by(f64::total_cmp);
        values[1]
    };
    let words: Vec<&str> = claims[1][2].text.split([' ', ',']).collect();
    for (word, value) in [(words[1], median(2)), (words[3], median(1))] {
        assert!((number(word) / value - 1.0).abs() < 1e-3, "{word} and {value}");
    }
    assert_eq!(claims[1][0].text, "pass (n.s.)", "three seeds show little");
    assert_eq!(claims[2][0].text, "FAIL");
    let manifest: serde_json::Value = serde_json::from_slice(
        &std::fs::read(lab.path("outputs").join(&summary[1][0].text).join("manifest.json")).unwrap(),
    )
    .unwrap();
    for key in ["host", "instruction_set"] {
        assert!(html.contains(manifest[key].as_str().unwrap()), "{key}");
    }
}

/// A page without its scripts.
fn without_scripts(html: &str) -> String {
    let mut parts = html.split("<script type=\"");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |html, part| html + part.split_once("</script>").unwrap().1)
}

/// The curves of a run in a page are the columns of its seeds' tables.
#[test]
fn curves_are_the_numbers_of_the_tables() {
    let lab = trained();
    let html = page(&lab, &["file.yaml"]);
    for part in html.split("data-run=\"").skip(1) {
        let run = part.split('"').next().unwrap();
        let data = part.split_once("application/json\">").unwrap().1.split_once("</script>").unwrap().0;
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["seeds"].as_object().unwrap().len(), 3);
        for (seed, columns) in data["seeds"].as_object().unwrap() {
            let (header, rows) = csv(lab.path(&format!("outputs/{run}/seeds/{seed}/metrics.csv")));
            for name in header.iter().filter(|name| *name != "seed") {
                let expected: Vec<f64> = rows.iter().map(|row| number(&row[name])).collect();
                assert_eq!(columns[name], serde_json::json!(expected), "{run} {seed} {name}");
            }
        }
    }
}

#[test]
fn the_page_stands_alone_and_text_stays_text() {
    let lab = trained();
    let whole = page(&lab, &["file.yaml"]);
    // The one script is the program's own, and the curves are numbers.
    assert_eq!(whole.matches("<script type=\"module\">").count(), 1);
    assert_eq!(whole.matches("<script type=\"application/json\">").count(), 2);
    let html = without_scripts(&whole);
    for bad in ["<script", "<b>", "<i>", "src=", "url(", "@import", "<link", "javascript:"] {
        assert!(!html.contains(bad), "{bad}");
    }
    let elsewhere = whole.replace("http://www.w3.org/2000/svg", "");
    assert!(!elsewhere.contains("http:") && !elsewhere.contains("https:"));
    assert!(
        html.contains("&lt;b&gt;bold &amp; &quot;quoted&quot;&lt;/b&gt;: &lt;i&gt;long&lt;/i&gt;"),
        "the name is there"
    );
    assert!(html.contains("ccdni sweep file.yaml\n") && html.contains("<svg"));
    // Every link within the page has its place.
    for link in html.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(html.contains(&format!("id=\"{link}\"")), "{link}");
    }
}

#[test]
fn what_is_not_trained_is_said() {
    let lab = Lab::new();
    lab.write("file.yaml", FILE);
    let html = page(&lab, &["file.yaml"]);
    assert!(html.contains("6 of the requested units are not trained") && html.contains("no unit is trained yet"));
    assert!(!lab.path("outputs").exists(), "a report writes nothing but itself");
    lab.ccdni(&["sweep", "file.yaml", "--seeds", "1,2"]).exits(0);
    let html = page(&lab, &["file.yaml"]);
    assert!(html.contains("2 of the requested units are not trained") && html.contains("<svg"));
    assert!(html.contains("2 done, 1 waiting") && html.contains("not yet asked: 2 of 3 seeds"));

    // Runs by their names: those seeds that were ever asked for.
    let said = lab.ccdni(&["compare", "file.yaml", "--seeds", "1,2", "--format", "csv"]).exits(0);
    let hash = said.lines().nth(1).unwrap().split(',').find(|cell| cell.len() == 12).unwrap().to_owned();
    let html = page(&lab, &[&hash]);
    assert!(html.contains("1 run, 2 of 2 units trained"));
    assert!(html.contains(&format!("ccdni run outputs/{hash}/spec.yaml --seeds 1,2")));
    assert!(lab.ccdni(&["report", &hash, &hash]).exits(2).contains("named twice"));
    assert!(lab.ccdni(&["report", &hash, "-o", "outputs"]).exits(2).contains("is a directory"));
    assert!(lab.ccdni(&["report", "nothing.yaml"]).exits(2).contains("nothing.yaml"));
    lab.ccdni(&["report", &hash]).exits(0);
    assert!(lab.path(&format!("outputs/reports/{hash}.html")).exists());
    assert!(lab.ccdni(&["list"]).exits(0).contains(&hash));
}
