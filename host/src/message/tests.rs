//! Messages: the recorded ones, and what no recorder would send.
//!
//! More than 400 lines: one scene that all cases share, and case after case.

use std::collections::BTreeSet;
use std::io::Cursor;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::decide;
use crate::event::{Expect, Field};

const VECTORS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/data/wazuh/vectors.jsonl"
);
const DEVIATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compatibility.md");

/// What each of the real programs wants from the alert.
fn expect(program: &str) -> Expect {
    match program {
        "disable-account" => Expect::from([Field::User]),
        "wazuh-slack" | "restart-wazuh" | "kaspersky" => Expect::new(),
        _ => Expect::from([Field::Srcip]),
    }
}

/// stdin as the recorder wrote it: a text, or a description of a long one.
fn stdin(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone().into_bytes()),
        // The one that is no text: the recorder kept its length alone.
        other => panic!("{other} is not described"),
    }
}

/// What the drop-in would write, and whether it would act.
fn answer(vector: &Value) -> (String, bool) {
    let program = vector["program"].as_str().unwrap();
    let mut input = Vec::new();
    if let Some(first) = stdin(&vector["stdin_first"]) {
        input.extend(first);
        if vector["first_newline"] != Value::Bool(false) {
            input.push(b'\n');
        }
    }
    if let Some(second) = stdin(&vector["stdin_second"]) {
        input.extend(second);
        input.push(b'\n');
    }
    let mut lines = Lines::new(Cursor::new(input));
    let Ok(request) = from_line(&lines.next_line().unwrap().unwrap_or_default()) else {
        return (String::new(), false);
    };
    let Ok(masked) = decide::mask(&request, &expect(program), &[], "agent") else {
        return (String::new(), false);
    };
    if request.action == Action::Delete || masked.keys.is_empty() {
        return (String::new(), true);
    }
    let asked = String::from_utf8(wazuh4::check_keys(program, &masked.keys)).unwrap();
    let reply = lines.next_line().unwrap().unwrap_or_default();
    (asked, super::reply(&reply, request.dialect).is_ok())
}

