use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::conf::ar;
use crate::event::Field;

const VECTORS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/data/ossec/config.jsonl"
);
const DEVIATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compatibility.md");
const OPTIONS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/data/ossec/active-response-options.txt"
);

#[derive(Deserialize)]
struct Vector {
    id: String,
    ossec_conf: String,
    exit_code: i32,
    log: Vec<String>,
    ar_conf: String,
}

fn read(text: &str) -> Result<OssecConf, Box<Problem>> {
    parse(text.as_bytes(), Path::new("ossec.conf"), Dialect::Ossec)
}

fn refused(text: &str) -> Problem {
    *read(text).unwrap_err()
}

fn conf(inside: &str) -> String {
    format!("<ossec_config>\n{inside}\n</ossec_config>")
}

/// The document's options. One of its closing tags is wrong; as it stands, that
/// example is refused, which a test below holds.
fn document() -> String {
    let text = std::fs::read_to_string(OPTIONS).unwrap();
    let (wrong, right) = (
        "<name>firewall-drop</command>",
        "<name>firewall-drop</name>",
    );
    assert!(text.contains(wrong));
    assert_eq!(
        refused(&conf(&format!("<command>{wrong}"))).number,
        Some(1226)
    );
    text.replace(wrong, right)
}

const COMMAND: &str =
    "<command><name>c</name><executable>c.sh</executable><expect>srcip</expect></command>";

/// The vectors that Retort answers differently, as `docs/compatibility.md` lists them.
fn deviations() -> Vec<String> {
    let text = std::fs::read_to_string(DEVIATIONS).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| cfg-"));
    rows.map(|row| format!("cfg-{}", row.split(' ').next().unwrap()))
        .collect()
}

#[test]
fn every_recorded_configuration_is_answered_as_the_real_program_does() {
    let text = std::fs::read_to_string(VECTORS).unwrap();
    let vectors: Vec<Vector> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert!(vectors.len() >= 66);
    let mut different = Vec::new();
    for vector in &vectors {
        // The recorder wrote one character for each byte.
        let bytes: Vec<u8> = vector
            .ossec_conf
            .chars()
            .map(|c| u8::try_from(u32::from(c)).unwrap())
            .collect();
        let answer = parse(
            &bytes,
            Path::new("/var/ossec/etc/ossec.conf"),
            Dialect::Ossec,
        );
        let same = match &answer {
            Ok(conf) => vector.exit_code == 0 && ar::render(conf) == vector.ar_conf,
            Err(problem) => {
                let number = format!("({})", problem.number.unwrap_or_default());
                vector.exit_code != 0 && vector.log.iter().any(|line| line.contains(&number))
            }
        };
        if !same {
            different.push(vector.id.clone());
        }
    }
    let mut listed = deviations();
    listed.sort();
    assert_eq!(
        different, listed,
        "docs/compatibility.md has to list exactly what differs"
    );
}

#[test]
fn each_fault_has_its_number_its_place_and_its_line_to_write() {
    let response = |inside: &str| {
        conf(&format!(
            "{COMMAND}\n<active-response>{inside}</active-response>"
        ))
    };
    for (text, number, line, fix) in [
        (conf("<wodle><a/></wodle>"), 1230, 2, None),
        (
            "<agent_config><a/></agent_config>".into(),
            1230,
            1,
            Some("<ossec_config>"),
        ),
        (
            conf("<command><name>c</name></command>"),
            1280,
            2,
            Some("<executable>"),
        ),
        (
            response("<level>3</level>"),
            1281,
            3,
            Some("<location>local"),
        ),
        (
            response("<command>c</command><location>moon</location>"),
            1302,
            3,
            Some("<location>local"),
        ),
        (
            response("<command>d</command><location>local</location>"),
            1303,
            3,
            Some("<command>c</command>"),
        ),
        (
            response("<command>c</command><location>defined-agent</location>"),
            1304,
            3,
            Some("<agent_id>"),
        ),
        (
            response("<command>c</command><location>local</location><level>21</level>"),
            1235,
            3,
            Some("<level>"),
        ),
        (
            response("<disabled>maybe</disabled>"),
            1235,
            3,
            Some("<disabled>yes</disabled>"),
        ),
        (conf("<command><name>c</name>"), 1226, 3, None),
        (
            "<ossec_config>\n<command>".into(),
            1226,
            2,
            Some("</command>"),
        ),
    ] {
        let problem = refused(&text);
        assert_eq!(
            (problem.number, problem.line),
            (Some(number), line),
            "{text}\n{problem}"
        );
        if let Some(fix) = fix {
            assert!(
                problem.fix.as_deref().unwrap_or_default().contains(fix),
                "{problem}"
            );
        }
    }
    let no = COMMAND.replace(
        "</command>",
        "<timeout_allowed>no</timeout_allowed></command>",
    );
    let problem = refused(&conf(&format!(
        "{no}<active-response><command>c</command><location>local</location><timeout>5</timeout></active-response>"
    )));
    assert_eq!(problem.number, Some(1305));
}

