//! Rules, for the little that `alerts.json` does not carry: which of them never start a
//! response.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::xml::{self, Element};
use super::{OSSEC_CONF, Problem};
use crate::event::Dialect;
use crate::root::Root;

/// Wazuh ships about 170 files with rules.
const MOST_FILES: usize = 4096;

/// Wazuh's rules are 5 MiB in all.
const LARGEST_ALL: usize = 64 << 20;

/// Where Wazuh's own rules are unless `<rule_dir>` says otherwise.
const WAZUH_FOLDER: &str = "ruleset/rules";

/// Where a file is that is named without a folder, best first.
const FOLDERS: [&str; 3] = ["rules", "etc/rules", WAZUH_FOLDER];

/// The files that `ossec.conf` names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    named: Vec<Source>,
    excluded: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    File(String),
    Folder { path: String, pattern: String },
}

impl Sources {
    /// Takes in a `<rules>` (OSSEC) or `<ruleset>` (Wazuh) section.
    pub(super) fn read(&mut self, section: &Element) {
        for option in &section.children {
            let text = option.text.trim().to_owned();
            match option.name.as_str() {
                "include" | "rule" | "rule_include" => self.named.push(Source::File(text)),
                "rule_exclude" => self.excluded.push(text),
                "rule_dir" => self.named.push(Source::Folder {
                    path: text,
                    pattern: option.attribute("pattern").unwrap_or(".xml$").to_owned(),
                }),
                _ => {}
            }
        }
    }

    /// The files, in the order in which the original reads them.
    fn files(&self, root: &Root, dialect: Dialect, findings: &mut Vec<Problem>) -> Vec<PathBuf> {
        let mut sources = self.named.clone();
        let folder = |source: &Source| matches!(source, Source::Folder { .. });
        // An agent has no rules.
        let there = root.path().join(WAZUH_FOLDER).is_dir();
        if dialect != Dialect::Ossec && there && !sources.iter().any(folder) {
            sources.push(Source::Folder {
                path: WAZUH_FOLDER.to_owned(),
                pattern: ".xml$".to_owned(),
            });
        }
        let mut files: Vec<PathBuf> = Vec::new();
        for source in &sources {
            let found = match source {
                Source::File(name) => file(root, name).map(|path| vec![path]),
                Source::Folder { path, pattern } => self.folder(root, path, pattern, findings),
            };
            match found {
                Ok(found) => files.extend(found),
                Err(problem) => findings.push(problem),
            }
        }
        if files.len() > MOST_FILES {
            let what =
                format!("it names more than {MOST_FILES} files with rules; the rest is not read");
            findings.push(problem(&root.ossec_conf(), what));
            files.truncate(MOST_FILES);
        }
        if dialect != Dialect::Ossec {
            files.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
        }
        files
    }

    fn folder(
        &self,
        root: &Root,
        path: &str,
        pattern: &str,
        findings: &mut Vec<Problem>,
    ) -> Result<Vec<PathBuf>, Problem> {
        let folder = inside(root, path)?;
        let pattern = if is_plain(pattern) {
            pattern
        } else {
            let what = format!(
                "the pattern `{pattern}` is more than plain text with `^`, `$` and `|`; all files that end in .xml are read"
            );
            findings.push(problem(&root.ossec_conf(), what));
            ".xml$"
        };
        let entries = std::fs::read_dir(&folder).map_err(|e| problem(&folder, e.to_string()))?;
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| {
                let whole = format!("{path}/{name}");
                let excluded = self.excluded.iter().any(|e| *e == whole || e == name);
                !excluded && matches(pattern, &whole)
            })
            .take(MOST_FILES.saturating_add(1))
            .collect();
        names.sort();
        Ok(names.iter().map(|name| folder.join(name)).collect())
    }
}

/// A path of the configuration: below the root, where the originals are locked in.
fn inside(root: &Root, path: &str) -> Result<PathBuf, Problem> {
    if path.is_empty() || path.split('/').any(|part| part == "..") {
        let what = format!(
            "`{path}` is no file or folder below {}",
            root.path().display()
        );
        return Err(problem(&root.ossec_conf(), what));
    }
    Ok(root.path().join(path.trim_start_matches('/')))
}

/// One that is nowhere is looked for in the first of the usual folders, and missed there.
fn file(root: &Root, name: &str) -> Result<PathBuf, Problem> {
    let path = inside(root, name)?;
    if name.contains('/') {
        return Ok(path);
    }
    let paths = FOLDERS.map(|folder| root.path().join(folder).join(name));
    let there = paths.iter().find(|path| path.exists());
    Ok(there.or(paths.first()).cloned().unwrap_or(path))
}

/// Patterns are OSSEC's regular expressions, where `.` is a dot; in practice they are
/// endings.
fn is_plain(pattern: &str) -> bool {
    !pattern.contains(['\\', '*', '+', '(', ')', '['])
}