fn vectors() -> Vec<Value> {
    let text = std::fs::read_to_string(VECTORS).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn listed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(DEVIATIONS).unwrap();
    let prefixes = [
        "fd-", "hd-", "da-", "v5b-", "v5d-", "rn-", "ic-", "npf-", "fw-", "sl-", "rw-",
    ];
    text.lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|id| prefixes.iter().any(|prefix| id.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_recorded_program_is_answered_as_the_real_one_does() {
    let mut seen = 0;
    let mut different = BTreeSet::new();
    for vector in vectors() {
        let described = vector["stdin_first"].is_object();
        if !matches!(
            vector["layer"].as_str(),
            Some("executable" | "v5-executable")
        ) || described
        {
            continue;
        }
        seen += 1;
        let expected = &vector["expected"];
        let (stdout, acts) = answer(&vector);
        let real_stdout = expected["stdout"].as_str().unwrap();
        // A tool that fails behind the handshake is not the message's fault; whether
        // the program acted shows in what it ran.
        let ran = expected["commands"]
            .as_array()
            .is_some_and(|commands| !commands.is_empty());
        let real_acts = expected["exit"] == 0 || ran;
        if stdout != real_stdout || acts != real_acts {
            different.insert(vector["id"].as_str().unwrap().to_owned());
        }
    }
    assert!(seen >= 110, "{seen}");
    assert_eq!(
        different,
        listed(),
        "docs/compatibility.md has to list exactly what differs"
    );
}

#[test]
fn a_name_that_is_no_utf8_does_not_hide_the_address() {
    // `fd-invalid-utf8`, of which only the length was recorded.
    let mut line =
        br#"{"version":1,"origin":{},"command":"add","parameters":{"alert":{"full_log":"#.to_vec();
    line.extend(b"\"\xff\xfe\",\"data\":{\"srcip\":\"10.9.8.7\"}}}}");
    let request = from_line(&line).unwrap();
    assert_eq!(
        request.alert.srcip(&[]),
        Ok(Some("10.9.8.7".parse().unwrap()))
    );
}

#[test]
fn what_execd_sends_is_read_and_its_answers_too() {
    let mut seen = 0;
    for vector in vectors() {
        if !matches!(vector["layer"].as_str(), Some("execd" | "v5-execd")) {
            continue;
        }
        let dialect = if vector["layer"] == "execd" {
            Dialect::Wazuh4
        } else {
            Dialect::Wazuh5
        };
        let transcript = vector["expected"]["probe_transcript_while_running"]
            .as_array()
            .cloned();
        for entry in transcript.unwrap_or_default() {
            let (Some(kind), Some(line)) = (entry[0].as_str(), entry[1].as_str()) else {
                continue;
            };
            let line = line.trim_end_matches('\n').as_bytes();
            match kind {
                "in1" => {
                    // What execd itself lets through without the members that programs
                    // require is refused, as the programs refuse it.
                    if let Ok(request) = from_line(line) {
                        assert_eq!(request.dialect, dialect, "{}", vector["id"]);
                        seen += 1;
                    }
                }
                "in2" => {
                    if let Ok(reply) = super::reply(line, dialect) {
                        let abort = String::from_utf8_lossy(line).contains("\"abort\"");
                        assert_eq!(reply == Reply::Abort, abort, "{}", vector["id"]);
                        seen += 1;
                    }
                }
                _ => {}
            }
        }
    }
    assert!(seen >= 60, "{seen}");
}

#[test]
fn what_ossec_execd_starts_is_read() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/data/ossec/execd_message.jsonl"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let mut seen = 0;
    for line in text.lines() {
        let vector: Value = serde_json::from_str(line).unwrap();
        for step in vector["steps"].as_array().unwrap() {
            for run in step["observed"]["runs"].as_array().into_iter().flatten() {
                let argv: Vec<std::ffi::OsString> = run["argv"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|word| word.as_str().unwrap().into())
                    .collect();
                let request = ossec::from_argv(&argv).unwrap();
                let word = |at: usize| argv.get(at).map(|w| w.to_str().unwrap().to_owned());
                assert_eq!(request.action.to_string(), word(1).unwrap());
                let Alert::Arguments { user, srcip, .. } = &request.alert else {
                    panic!()
                };
                let plain =
                    |at| word(at).filter(|w: &String| !matches!(w.as_str(), "" | "-" | "(null)"));
                assert_eq!(
                    (user.clone(), srcip.clone()),
                    (plain(2), plain(3)),
                    "{}",
                    vector["id"]
                );
                seen += 1;
            }
        }
    }
    assert!(seen >= 30, "{seen}");
}

fn argv(words: &str) -> Request {
    let words: Vec<std::ffi::OsString> = words.split(' ').map(Into::into).collect();
    ossec::from_argv(&words).unwrap()
}

#[test]
fn a_location_and_a_file_name_in_pieces_are_put_together() {
    let request = argv(r"p add - 1.2.3.4 1.1 5 (web01) 10.0.0.5->/var/log/auth.log -");
    assert_eq!(
        request.alert.location().unwrap(),
        "(web01) 10.0.0.5->/var/log/auth.log"
    );
    assert_eq!(request.alert.filename().unwrap(), None);
    assert_eq!(request.alert.hostname().unwrap().unwrap(), "web01");
    let request = argv(r"p add - - 1.1 5 df -h /tmp/a\ b\;c");
    assert_eq!(request.alert.location().unwrap(), "df -h");
    assert_eq!(request.alert.filename().unwrap().unwrap(), "/tmp/a b;c");
    assert_eq!(
        argv("p add - null (from_the_server) (no_rule_id)")
            .alert
            .location(),
        None
    );
}

#[test]
fn what_is_written_as_arguments_is_read_back() {
    let event = |filename: Option<&str>| {
        crate::event::Event {
        filename: filename.map(str::to_owned),
        ..serde_json::from_value(serde_json::json!({
            "action": "add", "srcip": "1.2.3.4", "alert_id": "1.1", "rule_id": "5", "location": "df -h"
        }))
        .unwrap()
    }
    };
    for filename in [None, Some("/tmp/a b;c$d'e\\f"), Some("/tmp/(x) [y]")] {
        let words = ossec::words(&event(filename));
        let words: Vec<std::ffi::OsString> = std::iter::once("p".to_owned())
            .chain(words)
            .map(Into::into)
            .collect();
        let alert = ossec::from_argv(&words).unwrap().alert;
        assert_eq!(alert.filename().unwrap().as_deref(), filename);
        assert_eq!(alert.location().as_deref(), Some("df -h"));
        assert_eq!(alert.user(), Ok(None));
        assert_eq!(alert.srcip_text(&[]).unwrap().as_deref(), Some("1.2.3.4"));
    }
    let said = ossec::words(&event(Some("/tmp/a b;c"))).join(" ");
    assert_eq!(said, r"add - 1.2.3.4 1.1 5 df -h /tmp/a\ b\;c");
}

#[test]
fn a_doubled_member_is_never_read_as_either() {
    for text in [
        r#"{"version":1,"origin":{},"command":"add","command":"delete","parameters":{}}"#,
        r#"{"version":1,"origin":{},"command":"add","Command":"delete","parameters":{}}"#,
        r#"{"version":1,"origin":{},"command":"delete","parameters":{"alert":{}},"parameters":{}}"#,
        r#"{"wazuh":{},"command":"disable","command":"enable"}"#,
        r#"{"wazuh":{},"WAZUH":{},"command":"disable"}"#,
    ] {
        assert!(
            matches!(from_line(text.as_bytes()), Err(Malformed::Ambiguous(_))),
            "{text}"
        );
    }
    let text = r#"{"version":1,"origin":{},"command":"add","parameters":{"alert":{"data":{"srcip":"192.0.2.1","srcip":"192.0.2.2"}}}}"#;
    let request = from_line(text.as_bytes()).unwrap();
    let declined = decide::mask(&request, &Expect::from([Field::Srcip]), &[], "h").unwrap_err();
    assert!(declined.why.contains("more than one"), "{declined}");
}

#[test]
fn depth_size_and_numbers_are_bounded() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(
        from_line(deep.as_bytes()),
        Err(Malformed::NotJson(_))
    ));
    // What may be added may also be taken back, in a few bytes more.
    let line = |command: &str, size: usize| {
        let head =
            format!(r#"{{"version":1,"origin":{{}},"parameters":{{}},"command":"{command}","a":""#);
        format!("{head}{}\"}}", "x".repeat(size - head.len() - 2))
    };
    for (command, size, good) in [
        ("add", json::LARGEST, true),
        ("add", json::LARGEST + 1, false),
        ("delete", json::LARGEST + 3, true),
        ("delete", json::LARGEST_LINE + 1, false),
    ] {
        let request = from_line(line(command, size).as_bytes());
        assert_eq!(request.is_ok(), good, "{command} {size}");
    }
    let huge = r#"{"version":1e999,"origin":{},"command":"add","parameters":{}}"#;
    assert!(from_line(huge.as_bytes()).is_err());
    let mut lines = Lines::new(Cursor::new(vec![b'x'; json::LARGEST + 10_000]));
    assert!(lines.next_line().is_err());
}

