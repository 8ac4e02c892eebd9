//! `<command>`: what is run, and what it is shown.

use std::path::Path;

use serde::Serialize;

use super::Problem;
use super::xml::Element;
use crate::event::{Dialect, Expect, Field};

/// One `<command>` block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Command {
    /// What `<active-response>` calls it.
    pub name: String,
    /// The file in `active-response/bin`, as written.
    pub executable: String,
    /// The fields that it expects; none where Wazuh's block does not say.
    pub expect: Option<Expect>,
    /// Whether a `<timeout>` may go with it.
    pub timeout_allowed: bool,
    /// Wazuh's `<extra_args>`, one by one.
    pub extra_args: Vec<String>,
    /// Where it is.
    pub line: u32,
}

impl Command {
    pub(super) fn read(
        block: &Element,
        file: &Path,
        dialect: Dialect,
        findings: &mut Vec<Problem>,
    ) -> Result<Self, Box<Problem>> {
        let mut name = None;
        let mut executable = None;
        let mut expect = None;
        let mut timeout_allowed = true;
        let mut extra_args = Vec::new();
        for option in &block.children {
            let text = option.text.as_str();
            match option.name.as_str() {
                "name" => name = Some(text.to_owned()),
                "executable" => executable = Some(text.to_owned()),
                "expect" => expect = Some(self::expect(option, file, findings)),
                "timeout_allowed" => timeout_allowed = super::ossec::yes_or_no(option, file)?,
                "extra_args" if dialect != Dialect::Ossec => {
                    extra_args = text.split_ascii_whitespace().map(str::to_owned).collect();
                }
                _ => {
                    let known = ["name", "executable", "expect", "timeout_allowed"];
                    return Err(super::ossec::unknown(option, file, &known));
                }
            }
        }
        let missing = name.is_none()
            || executable.is_none()
            || (dialect == Dialect::Ossec && expect.is_none());
        let (Some(name), Some(executable), false) = (name, executable, missing) else {
            let what =
                "Missing command options. You must specify a 'name', 'executable' and 'expect'";
            let mut problem = block.problem(file, Some(1280), what.to_owned());
            problem.fix = Some(
                "<command><name>firewall-drop</name><executable>firewall-drop</executable><expect>srcip</expect></command>"
                    .to_owned(),
            );
            return Err(Box::new(problem));
        };
        if dialect == Dialect::Ossec && !block.children.iter().any(|c| c.name == "timeout_allowed")
        {
            let what = format!(
                "`{name}` has no timeout_allowed: the document and retort take that as yes, OSSEC 4.x as no"
            );
            let mut finding = block.problem(file, None, what);
            finding.fix = Some("<timeout_allowed>yes</timeout_allowed>".to_owned());
            findings.push(finding);
        }
        if let Err(refused) = super::executable::Name::parse(&executable) {
            findings.push(block.problem(file, None, refused.to_string()));
        }
        Ok(Self {
            name,
            executable,
            expect,
            timeout_allowed,
            extra_args,
            line: block.line,
        })
    }
}

fn expect(option: &Element, file: &Path, findings: &mut Vec<Problem>) -> Expect {
    let mut expect = Expect::new();
    let tokens = option.text.split(|c: char| c == ',' || c.is_whitespace());
    for token in tokens.filter(|token| !token.is_empty()) {
        match token.to_ascii_lowercase().as_str() {
            "srcip" => expect.insert(Field::Srcip),
            "user" | "username" => expect.insert(Field::User),
            "filename" => expect.insert(Field::Filename),
            "hostname" => expect.insert(Field::Hostname),
            _ => {
                let what = format!("`{token}` is no field that can be expected; it is ignored");
                let mut finding = option.problem(file, None, what);
                finding.fix =
                    Some("<expect>srcip</expect> (or username, filename, hostname)".into());
                findings.push(finding);
                false
            }
        };
    }
    expect
}