fn matches(pattern: &str, path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    pattern.to_ascii_lowercase().split('|').any(|one| {
        let (from_start, one) = one.strip_prefix('^').map_or((false, one), |p| (true, p));
        let (to_end, one) = one.strip_suffix('$').map_or((false, one), |p| (true, p));
        match (from_start, to_end) {
            (true, true) => path == one,
            (true, false) => path.starts_with(one),
            (false, true) => path.ends_with(one),
            (false, false) => path.contains(one),
        }
    })
}

/// Why a rule starts no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    /// What it has: `<options>no_ar</options>`.
    pub has: &'static str,
    /// The file.
    pub file: PathBuf,
    /// The line of the rule in it.
    pub line: u32,
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} has {}", self.file.display(), self.line, self.has)
    }
}

/// What the rules say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    silent: BTreeMap<u32, Silent>,
    /// Files and folders that could not be read: a rule in them that is meant to start
    /// no response starts one.
    pub findings: Vec<Problem>,
}

impl Rules {
    /// Reads all files that `ossec.conf` names. One that can't be read is a finding.
    #[must_use]
    pub fn read(root: &Root, sources: &Sources, dialect: Dialect) -> Self {
        let mut rules = Self::default();
        let mut all = Vec::new();
        let mut bytes = 0_usize;
        for path in sources.files(root, dialect, &mut rules.findings) {
            let read = super::read(&path, OSSEC_CONF).map_err(|e| problem(&path, e.to_string()));
            let read = read.and_then(|text| {
                bytes = bytes.saturating_add(text.len());
                if bytes > LARGEST_ALL {
                    let what = format!("all rules are larger than {} MiB", LARGEST_ALL >> 20);
                    return Err(problem(&path, what));
                }
                parse(&text, &path).map_err(|problem| *problem)
            });
            match read {
                Ok(found) => all.extend(found),
                Err(problem) => rules.findings.push(problem),
            }
        }
        rules.take(all);
        rules
    }

    /// The originals demand that a rule is there before it is overwritten; here the
    /// order of files is no matter.
    fn take(&mut self, mut all: Vec<Rule>) {
        all.sort_by_key(|rule| rule.overwrites);
        for rule in all {
            match rule.silent {
                Some(silent) => drop(self.silent.insert(rule.id, silent)),
                None => drop(self.silent.remove(&rule.id)),
            }
        }
    }

    /// Why the rule starts no response, if it starts none.
    #[must_use]
    pub fn silent(&self, id: u32) -> Option<&Silent> {
        self.silent.get(&id)
    }
}

/// What of a rule counts here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its number.
    pub id: u32,
    /// Its level.
    pub level: u32,
    /// It takes the place of another.
    pub overwrites: bool,
    /// Why it starts no response.
    pub silent: Option<Silent>,
}

/// Reads one file of rules: groups of rules, and variables.
///
/// # Errors
/// When it is no XML.
pub fn parse(bytes: &[u8], file: &Path) -> Result<Vec<Rule>, Box<Problem>> {
    let roots = xml::parse(bytes, file)?;
    let variables: BTreeMap<&str, &str> = roots
        .iter()
        .filter(|root| is(root, "var"))
        .filter_map(|var| Some((var.attribute("name")?, var.text.as_str())))
        .collect();
    let groups = roots.iter().filter(|root| is(root, "group"));
    let elements = groups.flat_map(|group| group.children.iter().filter(|e| is(e, "rule")));
    Ok(elements
        .filter_map(|element| rule(element, &variables, file))
        .collect())
}

fn rule(element: &Element, variables: &BTreeMap<&str, &str>, file: &Path) -> Option<Rule> {
    let id = element.attribute("id")?.trim().parse().ok()?;
    let level = element.attribute("level")?.trim().parse().ok()?;
    let no_ar = element
        .children
        .iter()
        .filter(|option| is(option, "options"))
        .any(|option| {
            let text = option.text.trim();
            let variable = text.strip_prefix('$').and_then(|name| variables.get(name));
            variable.map_or(text, |value| value.trim()) == "no_ar"
        });
    let has = if no_ar {
        Some("<options>no_ar</options>")
    } else if level == 0 {
        Some("level 0")
    } else if element.attribute("accuracy").map(str::trim) == Some("0") {
        Some("accuracy 0")
    } else {
        None
    };
    Some(Rule {
        id,
        level,
        overwrites: element.attribute("overwrite").map(str::trim) == Some("yes"),
        silent: has.map(|has| Silent {
            has,
            file: file.to_owned(),
            line: element.line,
        }),
    })
}

/// The originals do not look at the case of names here.
fn is(element: &Element, name: &str) -> bool {
    element.name.eq_ignore_ascii_case(name)
}

fn problem(file: &Path, what: String) -> Problem {
    Problem {
        file: file.to_owned(),
        line: 1,
        column: 1,
        number: None,
        what,
        fix: None,
    }
}

#[cfg(test)]
mod tests;
