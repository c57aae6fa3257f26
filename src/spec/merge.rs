//! Merging a stronger layer into a weaker one.
//!
//! Tables merge. `null` removes the value of weaker layers, so that the default applies. Lists replace, except that a table whose
//! keys are all whole numbers merges into the items with those indices. A stronger layer that changes the form of a table (its
//! selector, such as `kind` or `cell`) drops the keys that weaker layers set, except those common to all forms. Every value keeps
//! the tag of the layer that set it.

use std::collections::BTreeMap;

use figment::value::{Dict, Tag, Value};
use serde_json::Value as Json;

use super::forms::{Forms, below};
use super::yaml::join;
use crate::error::Problem;

/// Merges values, and collects problems.
pub(super) struct Merge<'a> {
    root: Declared<'a>,
    /// Problems with the tag of the layer that caused each.
    pub problems: Vec<(Problem, Tag)>,
    /// Paths removed by a `null` and not set again, with the tag of its layer.
    pub removed: BTreeMap<String, Tag>,
}

/// What is declared at a path.
#[derive(Clone, Copy)]
struct Declared<'a> {
    schema: &'a Json,
    /// The value that `null` restores.
    default: Option<&'a Value>,
}

impl<'a> Declared<'a> {
    /// The default of a key.
    fn default_of(self, key: &str) -> Option<&'a Value> {
        self.default?.as_dict()?.get(key)
    }
}

impl<'a> Merge<'a> {
    /// A merge of layers of a value with this schema; `defaults` are the values that `null` restores.
    pub fn new(schema: &'a Json, defaults: &'a Value) -> Self {
        let root = Declared { schema, default: Some(defaults) };
        Merge { root, problems: Vec::new(), removed: BTreeMap::new() }
    }

    /// Merges the layer `over` into `base`.
    pub fn layer(&mut self, base: Value, over: Value) -> Value {
        self.value(Some(base), over, self.root, "").unwrap_or_else(|| Dict::new().into())
    }

    fn value(&mut self, base: Option<Value>, over: Value, declared: Declared<'_>, path: &str) -> Option<Value> {
        self.clear_removed(path, &over);
        let default = declared.default;
        match over {
            Value::Empty(tag, _) => {
                self.removed.insert(path.to_owned(), tag);
                default.cloned()
            }
            Value::Dict(tag, over) => Some(match base {
                Some(Value::Array(list_tag, items)) if is_item_table(&over) => {
                    Value::Array(list_tag, self.items(items, over, tag, declared, path))
                }
                Some(Value::Dict(base_tag, base)) => {
                    // A table that only the defaults had takes its origin from this layer.
                    let tag = if default.is_some_and(|d| d.tag() == base_tag) { tag } else { base_tag };
                    Value::Dict(tag, self.table(base, over, declared, path))
                }
                _ => Value::Dict(tag, self.table(Dict::new(), over, declared, path)),
            }),
            Value::Array(tag, items) => {
                let fresh = |(index, item): (usize, Value)| self.fresh(item, declared, path, &index.to_string());
                Some(Value::Array(tag, items.into_iter().enumerate().map(fresh).collect()))
            }
            scalar => Some(scalar),
        }
    }

    /// Clears the removal of a path, and of those below it unless a table is merged into the existing one.
    fn clear_removed(&mut self, path: &str, over: &Value) {
        let below = |key: &str| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        self.removed.retain(|key, _| key != path && (over.as_dict().is_some() || !below(key)));
    }

    /// An item of a list that replaces another: a `null` within its tables has nothing to remove, and is dropped; a `null` item
    /// itself is kept, for schema validation to reject.
    fn fresh(&mut self, item: Value, list: Declared<'_>, path: &str, index: &str) -> Value {
        match item {
            Value::Empty(..) => item,
            item => self.value(None, item.clone(), item_of(list, index), &join(path, index)).unwrap_or(item),
        }
    }

    fn table(&mut self, mut base: Dict, over: Dict, declared: Declared<'_>, path: &str) -> Dict {
        let forms = Forms::of(declared.schema);
        let word = forms.as_ref().and_then(|forms| change_form(&mut base, &over, forms, declared));
        // The defaults of one form do not apply to another; serde fills those in.
        let defaults_apply = |key: &str| {
            let Some(forms) = &forms else { return true };
            forms.is_common(key) || declared.default_of(forms.selector).and_then(Value::as_str) == word.as_deref()
        };
        for (key, value) in over {
            let schema = below(declared.schema, &key, |_| word.as_deref()).unwrap_or(&Json::Null);
            let default = declared.default_of(&key).filter(|_| defaults_apply(&key));
            let merged = self.value(base.remove(&key), value, Declared { schema, default }, &join(path, &key));
            if let Some(merged) = merged {
                base.insert(key, merged);
            }
        }
        base
    }

