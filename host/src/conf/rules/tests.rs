use super::*;
use crate::conf::ossec;

fn root() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new(dir.path());
    for folder in ["etc", "rules", "etc/rules", WAZUH_FOLDER] {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    (dir, root)
}

fn write(root: &Root, path: &str, text: &str) {
    std::fs::write(root.path().join(path), text).unwrap();
}

fn read(root: &Root, section: &str, dialect: Dialect) -> Rules {
    let text = format!("<ossec_config>{section}</ossec_config>");
    let conf = ossec::parse(text.as_bytes(), Path::new("ossec.conf"), dialect).unwrap();
    Rules::read(root, &conf.rules, dialect)
}

fn one(id: u32, inside: &str) -> String {
    format!("<group name=\"x,\"><rule id=\"{id}\" level=\"5\">{inside}</rule></group>")
}

const NO_AR: &str = "<options>no_ar</options>";

#[test]
fn what_starts_no_response_is_found_and_said() {
    let text = "<!-- stock -->
<var name=\"QUIET\">no_ar</var>
<group name=\"a,\">
  <rule id=\"1\" level=\"5\"><match>x</match></rule>
  <rule id=\"2\" level=\"5\"><options>no_log</options><options>no_ar</options></rule>
  <rule id=\"3\" level=\"0\"><match>a & b &lt; \\<c</match></rule>
  <Rule ID='4' Level='5' accuracy='0'/>
  <rule id=\"5\" level=\"5\"><options>$QUIET</options></rule>
  <rule level=\"5\"><options>no_ar</options></rule>
</group>
<group name=\"b,\"><rule id=\"6\" level=\"15\"><options>no_log</options></rule></group>";
    let rules = parse(text.as_bytes(), Path::new("r.xml")).unwrap();
    let silent: Vec<(u32, Option<&str>)> = rules
        .iter()
        .map(|rule| (rule.id, rule.silent.as_ref().map(|silent| silent.has)))
        .collect();
    assert_eq!(
        silent,
        [
            (1, None),
            (2, Some(NO_AR)),
            (3, Some("level 0")),
            (4, Some("accuracy 0")),
            (5, Some(NO_AR)),
            (6, None),
        ]
    );
    let said = rules[1].silent.as_ref().unwrap().to_string();
    assert_eq!(said, "r.xml:5 has <options>no_ar</options>");
}

#[test]
fn ossecs_files_are_where_it_has_them() {
    let (_dir, root) = root();
    write(&root, "rules/a.xml", &one(1, NO_AR));
    write(&root, "etc/rules/b.xml", &one(2, NO_AR));
    write(&root, "etc/c.xml", &one(3, NO_AR));
    let rules = read(
        &root,
        "<rules><include>a.xml</include><include>b.xml</include><include>etc/c.xml</include><list>lists/x</list></rules>",
        Dialect::Ossec,
    );
    assert_eq!(rules.findings, []);
    for id in 1..=3 {
        assert!(rules.silent(id).is_some(), "{id}");
    }
    assert!(rules.silent(4).is_none());
}

#[test]
fn a_folder_of_rules_is_read_by_its_pattern_without_what_is_excluded() {
    let (_dir, root) = root();
    write(&root, "etc/rules/local_rules.xml", &one(1, NO_AR));
    write(&root, "etc/rules/other.xml", &one(2, NO_AR));
    write(&root, "etc/rules/0215-policy.xml", &one(3, NO_AR));
    write(&root, "etc/rules/notes.txt", "no XML");
    let has = |section: &str, dialect| {
        let rules = read(&root, section, dialect);
        assert_eq!(rules.findings, []);
        [1, 2, 3].map(|id| rules.silent(id).is_some())
    };
    for (section, dialect, expected) in [
        (
            "<rules><rule_dir>etc/rules</rule_dir></rules>",
            Dialect::Ossec,
            [true, true, true],
        ),
        (
            "<rules><rule_dir pattern=\"_rules.xml$\">etc/rules</rule_dir></rules>",
            Dialect::Ossec,
            [true, false, false],
        ),
        (
            "<ruleset><rule_dir>etc/rules</rule_dir><rule_exclude>0215-policy.xml</rule_exclude></ruleset>",
            Dialect::Wazuh4,
            [true, true, false],
        ),
        (
            "<ruleset><rule_dir>ruleset/rules</rule_dir><rule_include>etc/rules/other.xml</rule_include></ruleset>",
            Dialect::Wazuh4,
            [false, true, false],
        ),
    ] {
        assert_eq!(has(section, dialect), expected, "{section}");
    }
    let odd = read(
        &root,
        "<rules><rule_dir pattern=\"l\\w+.xml\">etc/rules</rule_dir></rules>",
        Dialect::Ossec,
    );
    assert!(odd.findings[0].what.contains("plain text"), "{odd:?}");
    assert!(odd.silent(3).is_some(), "too many rather than too few");
}

#[test]
fn wazuhs_own_rules_need_not_be_named() {
    let (_dir, root) = root();
    write(&root, "ruleset/rules/0095-sshd_rules.xml", &one(1, NO_AR));
    assert!(read(&root, "", Dialect::Wazuh4).silent(1).is_some());
    assert!(read(&root, "", Dialect::Ossec).silent(1).is_none());
    std::fs::remove_dir_all(root.path().join("ruleset")).unwrap();
    assert_eq!(read(&root, "", Dialect::Wazuh4), Rules::default());
}

#[test]
fn the_rule_that_overwrites_is_the_one_that_counts() {
    let (_dir, root) = root();
    let over = |id: u32, inside: &str| {
        one(id, inside).replace("level=\"5\"", "level=\"5\" overwrite=\"yes\"")
    };
    // The file that overwrites is read first.
    write(
        &root,
        "rules/a.xml",
        &format!("{}{}", over(1, ""), over(2, NO_AR)),
    );
    write(
        &root,
        "rules/b.xml",
        &format!("{}{}", one(1, NO_AR), one(2, "")),
    );
    let rules = read(
        &root,
        "<rules><include>a.xml</include><include>b.xml</include></rules>",
        Dialect::Ossec,
    );
    assert!(rules.silent(1).is_none());
    assert!(rules.silent(2).is_some());
}

#[test]
fn what_cannot_be_read_is_a_finding_and_hides_nothing_else() {
    let (dir, root) = root();
    write(&root, "rules/good.xml", &one(1, NO_AR));
    write(&root, "rules/bad.xml", "<group name=\"x\"><rule>");
    std::fs::write(dir.path().parent().unwrap().join("outside.xml"), "").unwrap();
    let rules = read(
        &root,
        "<rules><include>bad.xml</include><include>gone.xml</include><include>../outside.xml</include><rule_dir>nowhere</rule_dir><include>good.xml</include></rules>",
        Dialect::Ossec,
    );
    assert!(rules.silent(1).is_some());
    let files: Vec<String> = rules
        .findings
        .iter()
        .map(|f| f.file.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(
        files,
        ["ossec.conf", "nowhere", "bad.xml", "gone.xml"],
        "{rules:?}"
    );
}