#[test]
fn the_last_example_of_the_document_names_the_nearest_command() {
    let text = document();
    let command = &text[text.rfind("<command>\n  <name>firewall-drop").unwrap()..];
    let command = &command[..command.find("</command>").unwrap() + "</command>".len()];
    let response = &text[text.rfind("<active-response>").unwrap()..];
    let problem = refused(&conf(&format!("{command}\n{response}")));
    assert_eq!(problem.number, Some(1303));
    assert!(problem.what.contains("firewall-block"), "{problem}");
    assert_eq!(
        problem.fix.as_deref(),
        Some("<command>firewall-drop</command>")
    );
}

#[test]
fn the_documents_other_examples_are_read() {
    let text = document();
    let mut commands = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("<command>\n  <name>") {
        let end = rest[at..].find("</command>").unwrap() + at + "</command>".len();
        commands.push_str(&rest[at..end]);
        rest = &rest[end..];
    }
    let read = read(&conf(&commands)).unwrap();
    let names: Vec<&str> = read.commands.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        ["restart-ossec", "pf-block", "makelists", "firewall-drop"]
    );
    assert_eq!(
        read.expect_of("makelists.sh"),
        Some(Expect::from([Field::Hostname]))
    );
    assert_eq!(read.expect_of("restart-ossec.sh"), Some(Expect::new()));
    assert_eq!(read.expect_of("other.sh"), None);
}

#[test]
fn one_executable_sees_what_all_its_commands_expect() {
    let text = conf(
        "<command><name>a</name><executable>x.sh</executable><expect>srcip,user</expect></command>
         <command><name>b</name><executable>x.sh</executable><expect>srcip</expect></command>",
    );
    let read = read(&text).unwrap();
    assert_eq!(read.expect_of("x.sh"), Some(Expect::from([Field::Srcip])));
    assert!(
        read.findings
            .iter()
            .any(|f| f.what.contains("same executable")),
        "{:?}",
        read.findings
    );
}

#[test]
fn wazuh_has_more_sections_and_its_command_needs_no_expect() {
    let text = conf(
        "<wodle name='x'><disabled>no</disabled></wodle>
         <command><name>firewall-drop</name><executable>firewall-drop</executable><extra_args>a b</extra_args><timeout_allowed>yes</timeout_allowed></command>
         <client><server><address>198.51.100.7</address></server><server><address>manager.example.org</address></server></client>
         <active-response><disabled>no</disabled><ca_store>etc/wpk_root.pem</ca_store></active-response>
         <global><allow_list>127.0.0.1</allow_list><white_list>^localhost.localdomain$</white_list></global>",
    );
    let read = parse(text.as_bytes(), Path::new("ossec.conf"), Dialect::Wazuh4).unwrap();
    assert_eq!(read.commands[0].expect, None);
    assert_eq!(read.commands[0].extra_args, ["a", "b"]);
    assert_eq!(read.expect_of("firewall-drop"), None);
    assert_eq!(read.servers.len(), 2);
    assert_eq!(read.white_list.names(), ["localhost.localdomain"]);
    assert!(!read.disabled);
}