    fn items(&mut self, mut items: Vec<Value>, over: Dict, tag: Tag, list: Declared<'_>, path: &str) -> Vec<Value> {
        let length = items.len();
        for (key, value) in over {
            let path = join(path, &key);
            let Some(item) = key.parse::<usize>().ok().and_then(|index| items.get_mut(index)) else {
                let counted = if length == 1 { "1 item".into() } else { format!("{length} items") };
                let problem = Problem::new(path, format!("index {key} is beyond the end: the list has {counted}"));
                let last = match length {
                    0 => "write".into(),
                    1 => "its only item is 0; write".into(),
                    _ => format!("count from 0 up to {}, or write", length - 1),
                };
                self.problems.push((problem.help(format!("{last} the whole list to make it longer")), tag));
                continue;
            };
            if matches!(value, Value::Empty(..)) {
                let problem = Problem::new(path, "`null` restores a default, and an item of a list has none");
                self.problems.push((problem.help("write the whole list without that item"), tag));
                continue;
            }
            let base = std::mem::replace(item, Value::from(false));
            let base = Some(base).filter(|base| !matches!(base, Value::Empty(..)));
            if let Some(merged) = self.value(base, value, item_of(list, &key), &path) {
                *item = merged;
            }
        }
        items
    }
}

/// What is declared for an item of a list; it has no default.
fn item_of<'a>(list: Declared<'a>, index: &str) -> Declared<'a> {
    Declared { schema: below(list.schema, index, |_| None).unwrap_or(&Json::Null), default: None }
}