#[test]
fn a_message_of_a_mebibyte_is_read() {
    let text = format!(
        r#"{{"version":1,"origin":{{}},"command":"add","parameters":{{"alert":{{"full_log":"{}","data":{{"srcip":"192.0.2.1"}}}}}}}}"#,
        "x".repeat(1_000_000)
    );
    let mut lines = Lines::new(Cursor::new(format!("{text}\nrest").into_bytes()));
    let request = from_line(&lines.next_line().unwrap().unwrap()).unwrap();
    assert!(request.alert.srcip(&[]).unwrap().is_some());
    assert_eq!(lines.next_line().unwrap().unwrap(), b"rest");
    assert_eq!(lines.next_line().unwrap(), None);
}

#[test]
fn every_real_alert_gives_its_fields() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/alerts/wazuh");
    let mut with_srcip = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let alert: Value = serde_json::from_str(&text).unwrap();
        let message = serde_json::json!({
            "version": 1, "origin": {}, "command": "add", "parameters": {"alert": alert}
        });
        let request = from_line(message.to_string().as_bytes()).unwrap();
        let data = &alert["data"]["srcip"];
        assert_eq!(
            request.alert.rule_id().as_deref(),
            alert["rule"]["id"].as_str()
        );
        assert_eq!(
            request.alert.agent_name().as_deref(),
            alert["agent"]["name"].as_str()
        );
        if let (Some(text), Ok(Some(ip))) = (data.as_str(), request.alert.srcip(&[])) {
            assert_eq!(crate::address::parse(text), Some(ip));
            with_srcip += 1;
        }
    }
    assert!(with_srcip >= 3);
}

