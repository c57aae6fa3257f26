//! Records of a table whose fields may be quoted. An unclosed quotation is reported where it begins instead of consuming the
//! rows after it.

use std::path::Path;

use crate::data::images::is_image_name;

/// The fields of a line.
pub(super) fn fields(line: &str, delimiter: char) -> Vec<String> {
    match Records::new(line, delimiter).next() {
        Some(Ok((_, fields))) => fields,
        _ => line.split(delimiter).map(str::to_owned).collect(),
    }
}

/// The records of a text, each with the number of its first line, from 1. Empty lines are skipped. Tables with bars have no
/// quotations.
pub(super) struct Records<'a> {
    rest: &'a str,
    delimiter: char,
    line: usize,
    /// The last line whose quotation marks were counted.
    counted: usize,
}

/// A record, or the line and reason of an error.
type Record = Result<(usize, Vec<String>), (usize, &'static str)>;

const OPEN: &str = "begins a quotation (\") that does not end where its field ends; write a quotation mark within a quoted \
                    caption twice (\"\"), or leave it out";

impl<'a> Records<'a> {
    pub(super) fn new(text: &'a str, delimiter: char) -> Records<'a> {
        Records { rest: text, delimiter, line: 1, counted: 0 }
    }

    /// Length of the rest of a line, without its terminator.
    fn to_line_end(&self, text: &str) -> usize {
        let end = text.find('\n').unwrap_or(text.len());
        end - usize::from(text[..end].ends_with('\r'))
    }

    /// The content of the quotation at the start of `text`, and the rest, which begins with a delimiter or the end of the
    /// line.
    fn quoted(&self, text: &'a str) -> Option<(String, &'a str)> {
        let mut value = String::new();
        let mut rest = text.strip_prefix('"')?;
        loop {
            let end = rest.find('"')?;
            value.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix('"') {
                Some(after) => {
                    value.push('"');
                    rest = after;
                }
                None => break,
            }
        }
        let after = rest.trim_start_matches(' ');
        let ends = after.is_empty() || after.starts_with([self.delimiter, '\n']) || after.starts_with("\r\n");
        ends.then_some((value, after))
    }

    /// Whether the lines of a quotation look like rows: one of their fields names an image.
    fn holds_a_row(&self, value: &str) -> bool {
        let names_image = |field: &str| {
            // The number of the caption may follow: `name.jpg#0`.
            let name = field.split('#').next().unwrap_or_default().trim_matches([' ', '"', '\r']);
            is_image_name(Path::new(name))
        };
        value.contains('\n') && value.split([self.delimiter, '\n']).any(names_image)
    }

    /// Whether the quotation marks from here to the end of the line come in pairs, at the first question in a line; later ones
    /// are not counted again.
    fn is_balanced(&mut self) -> bool {
        if std::mem::replace(&mut self.counted, self.line) == self.line {
            return true;
        }
        let end = self.to_line_end(self.rest);
        self.rest[..end].matches('"').count().is_multiple_of(2)
    }

    fn record(&mut self) -> Record {
        let line = self.line;
        let mut record = Vec::new();
        loop {
            let start = if self.delimiter == '\t' { self.rest } else { self.rest.trim_start_matches(' ') };
            let is_quoted = self.delimiter != '|' && start.starts_with('"');
            if let Some((value, after)) = is_quoted.then(|| self.quoted(start)).flatten() {
                if self.holds_a_row(&value) {
                    return Err((self.line, OPEN));
                }
                self.line += value.matches('\n').count();
                record.push(value);
                self.rest = after;
            } else {
                // `"Stop" sign`: balanced quotation marks belong to the caption.
                if is_quoted && !self.is_balanced() {
                    return Err((self.line, OPEN));
                }
                let end = self.rest.find([self.delimiter, '\n']).unwrap_or(self.rest.len());
                let (field, rest) = self.rest.split_at(end);
                let is_last = !rest.starts_with(self.delimiter);
                record.push(field.strip_suffix('\r').filter(|_| is_last).unwrap_or(field).to_owned());
                self.rest = rest;
            }
            match self.rest.strip_prefix(self.delimiter) {
                Some(rest) => self.rest = rest,
                None => {
                    self.rest = self.rest.trim_start_matches('\r').strip_prefix('\n').unwrap_or_default();
                    self.line += 1;
                    return Ok((line, record));
                }
            }
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        while self.rest[..self.to_line_end(self.rest)].trim().is_empty() {
            let (_, rest) = self.rest.split_once('\n')?;
            (self.rest, self.line) = (rest, self.line + 1);
        }
        let record = self.record();
        if record.is_err() {
            self.rest = "";
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(usize, Vec<String>)>, usize> {
        Records::new(text, ',').collect::<Result<_, _>>().map_err(|(line, _)| line)
    }

    #[test]
    fn quotations_end_with_their_field() {
        let row = |line, fields: &[&str]| (line, fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>());
        for (text, rows) in [
            ("a,b\r\n\n c,d", vec![row(1, &["a", "b"]), row(3, &[" c", "d"])]),
            ("a,\"b, \"\"c\"\"\" \nd,\n", vec![row(1, &["a", "b, \"c\""]), row(2, &["d", ""])]),
            ("a.jpg,\"two\nlines\"\nb,c", vec![row(1, &["a.jpg", "two\nlines"]), row(3, &["b", "c"])]),
            ("a,A \"big\" cat", vec![row(1, &["a", "A \"big\" cat"])]),
            ("a,\"Stop\" says a sign", vec![row(1, &["a", "\"Stop\" says a sign"])]),
            ("", vec![]),
        ] {
            assert_eq!(read(text), Ok(rows), "{text}");
        }
        for (text, line) in [
            ("x,y\na.jpg,\"To the left\nb.jpg,A \"big\" cat\n", 2),
            ("x,y\na.jpg,\"To the left\nb.jpg,A ruler of 6\"\n", 2),
            ("x,y\na.jpg,z\na.jpg,\"To the left", 3),
            ("n,x,y\n0,a.jpg,\"To the left\n1,b.jpg,A ruler of 6\"\n", 2),
            ("y,x\n\"To the left,a.jpg\nA ruler of 6\",b.jpg\n", 2),
            ("x,y\na.jpg#0,\"To the left\nb.JPG#0,A ruler of 6\"\n", 2),
        ] {
            assert_eq!(read(text), Err(line), "{text}");
        }
    }
}
