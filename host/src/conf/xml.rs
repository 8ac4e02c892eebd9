//! A tree of `ossec.conf` or of a rules file, read as OSSEC reads it: no entity is ever
//! expanded, content is not trimmed, `\<` and a lonely `&` are text. With caps on
//! everything.

use std::path::Path;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{OSSEC_CONF, Problem, position};

/// OSSEC's own limit for names and content.
const LONGEST_TEXT: usize = 8192;

/// Real files have five levels.
const DEEPEST: usize = 64;

/// Real files have some hundred elements.
const MOST_ELEMENTS: usize = 100_000;

/// Stands for the `<` of `\<` while quick-xml reads. Not a character of XML, so a
/// file that holds it is refused.
const ESCAPED: char = '\u{1}';

/// An element, its content untouched.
#[derive(Debug, Clone, Default)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) children: Vec<Element>,
    /// Name and value, as written; one that is no attribute ends the list.
    pub(super) attributes: Vec<(String, String)>,
}

impl Element {
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first attribute of that name, whatever its case.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .attributes
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    pub(super) fn problem(&self, file: &Path, number: Option<u16>, what: String) -> Problem {
        Problem {
            file: file.to_owned(),
            line: self.line,
            column: self.column,
            number,
            what,
            fix: None,
        }
    }
}

