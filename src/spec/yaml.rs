//! Parsing and writing YAML: the only module that uses `serde_yaml`.

use std::sync::LazyLock;

use figment::value::{Dict, Empty, Tag, Value};
use regex::{Captures, Regex};
use serde::de::{DeserializeSeed, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::{Deserializer, Serialize};

use super::Spec;

/// Most brackets within brackets, those in texts included.
const DEEPEST: usize = 1000;

/// Most values of a text.
const MOST_VALUES: usize = 100_000;

/// A YAML error, with its line and column (from 1) if known.
#[derive(Debug)]
pub(super) struct BadYaml {
    pub message: String,
    pub place: Option<(usize, usize)>,
}

/// Parses one YAML document. An empty text is null.
pub(super) fn parse(text: &str) -> Result<Value, BadYaml> {
    let bad = |error: serde_yaml::Error| BadYaml {
        place: error.location().map(|at| (at.line(), at.column())),
        message: without_place(&error),
    };
    if nesting(text) > DEEPEST {
        let message = format!("brackets within brackets, more than {DEEPEST} levels deep");
        return Err(BadYaml { message, place: None });
    }
    let mut left = MOST_VALUES;
    // Whatever else is wrong is an error below; no text at all is not.
    if let (Err(error), 0) = (Count(&mut left).deserialize(serde_yaml::Deserializer::from_str(text)), left) {
        return Err(bad(error));
    }
    let mut value: serde_yaml::Value = serde_yaml::from_str(text).map_err(bad)?;
    value.apply_merge().map_err(bad)?;
    convert(value, "").map_err(|message| BadYaml { message, place: None })
}

/// The most brackets that are open at once. The parser takes time with the square of it, and only then refuses what is nested too deeply.
fn nesting(text: &str) -> usize {
    let (mut open, mut most) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// Counts the values of a text down to an error. An alias counts as all that it stands for: of a short text these may be billions.
struct Count<'a>(&'a mut usize);

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let too_many = || D::Error::custom(format!("more than {MOST_VALUES} values"));
        *self.0 = self.0.checked_sub(1).ok_or_else(too_many)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    /// An empty text.
    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i128<E>(self, _: i128) -> Result<(), E> {
        Ok(())
    }

    fn visit_u128<E>(self, _: u128) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Count(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while entries.next_key_seed(Count(self.0))?.is_some() {
            entries.next_value_seed(Count(self.0))?;
        }
        Ok(())
    }

    /// A tag, and the value after it.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        let (_, value) = tagged.variant::<IgnoredAny>()?;
        value.newtype_variant_seed(Count(self.0))
    }
}

/// The message of an error without its " at line 3 column 5", which `place` has.
fn without_place(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    match error.location() {
        Some(at) => text.replace(&format!(" at line {} column {}", at.line(), at.column()), ""),
        None => text,
    }
}

fn convert(value: serde_yaml::Value, path: &str) -> Result<Value, String> {
    use serde_yaml::Value as Yaml;
    let tag = Tag::Default;
    Ok(match value {
        Yaml::Null => Value::Empty(tag, Empty::Unit),
        Yaml::Bool(value) => Value::Bool(tag, value),
        Yaml::String(text) => Value::String(tag, text),
        Yaml::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(n), ..) => Value::from(n),
            (_, Some(n), _) => Value::from(n),
            (.., n) => Value::from(n.unwrap_or(f64::NAN)),
        },
        Yaml::Sequence(items) => Value::Array(
            tag,
            items
                .into_iter()
                .enumerate()
                .map(|(index, item)| convert(item, &join(path, &index.to_string())))
                .collect::<Result<_, _>>()?,
        ),
        Yaml::Mapping(entries) => {
            let mut dict = Dict::new();
            for (key, item) in entries {
                let key = match key {
                    Yaml::String(text) => text,
                    Yaml::Number(number) if number.is_u64() => number.to_string(),
                    other => {
                        return Err(format!("{} is no key: keys are words, or numbers of list items", line(&other)));
                    }
                };
                let path = join(path, &key);
                let item = convert(item, &path)?;
                if dict.insert(key, item).is_some() {
                    return Err(format!("`{path}` is given twice"));
                }
            }
            Value::Dict(tag, dict)
        }
        Yaml::Tagged(tagged) => return Err(format!("the tag `{}` has no meaning here: leave it out", tagged.tag)),
    })
}

/// A path with one more key.
pub(super) fn join(path: &str, key: &str) -> String {
    let dot = if path.is_empty() || key.is_empty() { "" } else { "." };
    format!("{path}{dot}{key}")
}

