//! Positions of dotted paths in a YAML text.

use std::collections::BTreeMap;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

use super::yaml::join;

/// Line and column (from 1) of every key and list item of a YAML text, by dotted path.
#[derive(Debug, Default, Clone)]
pub(super) struct Positions(BTreeMap<String, (usize, usize)>);

impl Positions {
    /// Finds all paths of a text that has been parsed successfully: texts that the parser rejects, such as exponentially nested
    /// aliases, must not reach this function.
    pub fn of(text: &str) -> Self {
        let mut positions = Positions::default();
        if let Ok(documents) = MarkedYaml::load_from_str(text)
            && let Some(root) = documents.first()
        {
            positions.collect("", root);
        }
        positions
    }

    fn collect(&mut self, path: &str, node: &MarkedYaml<'_>) {
        match &node.data {
            YamlData::Mapping(entries) => {
                for (key, value) in entries {
                    let name = match &key.data {
                        YamlData::Value(Scalar::String(text)) => text.to_string(),
                        YamlData::Value(Scalar::Integer(number)) => number.to_string(),
                        _ => continue,
                    };
                    self.insert(join(path, &name), key);
                    self.collect(&join(path, &name), value);
                }
            }
            YamlData::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = join(path, &index.to_string());
                    self.insert(path.clone(), item);
                    self.collect(&path, item);
                }
            }
            _ => {}
        }
    }

    fn insert(&mut self, path: String, node: &MarkedYaml<'_>) {
        self.0.insert(path, (node.span.start.line(), node.span.start.col() + 1));
    }

    /// The position of a path, or of its innermost ancestor in the text.
    pub fn find(&self, path: &str) -> Option<(usize, usize)> {
        let mut path = path;
        loop {
            if let Some(place) = self.0.get(path) {
                return Some(*place);
            }
            path = &path[..path.rfind('.')?];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_items_are_found_where_they_stand() {
        let positions =
            Positions::of("# a comment\ntrain:\n  optimizer: {kind: adam, lr: 1e-3}\nlist:\n  - a: 1\n  - {0: x}\n");
        assert_eq!(positions.find("train"), Some((2, 1)));
        assert_eq!(positions.find("train.optimizer.lr"), Some((3, 27)));
        assert_eq!(positions.find("list.0"), Some((5, 5)));
        assert_eq!(positions.find("list.1.0"), Some((6, 6)));
        assert_eq!(positions.find("list.1.0.further.down"), Some((6, 6)));
        assert_eq!(positions.find("nowhere"), None);
    }
}