/// The roots of the file, in order.
pub(super) fn parse(bytes: &[u8], file: &Path) -> Result<Vec<Element>, Box<Problem>> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > OSSEC_CONF {
        let what = format!("the file is larger than {} MiB", OSSEC_CONF >> 20);
        return Err(wrong(file, bytes, 0, what, "a smaller file"));
    }
    if let Some(at) = bytes.iter().position(|b| matches!(b, 0 | 1)) {
        let what = "a control character, which XML does not allow".to_owned();
        return Err(wrong(file, bytes, at, what, "the line without it"));
    }
    // Byte for byte where the file is UTF-8; a stray byte moves its column alone.
    let text = mask(&String::from_utf8_lossy(bytes));
    let bytes = text.as_bytes();
    let wrong = |at, what, fix| wrong(file, bytes, at, what, fix);
    let mut place = Place::default();
    let mut reader = Reader::from_str(&text);
    // OSSEC allows `--` in comments, so nothing is checked there; closing tags are.
    reader.config_mut().check_end_names = true;
    reader.config_mut().allow_dangling_amp = true;
    let mut open: Vec<Element> = vec![Element::default()];
    let mut elements = 0_usize;
    loop {
        let at = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        let event = reader.read_event().map_err(|e| {
            let at = usize::try_from(reader.error_position()).unwrap_or(at);
            let fix = "elements that are closed in the order of their opening: <a><b></b></a>";
            wrong(at, format!("this is no XML: {e}"), fix)
        })?;
        match event {
            Event::Start(tag) | Event::Empty(tag) if tag.name().as_ref().len() > LONGEST_TEXT => {
                let what = "String overflow: a name of more than 8192 bytes".to_owned();
                return Err(wrong(at, what, "a shorter name"));
            }
            Event::Start(tag) => {
                elements = elements.saturating_add(1);
                if open.len() > DEEPEST {
                    let what = format!("elements are nested deeper than {DEEPEST}");
                    return Err(wrong(at, what, "the closing tags that are missing above"));
                }
                open.push(element(place.at(bytes, at), &tag));
            }
            Event::Empty(tag) => {
                elements = elements.saturating_add(1);
                let child = element(place.at(bytes, at), &tag);
                adopt(&mut open, child);
            }
            Event::End(_) => {
                if let Some(closed) = if open.len() > 1 { open.pop() } else { None } {
                    adopt(&mut open, closed);
                }
            }
            Event::Text(text) => append(&mut open, &text),
            Event::CData(text) => append(&mut open, &text),
            Event::GeneralRef(name) => {
                append(&mut open, "&");
                append(&mut open, &name);
                append(&mut open, ";");
            }
            Event::DocType(_) => {
                let what = "a document type declaration: entities are never expanded".to_owned();
                return Err(wrong(at, what, "what they stand for, in place of them"));
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
        if open
            .last()
            .is_some_and(|element| element.text.len() >= LONGEST_TEXT)
            && open.len() > 1
        {
            let what = "String overflow: content of 8192 bytes or more".to_owned();
            return Err(wrong(at, what, "a shorter text"));
        }
        if elements > MOST_ELEMENTS {
            let what = format!("more than {MOST_ELEMENTS} elements");
            return Err(wrong(at, what, "fewer of them"));
        }
    }
    match open.as_slice() {
        [_] => Ok(open.pop().map(|top| top.children).unwrap_or_default()),
        _ => {
            let left = open.last().cloned().unwrap_or_default();
            let mut problem = left.problem(
                file,
                Some(1226),
                format!("Element '{}' not closed", left.name),
            );
            problem.fix = Some(format!("</{}>", left.name));
            Err(Box::new(problem))
        }
    }
}

fn wrong(file: &Path, bytes: &[u8], at: usize, what: String, fix: &str) -> Box<Problem> {
    let (line, column) = position(bytes, at);
    Box::new(Problem {
        file: file.to_owned(),
        line,
        column,
        number: Some(1226),
        what,
        fix: Some(fix.to_owned()),
    })
}

/// Line and column, counted on from the last place: a file is read once.
#[derive(Default)]
struct Place {
    at: usize,
    line: u32,
    start: usize,
}

impl Place {
    fn at(&mut self, bytes: &[u8], at: usize) -> (u32, u32) {
        let passed = bytes.get(self.at..at).unwrap_or_default();
        for (offset, _) in passed.iter().enumerate().filter(|(_, b)| **b == b'\n') {
            self.line = self.line.saturating_add(1);
            self.start = self.at.saturating_add(offset).saturating_add(1);
        }
        self.at = at.max(self.at);
        let column = at.saturating_sub(self.start).saturating_add(1);
        (
            self.line.saturating_add(1),
            u32::try_from(column).unwrap_or(u32::MAX),
        )
    }
}

fn element((line, column): (u32, u32), tag: &BytesStart<'_>) -> Element {
    let mut attributes = tag.attributes();
    let attributes = attributes.with_checks(false).map_while(Result::ok);
    Element {
        name: tag.name().as_ref().to_owned(),
        line,
        column,
        attributes: attributes
            .map(|attribute| {
                (
                    attribute.key.as_ref().to_owned(),
                    attribute.value.into_owned(),
                )
            })
            .collect(),
        ..Element::default()
    }
}

/// The content of an element that has children is what stands behind the last one.
fn adopt(open: &mut [Element], child: Element) {
    if let Some(parent) = open.last_mut() {
        parent.text.clear();
        parent.children.push(child);
    }
}

fn append(open: &mut [Element], text: &str) {
    let Some(element) = open.last_mut() else {
        return;
    };
    // What stands outside the roots is ignored, as OSSEC does.
    if element.text.len() < LONGEST_TEXT {
        element
            .text
            .extend(text.chars().map(|c| if c == ESCAPED { '<' } else { c }));
    }
}

/// `\<` hidden from the XML reader, byte for byte, so that positions stay true.
fn mask(text: &str) -> String {
    let mut escaped = false;
    text.chars()
        .map(|c| {
            let masked = if escaped && c == '<' { ESCAPED } else { c };
            escaped = c == '\\';
            masked
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content of an element that has children is what stands behind the last one.
    #[test]
    fn blanks_between_many_children_are_no_content() {
        let entry = "    <white_list>10.0.0.1</white_list>\n";
        let blanks = "\n".repeat(8000);
        let text = format!("<a>{}{blanks}<b>x</b>{blanks}</a>", entry.repeat(3000));
        let roots = parse(text.as_bytes(), Path::new("ossec.conf")).unwrap();
        assert_eq!(roots[0].children.len(), 3001);
        let long = format!("<a><b>{}</b></a>", "x".repeat(9000));
        let problem = parse(long.as_bytes(), Path::new("ossec.conf")).unwrap_err();
        assert!(problem.what.contains("String overflow"), "{problem}");
    }
}