#[test]
fn a_block_without_a_command_disables_this_host() {
    let read = read(&conf(
        "<active-response><disabled>yes</disabled></active-response>",
    ))
    .unwrap();
    assert!(read.disabled);
    let one = format!(
        "{COMMAND}<active-response><command>c</command><disabled>yes</disabled></active-response>"
    );
    assert!(
        !super::parse(conf(&one).as_bytes(), Path::new("o"), Dialect::Ossec)
            .unwrap()
            .disabled
    );
}

#[test]
fn entities_are_never_expanded() {
    let bomb = "<!DOCTYPE a [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;\">]><ossec_config><global><white_list>&b;</white_list></global></ossec_config>";
    assert!(refused(bomb).what.contains("document type"));
    let read = read(&conf(
        "<command><name>a&amp;&#65;</name><executable>x</executable><expect/></command>",
    ))
    .unwrap();
    assert_eq!(read.commands[0].name, "a&amp;&#65;");
}

#[test]
fn sizes_and_depths_are_capped() {
    assert!(
        refused(&"<a>".repeat(10_000))
            .what
            .contains("nested deeper")
    );
    assert!(refused(&" ".repeat(5 << 20)).what.contains("larger than"));
    assert!(
        refused(&conf(&"<a/>".repeat(100_001)))
            .what
            .contains("elements")
    );
    assert!(
        refused(&conf(&format!("<global>{}</global>", "x".repeat(9000))))
            .what
            .contains("overflow")
    );
    assert!(
        refused(&conf(&format!("<{}/>", "x".repeat(9000))))
            .what
            .contains("overflow")
    );
}

#[test]
fn ar_conf_is_read_as_execd_reads_it() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/data/ossec/execd_arconf.jsonl"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let mut seen = BTreeMap::new();
    for line in text.lines() {
        let vector: serde_json::Value = serde_json::from_str(line).unwrap();
        let id = vector["id"].as_str().unwrap().to_owned();
        let entries = ar::parse(vector["config"]["ar_conf"].as_str().unwrap().as_bytes());
        // The first message that started something, and the executable that it started.
        for step in vector["steps"].as_array().unwrap() {
            let Some(data) = step["data"].as_str() else {
                continue;
            };
            let Some(path) = step["observed"]["runs"][0]["argv"][0].as_str() else {
                continue;
            };
            let executable = path.rsplit_once("/bin/").unwrap().1;
            let name = data.split(' ').next().unwrap();
            let entry = entries
                .iter()
                .find(|e| e.name == name && e.executable == executable);
            assert!(
                entry.is_some(),
                "{id}: {name} runs {executable}, but {entries:?}"
            );
            seen.insert(id.clone(), entry.unwrap().timeout);
            break;
        }
    }
    assert!(seen.len() >= 10, "{seen:?}");
    assert_eq!(seen["arconf-021"], 0);
    assert_eq!(seen["arconf-022"], 3);
}

#[test]
fn the_longest_timeout_counts() {
    let entries = ar::parse(b"a5 - x - 5\nb9 - x - 9\nc0 - y - 0\nd3 - y - 3\nbroken\n\n");
    assert_eq!(
        ar::longest_timeout(&entries, "x"),
        ar::Longest::After(std::time::Duration::from_secs(9))
    );
    assert_eq!(ar::longest_timeout(&entries, "y"), ar::Longest::Forever);
    assert_eq!(ar::longest_timeout(&entries, "z"), ar::Longest::NotNamed);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes, Path::new("x"), Dialect::Wazuh4);
        let _ = ar::parse(&bytes);
    }

    #[test]
    fn no_shuffled_tags_make_it_panic(parts in prop::collection::vec(prop::sample::select(vec![
        "<ossec_config>", "</ossec_config>", "<command>", "</command>", "<name>", "</name>", "<expect/>",
        "<executable>", "</executable>", "<active-response>", "</active-response>", "<location>local</location>",
        "<level>", "</level>", "9", "-", "<!--", "-->", "&x;", "\\<", "<![CDATA[", "]]>", "<?x?>", "<", ">", "\0",
    ]), 0..40)) {
        let _ = parse(parts.concat().as_bytes(), Path::new("x"), Dialect::Ossec);
    }
}
