//! Plug-ins: parts of an experiment that a spec chooses by name, such as tasks and cells.
//!
//! A plug-in is one type. Its fields are its keys in a spec, deserialised by serde and described by its JSON Schema; its
//! behaviour is a second, object-safe trait, such as `Task`. [`Kinds`] is the registry of one category of plug-ins.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Problem, Problems, Result};

/// The keys of a plug-in's table in a spec.
pub type Keys = serde_json::Map<String, Value>;

/// A part of an experiment that is chosen by name. Its fields are its keys: defaults come from serde, descriptions from doc
/// comments. Refuse unknown fields (`#[serde(deny_unknown_fields)]`).
pub trait Plugin: Serialize + DeserializeOwned + JsonSchema + 'static {
    /// Its name in a spec.
    const KIND: &'static str;
    /// A one-line description, for listings.
    const ABOUT: &'static str;

    /// Problems beyond the types and ranges of single keys; keys are relative to the plug-in's table.
    fn check(&self) -> Vec<Problem> {
        Vec::new()
    }
}

/// Names, descriptions and schemas of the plug-ins of one category.
pub trait Catalogue {
    /// Every registered name, in the order of registration.
    fn kinds(&self) -> Vec<&'static str>;

    /// The one-line description of a plug-in.
    fn about(&self, kind: &str) -> Option<&'static str>;

    /// The JSON Schema of a plug-in's keys.
    fn schema(&self, kind: &str) -> Option<Value>;

    /// A plug-in's keys with its defaults filled in.
    ///
    /// # Errors
    /// As [`Kinds::read`].
    fn fill(&self, kind: &str, keys: &Keys) -> Result<Keys, Vec<Problem>>;
}

/// The registered plug-ins of one category; `P` is their behaviour, such as `dyn Task`.
pub struct Kinds<P: ?Sized> {
    /// The category's name in messages, such as "task".
    category: &'static str,
    /// The keys that the table of every plug-in has besides the plug-in's own.
    common: Vec<String>,
    entries: Vec<Entry<P>>,
}

/// One registered plug-in, its type erased.
struct Entry<P: ?Sized> {
    kind: &'static str,
    about: &'static str,
    schema: fn() -> Value,
    read: Box<Read<P>>,
}

/// Reads and checks a plug-in's keys.
type Read<P> = dyn Fn(&Keys) -> Result<(Keys, Box<P>), Vec<Problem>> + Send + Sync;

/// The JSON Schema of a type, without references.
pub fn json_schema<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into_generator();
    generator.into_root_schema_for::<T>().to_value()
}

impl<P: ?Sized + 'static> Kinds<P> {
    /// An empty registry; `category` is its name in messages. The plug-ins' keys stand in a table of the type `Table`, whose
    /// fields are taken.
    pub fn new<Table: JsonSchema>(category: &'static str) -> Self {
        Kinds { category, common: key_names(&json_schema::<Table>()), entries: Vec::new() }
    }

    /// Adds a plug-in; `boxed` is `|plugin| Box::new(plugin)`.
    ///
    /// # Panics
    /// If its name or one of its keys is taken, which is a programming error.
    pub fn register<T: Plugin>(&mut self, boxed: fn(T) -> Box<P>) {
        let category = self.category;
        assert!(!self.kinds().contains(&T::KIND), "the {category} `{}` is registered twice", T::KIND);
        if let Some(key) = key_names(&json_schema::<T>()).into_iter().find(|key| self.common.contains(key)) {
            panic!("the {category} `{}` has a key `{key}`, which every {category}'s table has: rename it", T::KIND);
        }
        self.entries.push(Entry {
            kind: T::KIND,
            about: T::ABOUT,
            schema: json_schema::<T>,
            read: Box::new(move |keys| read(keys).map(|(keys, plugin)| (keys, boxed(plugin)))),
        });
    }

    /// The plug-in of this name with these keys, after its check; and the keys with its defaults filled in.
    ///
    /// # Errors
    /// All problems found, or that there is no such plug-in; keys are relative to the plug-in's table.
    pub fn read(&self, kind: &str, keys: &Keys) -> Result<(Keys, Box<P>), Vec<Problem>> {
        match self.entry(kind) {
            Some(entry) => (entry.read)(keys),
            None => {
                let (category, kinds) = (self.category, self.kinds().join(", "));
                Err(vec![Problem::new("", format!("there is no {category} `{kind}`; there are: {kinds}"))])
            }
        }
    }

    /// The plug-in of this name with these keys, for a spec that is resolved.
    ///
    /// # Errors
    /// [`Error::Usage`] with the problems of [`Kinds::read`].
    pub fn open(&self, kind: &str, keys: &Keys) -> Result<Box<P>> {
        let refused = |problems| Error::Usage(format!("{} `{kind}`: {}", self.category, Problems(problems)));
        self.read(kind, keys).map(|(_, plugin)| plugin).map_err(refused)
    }

    fn entry(&self, kind: &str) -> Option<&Entry<P>> {
        self.entries.iter().find(|entry| entry.kind == kind)
    }
}