#[test]
fn an_alert_of_our_own_log_starts_nothing_and_still_releases() {
    let add = argv("p add - 192.0.2.1 1.1 601 /var/ossec/logs/active-responses.log -");
    assert!(decide::mask(&add, &Expect::new(), &[], "h").is_err());
    let delete = argv("p delete - 192.0.2.1 1.1 601 /var/ossec/logs/active-responses.log -");
    assert!(decide::mask(&delete, &Expect::new(), &[], "h").is_ok());
}

#[test]
fn the_srcip_is_looked_for_where_the_grants_say() {
    let text = r#"{"version":1,"origin":{},"command":"add","parameters":{"alert":{"data":{"srcip":"192.0.2.1","win":{"eventdata":{"ipAddress":"192.0.2.9"}}}}}}"#;
    let request = from_line(text.as_bytes()).unwrap();
    let srcip = |paths: &[&str]| {
        let paths: Vec<String> = paths.iter().map(|p| (*p).to_owned()).collect();
        request
            .alert
            .srcip(&paths)
            .unwrap()
            .map(|ip| ip.to_string())
    };
    assert_eq!(srcip(&[]).as_deref(), Some("192.0.2.1"));
    assert_eq!(
        srcip(&["data.win.eventdata.ipAddress", "data.srcip"]).as_deref(),
        Some("192.0.2.9")
    );
    assert_eq!(srcip(&["data.nothing"]), None);
}

fn any_expect() -> impl Strategy<Value = Expect> {
    let fields = vec![Field::Srcip, Field::User, Field::Hostname, Field::Filename];
    prop::sample::subsequence(fields, 0..=4).prop_map(|fields| fields.into_iter().collect())
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = from_line(&bytes);
        let _ = reply(&bytes, Dialect::Wazuh4);
        let _ = Lines::new(Cursor::new(bytes)).next_line();
    }

    #[test]
    fn no_arguments_make_it_panic(words in prop::collection::vec(".{0,20}", 0..40)) {
        let words: Vec<std::ffi::OsString> = words.into_iter().map(Into::into).collect();
        let _ = ossec::from_argv(&words);
    }

    #[test]
    fn what_is_not_expected_is_never_seen(expect in any_expect(), srcip in "[0-9.:a-f]{0,20}", user in ".{0,20}") {
        let message = serde_json::json!({
            "version": 1, "origin": {}, "command": "add",
            "parameters": {"alert": {"data": {"srcip": srcip, "dstuser": user}, "predecoder": {"hostname": "h"}, "syscheck": {"path": "/p"}}}
        });
        let request = from_line(message.to_string().as_bytes()).unwrap();
        if let Ok(masked) = decide::mask(&request, &expect, &[], "own") {
            prop_assert_eq!(masked.event.srcip.is_some(), expect.contains(&Field::Srcip));
            prop_assert_eq!(masked.event.user.is_some(), expect.contains(&Field::User));
            prop_assert_eq!(masked.event.hostname.is_some(), expect.contains(&Field::Hostname));
            prop_assert_eq!(masked.event.filename.is_some(), expect.contains(&Field::Filename));
            prop_assert_eq!(masked.keys.len(), expect.len());
        }
    }
}
