//! Values with several notations: seeds, jobs, checkpoint intervals, window lengths.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Bptt, CheckpointEvery, Count, Seeds};

/// Upper limit, to catch typing errors such as `1..1000000000`.
const MOST_SEEDS: usize = 100_000;

/// The longest checkpoint interval: a year, in milliseconds.
const LONGEST_INTERVAL: u64 = 365 * 24 * 3_600_000;

/// A list item: a seed, or a range of seeds.
#[derive(Deserialize)]
#[serde(untagged)]
enum SeedItem {
    Number(u64),
    Range(String),
}

/// The value of `seeds`.
#[derive(Deserialize)]
#[serde(untagged)]
enum SeedList {
    Range(String),
    Items(Vec<SeedItem>),
}

impl Seeds {
    /// Checks that there is at least one seed, and no duplicates.
    fn checked(seeds: Vec<u64>) -> Result<Self, String> {
        if seeds.is_empty() {
            return Err("expected at least one seed, such as `[1]` or `1..10`".into());
        }
        let mut sorted = seeds.clone();
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("seed {} is named twice; every seed is trained once", pair[0])),
            None => Ok(Seeds(seeds)),
        }
    }

    /// Appends one seed or range.
    fn push(seeds: &mut Vec<u64>, text: &str) -> Result<(), String> {
        let text = text.trim();
        let number = |part: &str| {
            let part = part.trim();
            part.parse::<u64>().map_err(|_| {
                format!(
                    "`{part}` is no seed: expected whole numbers such as `3`, or a range with both ends such as `1..10`"
                )
            })
        };
        let (first, last) = match text.split_once("..") {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(text)?, number(text)?),
        };
        if first > last {
            return Err(format!("the range `{text}` runs backwards: write `{last}..{first}`"));
        }
        if last - first >= (MOST_SEEDS - seeds.len().min(MOST_SEEDS)) as u64 {
            return Err(format!("`{text}` makes more than {MOST_SEEDS} seeds"));
        }
        seeds.extend(first..=last);
        Ok(())
    }
}

impl FromStr for Seeds {
    type Err = String;

    /// Parses a flag's value: `3`, `1..10`, `1,2,7..9`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut seeds = Vec::new();
        for item in text.split(',') {
            Seeds::push(&mut seeds, item)?;
        }
        Seeds::checked(seeds)
    }
}

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, seed) in self.0.iter().enumerate() {
            write!(f, "{}{seed}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Serialize for Seeds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Seeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut seeds = Vec::new();
        match SeedList::deserialize(deserializer)? {
            SeedList::Range(text) => Seeds::push(&mut seeds, &text).map_err(D::Error::custom)?,
            SeedList::Items(items) => {
                for item in items {
                    match item {
                        SeedItem::Number(seed) => seeds.push(seed),
                        SeedItem::Range(text) => Seeds::push(&mut seeds, &text).map_err(D::Error::custom)?,
                    }
                }
            }
        }
        Seeds::checked(seeds).map_err(D::Error::custom)
    }
}

impl JsonSchema for Seeds {
    fn schema_name() -> Cow<'static, str> {
        "Seeds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let range = serde_json::json!({
            "description": "a range with both ends, such as `1..10`",
            "type": "string",
            "pattern": r"^\s*[0-9]+\s*\.\.\s*[0-9]+\s*$"
        });
        json_schema!({
            "anyOf": [
                {
                    "description": "a list of whole numbers, such as `[1, 2]`",
                    "type": "array",
                    "minItems": 1,
                    "items": { "anyOf": [{ "type": "integer", "minimum": 0 }, &range] }
                },
                &range,
            ]
        })
    }
}

/// A number or a word.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(usize),
    Text(String),
}

/// The largest [`Count`].
const MOST: usize = 1024;

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text.trim(), text.trim().parse()) {
            ("auto", _) => Ok(Count::Auto),
            (_, Ok(count)) if (1..=MOST).contains(&count) => Ok(Count::Number(count)),
            _ => Err(format!("`{text}`: expected `auto` or a whole number from 1 to {MOST}")),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Count::Auto => f.write_str("auto"),
            Count::Number(count) => count.fmt(f),
        }
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Count::Auto => serializer.serialize_str("auto"),
            Count::Number(count) => count.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(count) => count.to_string().parse(),
            NumberOrText::Text(text) => text.parse(),
        }
        .map_err(D::Error::custom)
    }
}

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let number = json_schema!({ "type": "integer", "minimum": 1, "maximum": MOST });
        json_schema!({ "anyOf": [number, { "type": "string", "const": "auto" }] })
    }
}

/// The table form of a checkpoint interval.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EveryEpochs {
    epochs: usize,
}

/// The value of `run.checkpoint_every`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Interval {
    Time(String),
    Epochs(EveryEpochs),
}

/// Milliseconds in each unit, the largest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl FromStr for CheckpointEvery {
    type Err = String;

    /// Parses a duration: `500ms`, `10s`, `5m`, `1h`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = UNITS.iter().find(|(name, _)| *name == unit.trim()).map(|(_, factor)| *factor);
        match (number.parse::<f64>(), factor) {
            (Ok(number), Some(factor)) => {
                let milliseconds = (number * factor as f64).round() as u64;
                if milliseconds > LONGEST_INTERVAL {
                    return Err(format!("`{text}` is longer than a year"));
                }
                Ok(CheckpointEvery::Time(Duration::from_millis(milliseconds)))
            }
            _ => Err(format!(
                "`{text}` is no duration: expected a number with a unit, such as `500ms`, `10s`, `5m`, `1h`"
            )),
        }
    }
}