impl<P: ?Sized + 'static> Catalogue for Kinds<P> {
    fn kinds(&self) -> Vec<&'static str> {
        self.entries.iter().map(|entry| entry.kind).collect()
    }

    fn about(&self, kind: &str) -> Option<&'static str> {
        self.entry(kind).map(|entry| entry.about)
    }

    fn schema(&self, kind: &str) -> Option<Value> {
        self.entry(kind).map(|entry| (entry.schema)())
    }

    fn fill(&self, kind: &str, keys: &Keys) -> Result<Keys, Vec<Problem>> {
        self.read(kind, keys).map(|(keys, _)| keys)
    }
}

/// The names of the keys in the schema of a table.
fn key_names(schema: &Value) -> Vec<String> {
    schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

fn read<T: Plugin>(keys: &Keys) -> Result<(Keys, T), Vec<Problem>> {
    let unreadable = |error: serde_json::Error| vec![Problem::new("", error.to_string())];
    let plugin: T = serde_json::from_value(Value::Object(keys.clone())).map_err(unreadable)?;
    let problems = plugin.check();
    if !problems.is_empty() {
        return Err(problems);
    }
    match serde_json::to_value(&plugin).map_err(unreadable)? {
        Value::Object(keys) => Ok((keys, plugin)),
        _ => Err(vec![Problem::new("", format!("`{}` is not a table of keys", T::KIND))]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    trait Animal {
        fn legs(&self) -> usize;
    }

    /// An insect.
    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    struct Insect {
        /// Legs that it has lost.
        lost: usize,
    }

    impl Plugin for Insect {
        const KIND: &'static str = "insect";
        const ABOUT: &'static str = "six legs";

        fn check(&self) -> Vec<Problem> {
            if self.lost > 6 { vec![Problem::new("lost", "there are only 6")] } else { Vec::new() }
        }
    }

    impl Animal for Insect {
        fn legs(&self) -> usize {
            6 - self.lost
        }
    }

    /// The table of an animal.
    #[derive(JsonSchema)]
    #[allow(dead_code)] // only its schema is used
    struct Table {
        kind: String,
        name: String,
    }

    fn animals() -> Kinds<dyn Animal> {
        let mut animals = Kinds::<dyn Animal>::new::<Table>("animal");
        animals.register::<Insect>(|insect| Box::new(insect));
        animals
    }

    fn keys(value: Value) -> Keys {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn a_plugin_is_found_by_name_filled_in_and_opened() -> Result<()> {
        let animals = animals();
        assert_eq!(animals.kinds(), ["insect"]);
        assert_eq!(animals.about("insect"), Some("six legs"));
        assert_eq!(animals.fill("insect", &Keys::new()).ok(), Some(keys(json!({"lost": 0}))));
        assert_eq!(animals.open("insect", &keys(json!({"lost": 1})))?.legs(), 5);
        let described = &animals.schema("insect").unwrap()["properties"]["lost"]["description"];
        assert_eq!(described, "Legs that it has lost.");
        Ok(())
    }

    #[test]
    fn problems_with_keys_are_reported() {
        let animals = animals();
        let problem = |kind: &str, value: Value| {
            let problems = animals.fill(kind, &keys(value)).unwrap_err();
            problems.into_iter().map(|problem| (problem.key, problem.message)).next().unwrap()
        };
        assert_eq!(problem("insect", json!({"lost": 7})), ("lost".into(), "there are only 6".into()));
        assert!(problem("insect", json!({"lots": 7})).1.contains("unknown field `lots`"));
        assert_eq!(problem("bird", json!({})).1, "there is no animal `bird`; there are: insect");
        for (kind, value) in [("bird", json!({})), ("insect", json!({"lost": 7}))] {
            assert!(animals.open(kind, &keys(value)).is_err(), "an invalid {kind} is not opened");
        }
    }

    #[test]
    #[should_panic(expected = "the animal `pet` has a key `name`")]
    fn a_key_of_the_table_is_no_key_of_a_plugin() {
        /// An animal with a name.
        #[derive(Serialize, Deserialize, JsonSchema)]
        struct Pet {
            /// Its name.
            name: String,
        }
        impl Plugin for Pet {
            const KIND: &'static str = "pet";
            const ABOUT: &'static str = "an animal with a name";
        }
        impl Animal for Pet {
            fn legs(&self) -> usize {
                4
            }
        }
        animals().register::<Pet>(|pet| Box::new(pet));
    }
}
