//! Generates HTML: all external text passes through [`escape`].

use crate::report::compare::digits;

/// Escapes text for elements and quoted attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // HTML allows no other control characters, not even as numeric references.
            '\n' | '\t' => escaped.push(letter),
            letter if letter.is_control() => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// A rounded number, with its full value in the markup.
pub fn number(value: f64) -> String {
    match value.is_nan() {
        true => "–".into(),
        false => format!("<data value=\"{value}\">{}</data>", digits(value).replace('-', "\u{2212}")),
    }
}

/// Inline code.
pub fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

/// A code block.
pub fn block(text: &str) -> String {
    format!("<pre tabindex=\"0\">{}</pre>\n", escape(text.trim_end()))
}

/// A table in a scrollable box. Cells are HTML; the first cell of a row is its heading.
#[derive(Default)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    /// A table with these plain-text headings.
    pub fn new<S: AsRef<str>>(header: impl IntoIterator<Item = S>) -> Self {
        // Allow line breaks within column names, never within numbers.
        let broken = |text: &str| escape(text).replace('_', "_<wbr>").replace('.', ".<wbr>");
        Table { header: header.into_iter().map(|text| broken(text.as_ref())).collect(), rows: Vec::new() }
    }

    /// A row of HTML cells.
    pub fn row(&mut self, cells: Vec<String>) {
        self.classed_row("", cells);
    }

    /// Adds a row with a CSS class.
    pub fn classed_row(&mut self, class: &str, cells: Vec<String>) {
        self.rows.push((class.to_owned(), cells));
    }

    /// The HTML, with a description for screen readers.
    pub fn html(&self, about: &str) -> String {
        let mut html = format!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">\n<table>\n<thead><tr>",
            escape(about)
        );
        html.extend(self.header.iter().map(|cell| format!("<th scope=\"col\">{cell}</th>")));
        html += "</tr></thead>\n<tbody>\n";
        for (class, cells) in &self.rows {
            html += &if class.is_empty() { "<tr>".into() } else { format!("<tr class=\"{class}\">") };
            for (index, cell) in cells.iter().enumerate() {
                html += &match index {
                    0 => format!("<th scope=\"row\">{cell}</th>"),
                    _ => format!("<td>{cell}</td>"),
                };
            }
            html += "</tr>\n";
        }
        html + "</tbody>\n</table>\n</div>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_place() {
        assert_eq!(
            escape("<script>a && \"b\" 'c'\u{1b}[0m\n"),
            "&lt;script&gt;a &amp;&amp; &quot;b&quot; &#39;c&#39;\u{fffd}[0m\n"
        );
    }

    #[test]
    fn numbers_are_short_and_whole_beside() {
        assert_eq!(number(-0.123_456_789), "<data value=\"-0.123456789\">\u{2212}0.1235</data>");
        assert_eq!(number(f64::NAN), "–");
    }
}