impl Serialize for CheckpointEvery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            CheckpointEvery::Epochs(epochs) => EveryEpochs { epochs: *epochs }.serialize(serializer),
            CheckpointEvery::Time(time) => {
                let milliseconds = u64::try_from(time.as_millis()).unwrap_or(LONGEST_INTERVAL);
                let fits = |(_, factor): &&(&str, u64)| milliseconds > 0 && milliseconds.is_multiple_of(*factor);
                let (unit, factor) = UNITS.iter().find(fits).unwrap_or(&UNITS[2]);
                serializer.serialize_str(&format!("{}{unit}", milliseconds / factor))
            }
        }
    }
}

impl<'de> Deserialize<'de> for CheckpointEvery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Interval::deserialize(deserializer)? {
            Interval::Time(text) => text.parse().map_err(D::Error::custom),
            Interval::Epochs(every) => Ok(CheckpointEvery::Epochs(every.epochs)),
        }
    }
}

impl JsonSchema for CheckpointEvery {
    fn schema_name() -> Cow<'static, str> {
        "CheckpointEvery".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                {
                    "description": "a duration such as `500ms`, `10s`, `5m`, `1h`",
                    "type": "string",
                    "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(ms|s|m|h)\s*$"
                },
                {
                    "type": "object",
                    "properties": { "epochs": { "type": "integer", "minimum": 1 } },
                    "required": ["epochs"],
                    "additionalProperties": false
                },
            ]
        })
    }
}

impl Bptt {
    /// The percentage if this is one: `20.0` for `"20%"`.
    pub fn percent(&self) -> Option<f64> {
        match self {
            Bptt::Steps(_) => None,
            Bptt::Percent(text) => text.trim().strip_suffix('%')?.trim().parse().ok(),
        }
    }

    /// Window length in steps, clamped to `1..=steps`, for a sequence of `steps`; a percentage is rounded.
    pub fn steps(&self, steps: usize) -> usize {
        let window = match self {
            Bptt::Steps(window) => *window,
            Bptt::Percent(_) => (self.percent().unwrap_or(100.0) * steps as f64 / 100.0).round() as usize,
        };
        window.clamp(1, steps.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
        serde_yaml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn seeds_are_lists_and_ranges_with_both_ends() {
        assert_eq!(yaml::<Seeds>("1..3").unwrap().0, [1, 2, 3]);
        assert_eq!(yaml::<Seeds>("[7, 1..3, 18446744073709551615]").unwrap().0, [7, 1, 2, 3, u64::MAX]);
        assert_eq!("3".parse::<Seeds>().unwrap().0, [3]);
        assert_eq!(" 1, 4..5 ".parse::<Seeds>().unwrap().0, [1, 4, 5]);
        assert_eq!("4,1..2".parse::<Seeds>().unwrap().to_string(), "4,1,2");
    }

    #[test]
    fn invalid_seeds_are_refused() {
        for (text, expected) in [
            ("[]", "at least one"),
            ("[1, 2, 1]", "twice"),
            ("[1..3, 2]", "twice"),
            ("3..1", "1..3"),
            ("0..18446744073709551615", "more than"),
            ("a..b", "`a`"),
        ] {
            let error = yaml::<Seeds>(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!("".parse::<Seeds>().is_err() && "1-3".parse::<Seeds>().is_err() && "1..".parse::<Seeds>().is_err());
    }

    #[test]
    fn intervals_survive_writing_and_reading() {
        for (text, milliseconds, written) in
            [("10s", 10_000, "10s"), ("1.5s", 1500, "1500ms"), ("120m", 7_200_000, "2h"), ("0s", 0, "0s")]
        {
            let read = yaml::<CheckpointEvery>(text).unwrap();
            assert_eq!(read, CheckpointEvery::Time(Duration::from_millis(milliseconds)));
            assert_eq!(serde_json::to_value(read).unwrap(), written);
        }
        assert_eq!(yaml::<CheckpointEvery>("{epochs: 3}").unwrap(), CheckpointEvery::Epochs(3));
        assert!("10".parse::<CheckpointEvery>().is_err() && "999999999h".parse::<CheckpointEvery>().is_err());
    }

    #[test]
    fn jobs_are_auto_or_a_count() {
        assert_eq!(yaml::<Count>("auto").unwrap(), Count::Auto);
        assert_eq!(yaml::<Count>("2").unwrap(), Count::Number(2));
        assert!(yaml::<Count>("0").is_err() && yaml::<Count>("many").is_err());
        assert_eq!("3".parse(), Ok(Count::Number(3)));
        assert!(["0", "-1", "many", ""].iter().all(|bad| bad.parse::<Count>().is_err()));
    }

    #[test]
    fn a_percentage_is_rounded_and_at_least_one_step() {
        let steps = |text: &str, of| Bptt::Percent(text.into()).steps(of);
        assert_eq!((steps("20%", 10), steps("25 %", 10), steps("1%", 10), steps("100%", 10)), (2, 3, 1, 10));
        assert_eq!((Bptt::Steps(3).steps(10), Bptt::Steps(30).steps(10)), (3, 10));
    }
}
