//! Merging a stronger layer into a weaker one.
//!
//! Tables merge. `null` removes the value of weaker layers, so that the default applies. Lists replace, except that a table whose
//! keys are all whole numbers merges into the items with those indices. A stronger layer that changes a `kind` drops its weaker
//! siblings. Every value keeps the tag of the layer that set it.

use std::collections::BTreeMap;

use figment::value::{Dict, Tag, Value};

use super::yaml::join;
use crate::error::Problem;

/// Merges values, and collects problems.
pub(super) struct Merge<'a> {
    /// The values that `null` restores.
    defaults: &'a Value,
    /// Problems with the tag of the layer that caused each.
    pub problems: Vec<(Problem, Tag)>,
    /// Paths removed by a `null` and not set again, with the tag of its layer.
    pub removed: BTreeMap<String, Tag>,
}

impl<'a> Merge<'a> {
    pub fn new(defaults: &'a Value) -> Self {
        Merge { defaults, problems: Vec::new(), removed: BTreeMap::new() }
    }

    /// Merges the layer `over` into `base`.
    pub fn layer(&mut self, base: Value, over: Value) -> Value {
        let defaults = self.defaults;
        self.value(Some(base), over, Some(defaults), "").unwrap_or_else(|| Dict::new().into())
    }

    fn value(&mut self, base: Option<Value>, over: Value, default: Option<&Value>, path: &str) -> Option<Value> {
        self.clear_removed(path, &over);
        match over {
            Value::Empty(tag, _) => {
                self.removed.insert(path.to_owned(), tag);
                default.cloned()
            }
            Value::Dict(tag, over) => Some(match base {
                Some(Value::Array(list_tag, items)) if is_item_table(&over) => {
                    Value::Array(list_tag, self.items(items, over, tag, path))
                }
                Some(Value::Dict(base_tag, base)) => {
                    // A table that only the defaults had takes its origin from this layer.
                    let tag = if default.is_some_and(|d| d.tag() == base_tag) { tag } else { base_tag };
                    Value::Dict(tag, self.table(base, over, default, path))
                }
                _ => Value::Dict(tag, self.table(Dict::new(), over, default, path)),
            }),
            Value::Array(tag, items) => {
                let items = items.into_iter().enumerate();
                Some(Value::Array(
                    tag,
                    items.map(|(index, item)| self.fresh(item, &join(path, &index.to_string()))).collect(),
                ))
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
    fn fresh(&mut self, item: Value, path: &str) -> Value {
        match item {
            Value::Empty(..) => item,
            item => self.value(None, item.clone(), None, path).unwrap_or(item),
        }
    }

    fn table(&mut self, mut base: Dict, over: Dict, default: Option<&Value>, path: &str) -> Dict {
        let default = default.and_then(Value::as_dict);
        if let Some(kind) = over.get("kind") {
            let default_kind = default.and_then(|d| d.get("kind"));
            let kind = if matches!(kind, Value::Empty(..)) { default_kind } else { Some(kind) };
            if base.get("kind").is_some_and(|base_kind| Some(base_kind) != kind) {
                base = default.filter(|_| kind.is_some() && kind == default_kind).cloned().unwrap_or_default();
            }
        }
        // The defaults of one kind do not apply to another; serde fills those in.
        let kind = over.get("kind").filter(|kind| !matches!(kind, Value::Empty(..))).or(base.get("kind"));
        let default =
            default.filter(|d| kind.is_none() || d.get("kind").is_none_or(|default_kind| Some(default_kind) == kind));
        for (key, value) in over {
            let below = self.value(base.remove(&key), value, default.and_then(|d| d.get(&key)), &join(path, &key));
            if let Some(below) = below {
                base.insert(key, below);
            }
        }
        base
    }

    fn items(&mut self, mut items: Vec<Value>, over: Dict, tag: Tag, path: &str) -> Vec<Value> {
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
            if let Some(merged) = self.value(base, value, None, &path) {
                *item = merged;
            }
        }
        items
    }
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

    fn merged(layers: &[&str]) -> (String, Vec<String>) {
        let defaults = parse("{o: {kind: adam, lr: 1}, n: 1}").unwrap();
        let mut merge = Merge::new(&defaults);
        let value = layers.iter().fold(defaults.clone(), |base, over| merge.layer(base, parse(over).unwrap()));
        (line(&value), merge.problems.into_iter().map(|(problem, _)| problem.to_string()).collect())
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
                vec!["{a: {kind: x, m: 1}}", "{a: {kind: null}}"],
                r#"{"a":{},"n":1,"o":{"kind":"adam","lr":1}}"#,
                "no default kind",
            ),
            (
                vec!["{a: {cell: x, m: 1}}", "{a: {cell: y}}"],
                r#"{"a":{"cell":"y","m":1},"n":1,"o":{"kind":"adam","lr":1}}"#,
                "other selectors",
            ),
        ] {
            assert_eq!(merged(&layers), (expected.to_owned(), vec![]), "{why}");
        }
    }

    #[test]
    fn items_that_are_not_there_are_named() {
        let (value, problems) = merged(&["{n: [1]}", "{n: {1: 2}}", "{n: {0: null}}"]);
        assert!(value.starts_with(r#"{"n":[1]"#));
        assert!(problems[0].contains("`n.1`") && problems[0].contains("1 item"), "{problems:?}");
        assert!(problems[1].contains("`n.0`"), "{problems:?}");
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), (0u64..5).prop_map(Value::from)];
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
            let empty = Value::from(Dict::new());
            let mut merge = Merge::new(&empty);
            let once = merge.value(Some(a), b.clone(), None, "");
            let twice = merge.value(once.clone(), b, None, "");
            prop_assert_eq!(once, twice);
        }

        #[test]
        fn layers_without_kinds_lists_and_nulls_may_be_grouped(
            (a, b, c) in (plain(), plain(), plain())
        ) {
            let empty = Value::from(Dict::new());
            let mut merge = Merge::new(&empty);
            let mut lay = |x: Value, y: Value| merge.value(Some(x), y, None, "").unwrap();
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