/// Removes from `base` what does not belong to the form that it has with `over`, and returns that form's name. A table whose form
/// was not known before keeps its keys.
fn change_form(base: &mut Dict, over: &Dict, forms: &Forms, declared: Declared<'_>) -> Option<String> {
    let default = declared.default_of(forms.selector).and_then(Value::as_str);
    let default_word = default.or(forms.default());
    let before = base.get(forms.selector).and_then(Value::as_str).or(default_word).map(str::to_owned);
    let after = match over.get(forms.selector) {
        None => return before,
        Some(Value::Empty(..)) => default_word.map(str::to_owned),
        Some(word) => word.as_str().map(str::to_owned),
    };
    if before.is_some() && before != after {
        base.retain(|key, _| forms.is_common(key));
        if default.is_some() && default == after.as_deref() {
            for (key, value) in declared.default.and_then(Value::as_dict).into_iter().flatten() {
                base.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    }
    after
}

/// Whether a table addresses list items: its keys are all whole numbers.
pub(super) fn is_item_table(table: &Dict) -> bool {
    !table.is_empty() && table.keys().all(|key| key.bytes().all(|byte| byte.is_ascii_digit()) && !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::yaml::{line, parse};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// Tables with forms: alternatives with a default (`o`) and without one (`e`), and tables with common keys (`l`, and `d` within).
    fn schema() -> Json {
        let form =
            |selector: &str, word: &str, key: &str| json!({ "properties": { selector: { "const": word }, key: {} } });
        json!({ "properties": {
            "o": { "oneOf": [form("kind", "adam", "lr"), form("kind", "sgd", "m")] },
            "e": { "anyOf": [{ "oneOf": [form("kind", "x", "m"), form("kind", "y", "m")] }, { "type": "null" }] },
            "l": { "items": {
                "properties": {
                    "cell": {}, "hidden": {},
                    "d": {
                        "properties": { "kind": { "default": "mlp" }, "scale": {} },
                        "oneOf": [form("kind", "mlp", "units"), form("kind", "other", "width")],
                    },
                },
                "oneOf": [form("cell", "lstm", "forget"), form("cell", "leaky", "tau")],
            } },
        } })
    }

    fn merge_all(layers: &[&str]) -> (Value, Vec<String>) {
        let (schema, defaults) = (schema(), parse("{o: {kind: adam, lr: 1}, n: 1}").unwrap());
        let mut merge = Merge::new(&schema, &defaults);
        let value = layers.iter().fold(defaults.clone(), |base, over| merge.layer(base, parse(over).unwrap()));
        (value, merge.problems.into_iter().map(|(problem, _)| problem.to_string()).collect())
    }

    fn merged(layers: &[&str]) -> (String, Vec<String>) {
        let (value, problems) = merge_all(layers);
        (line(&value), problems)
    }

    #[test]
    fn laws() {
        for (layers, expected, why) in [
            (
                vec!["{a: {b: 1}}", "{a: {c: 2}}"],
                r#"{"a":{"b":1,"c":2},"n":1,"o":{"kind":"adam","lr":1}}"#,
                "tables merge",
            ),
            (vec!["{n: 2}", "{n: null}"], r#"{"n":1,"o":{"kind":"adam","lr":1}}"#, "null restores the default"),
            (
                vec!["{o: {kind: sgd, lr: null, m: null}}"],
                r#"{"n":1,"o":{"kind":"sgd"}}"#,
                "another kind has its own defaults",
            ),
            (vec!["{o: {lr: 2}}", "{o: {lr: null}}"], r#"{"n":1,"o":{"kind":"adam","lr":1}}"#, "the same kind"),
            (vec!["{a: 2}", "{a: null}"], r#"{"n":1,"o":{"kind":"adam","lr":1}}"#, "null removes"),
            (vec!["{n: {x: null, y: 1}}"], r#"{"n":{"y":1},"o":{"kind":"adam","lr":1}}"#, "null over nothing"),
            (vec!["{n: [1, 2, 3]}", "{n: [4]}"], r#"{"n":[4],"o":{"kind":"adam","lr":1}}"#, "lists replace"),
            (
                vec!["{n: [1, {a: 1}]}", "{n: {1: {b: 2}}}"],
                r#"{"n":[1,{"a":1,"b":2}],"o":{"kind":"adam","lr":1}}"#,
                "items merge",
            ),
            (
                vec!["{n: [{a: 1}]}", "{n: {0: {a: null}}}"],
                r#"{"n":[{}],"o":{"kind":"adam","lr":1}}"#,
                "null in an item",
            ),
            (
                vec!["{n: [{a: null}]}", "{n: {0: {a: {b: 1}}}}"],
                r#"{"n":[{"a":{"b":1}}],"o":{"kind":"adam","lr":1}}"#,
                "a null table is made",
            ),
            (
                vec!["{o: {lr: 2}}", "{o: {kind: adam}}"],
                r#"{"n":1,"o":{"kind":"adam","lr":2}}"#,
                "the same kind drops nothing",
            ),
            (
                vec!["{o: {lr: 2}}", "{o: {kind: sgd}}"],
                r#"{"n":1,"o":{"kind":"sgd"}}"#,
                "another kind drops its siblings",
            ),
            (
                vec!["{o: {kind: sgd, m: 1}}", "{o: {kind: adam}}"],
                r#"{"n":1,"o":{"kind":"adam","lr":1}}"#,
                "back to the default kind",
            ),
            (vec!["{o: {kind: sgd, m: 1}}", "{o: {kind: null}}"], r#"{"n":1,"o":{"kind":"adam","lr":1}}"#, "null kind"),
            (
                vec!["{e: {kind: x, m: 1}}", "{e: {kind: null}}"],
                r#"{"e":{},"n":1,"o":{"kind":"adam","lr":1}}"#,
                "no default kind",
            ),
            (
                vec!["{e: {m: 1}}", "{e: {kind: y}}"],
                r#"{"e":{"kind":"y","m":1},"n":1,"o":{"kind":"adam","lr":1}}"#,
                "the first kind",
            ),
            (
                vec!["{a: {kind: x, m: 1}}", "{a: {kind: y}}"],
                r#"{"a":{"kind":"y","m":1},"n":1,"o":{"kind":"adam","lr":1}}"#,
                "a key that the schema does not know as a selector",
            ),
        ] {
            assert_eq!(merged(&layers), (expected.to_owned(), vec![]), "{why}");
        }
    }

    #[test]
    fn another_form_keeps_the_keys_common_to_all() {
        let item = |layers: &[&str]| {
            let layers: Vec<String> = layers.iter().map(|layer| format!("{{l: {{0: {layer}}}}}")).collect();
            let all: Vec<&str> = std::iter::once("{l: [{}]}").chain(layers.iter().map(String::as_str)).collect();
            let value = merge_all(&all).0;
            serde_json::to_string(&value.find_ref("l").unwrap().as_array().unwrap()[0]).unwrap()
        };
        for (layers, expected, why) in [
            (
                ["{cell: lstm, hidden: 3, forget: 1, d: {units: 2}}", "{cell: leaky, tau: 4}"],
                r#"{"cell":"leaky","d":{"units":2},"hidden":3,"tau":4}"#,
                "another cell",
            ),
            (["{cell: lstm, forget: 1}", "{cell: lstm}"], r#"{"cell":"lstm","forget":1}"#, "the same cell"),
            (["{hidden: 3, forget: 1}", "{cell: lstm}"], r#"{"cell":"lstm","forget":1,"hidden":3}"#, "the first cell"),
            (["{cell: lstm, hidden: 3, forget: 1}", "{cell: null}"], r#"{"hidden":3}"#, "no cell"),
            (
                ["{d: {scale: 1, units: 2}}", "{d: {kind: other, width: 3}}"],
                r#"{"d":{"kind":"other","scale":1,"width":3}}"#,
                "other than the default kind",
            ),
            (
                ["{d: {scale: 1, units: 2}}", "{d: {kind: mlp}}"],
                r#"{"d":{"kind":"mlp","scale":1,"units":2}}"#,
                "the default kind",
            ),
            (
                ["{d: {kind: other, scale: 1, width: 2}}", "{d: {kind: null}}"],
                r#"{"d":{"scale":1}}"#,
                "null is the default kind",
            ),
            (
                ["{d: {scale: 1, units: 2}}", "{d: {kind: null}}"],
                r#"{"d":{"scale":1,"units":2}}"#,
                "null over the default kind",
            ),
        ] {
            assert_eq!(item(&layers), expected, "{why}");
        }
    }

    #[test]
    fn items_that_are_not_there_are_named() {
        let (value, problems) = merged(&["{n: [1]}", "{n: {1: 2}}", "{n: {0: null}}"]);
        assert!(value.starts_with(r#"{"n":[1]"#));
        assert!(problems[0].contains("`n.1`") && problems[0].contains("1 item"), "{problems:?}");
        assert!(problems[1].contains("`n.0`"), "{problems:?}");
    }

    /// A table of two forms, with two common keys, whose keys are such tables.
    fn forms_everywhere() -> Json {
        (0..4).fold(json!({}), |inner, _| {
            let form = |word: &str| json!({ "properties": { "kind": { "const": word }, "b": inner, "c": inner } });
            json!({
                "properties": { "kind": { "default": "x" }, "a": inner },
                "oneOf": [form("x"), form("y")],
                "items": inner,
            })
        })
    }

    fn tree() -> impl Strategy<Value = Value> {
        let word = prop::sample::select(vec!["x", "y"]).prop_map(Value::from);
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), (0u64..5).prop_map(Value::from), word];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::btree_map("[a-d]|kind", inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(inner, 0..3).prop_map(Value::from),
            ]
        })
    }

    proptest! {
        #[test]
        fn laying_a_layer_twice_is_laying_it_once(a in tree(), b in tree()) {
            let (schema, empty) = (forms_everywhere(), Value::from(Dict::new()));
            let mut merge = Merge::new(&schema, &empty);
            let declared = Declared { schema: &schema, default: None };
            let once = merge.value(Some(a), b.clone(), declared, "");
            let twice = merge.value(once.clone(), b, declared, "");
            prop_assert_eq!(once, twice);
        }

        #[test]
        fn layers_without_kinds_lists_and_nulls_may_be_grouped(
            (a, b, c) in (plain(), plain(), plain())
        ) {
            let (schema, empty) = (forms_everywhere(), Value::from(Dict::new()));
            let mut merge = Merge::new(&schema, &empty);
            let mut lay = |x: Value, y: Value| merge.layer(x, y);
            let ab = lay(a.clone(), b.clone());
            let left = lay(ab, c.clone());
            let bc = lay(b, c);
            let right = lay(a, bc);
            prop_assert_eq!(left, right);
        }
    }

    /// Tables of equal depth, so that no scalar is merged with a table.
    fn plain() -> impl Strategy<Value = Value> {
        let inner = prop::collection::btree_map("[x-z]", (0u64..9).prop_map(Value::from), 0..4).prop_map(Value::from);
        prop::collection::btree_map("[a-c]", inner, 0..4).prop_map(Value::from)
    }
}