/// A resolved spec as YAML.
pub(crate) fn write_spec(spec: &Spec) -> String {
    let value = serde_yaml::to_value(spec).unwrap_or_default();
    let text = write(&value);
    // YAML 1.1 parsers, such as Python's, read `1e-9` as text: floats need a point and a signed exponent.
    static NUMBER: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?m)^(\s*(?:- )*(?:[\w-]+: )?-?\d+)(\.\d+)?e(-?)(\d+)$").ok());
    let Some(number) = &*NUMBER else { return text };
    let plain = number.replace_all(&text, |found: &Captures| {
        let part = |index| found.get(index).map_or("", |part| part.as_str());
        let or = |part: &'static str, index| if found.get(index).is_none_or(|f| f.is_empty()) { part } else { "" };
        format!("{}{}{}e{}{}{}", part(1), or(".0", 2), part(2), or("+", 3), part(3), part(4))
    });
    // The match may be a line within a multi-line text.
    let same = serde_yaml::from_str::<serde_yaml::Value>(&plain).is_ok_and(|read| read == value);
    if same { plain.into_owned() } else { text }
}

/// Parses the output of [`write_spec`], without merging or validation.
pub(super) fn read_spec(text: &str) -> Result<Spec, String> {
    serde_yaml::from_str(text).map_err(|error| error.to_string())
}

/// A value as YAML text.
pub(super) fn write<T: Serialize>(value: &T) -> String {
    // Tables with text keys can always be serialised.
    serde_yaml::to_string(value).unwrap_or_default()
}

/// A value as YAML on one line.
pub(crate) fn whole_line<T: Serialize>(value: &T) -> String {
    let text = match serde_json::to_value(value) {
        // JSON is valid YAML, and the only one-line form of these here.
        Ok(json @ (serde_json::Value::Array(_) | serde_json::Value::Object(_))) => json.to_string(),
        _ => write(value).trim_end().to_owned(),
    };
    text.replace('\n', " ")
}

/// A value as YAML on one line for messages, truncated if long.
pub(crate) fn line<T: Serialize>(value: &T) -> String {
    const LONGEST: usize = 60;
    let text = whole_line(value);
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        parse(text).unwrap_err().message
    }

    #[test]
    fn numbers_are_parsed_exactly() {
        let Ok(Value::Array(_, items)) = parse("[1e-3, 1.0e-3, 18446744073709551615, -1, 5.0]") else { panic!() };
        let floats: Vec<Option<f64>> = items.iter().map(Value::to_num).map(|n| n.and_then(|n| n.to_f64())).collect();
        assert_eq!((floats[0], floats[1], floats[4]), (Some(1e-3), Some(1e-3), Some(5.0)));
        assert_eq!(items[2].to_u128(), Some(u128::from(u64::MAX)));
        assert_eq!(items[3].to_i128(), Some(-1));
    }

    #[test]
    fn an_empty_text_is_null_and_anchors_work() {
        assert!(matches!(parse("# nothing\n"), Ok(Value::Empty(..))));
        let merged = parse("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}").unwrap();
        assert_eq!(merged.find_ref("b.x").and_then(Value::to_u128), Some(1));
        assert_eq!(merged.find_ref("b.y").and_then(Value::to_u128), Some(3));
    }

    #[test]
    fn unsupported_yaml_is_refused() {
        assert!(message("a: 1\na: 2").contains("duplicate"));
        assert!(message("{0: a, '0': b}").contains("`0` is given twice"));
        assert!(message("true: 1").contains("no key"));
        assert!(message("a: !b c").contains("!b"));
        assert!(message("a: !b [c]").contains("!b"));
        assert!(message(&"[".repeat(100_000)).contains("more than 1000 levels"));
        let aliases = "a: &a [1, 1, 1, 1]\nb: &b [*a, *a, *a, *a]\nc: [".to_owned() + &"*b, ".repeat(6000) + "]";
        assert!(message(&aliases).contains("more than 100000 values"));
        let broken = parse("a: 1\nb: [1, 2").unwrap_err();
        assert!(broken.place.is_some() && !broken.message.contains("at line 3"), "{broken:?}");
    }

    #[test]
    fn one_line_shows_the_value_as_it_could_be_written() {
        assert_eq!(line(&parse("'5'").unwrap()), "'5'");
        assert_eq!(line(&parse("word").unwrap()), "word");
        assert_eq!(line(&parse("[1, {a: b}]").unwrap()), r#"[1,{"a":"b"}]"#);
        assert!(line(&"x".repeat(100)).ends_with("..."));
    }
}
