use std::ffi::OsString;
use std::io::Read as _;

use cap_std::fs::Dir;
use jiff::ZonedDateTime;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::message;

fn now() -> ZonedDateTime {
    "2026-11-03T03:17:56[UTC]".parse().unwrap()
}

/// OSSEC's decoder `ar_log`, written as the tests of the real program show it:
/// a C-locale date with an alphabetic zone, a path with `/active-response`, the
/// user `-`, numbers in the id and the rule.
fn ossec_decodes(line: &str) -> Option<(String, String, String)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let alphabetic = |w: &str| w.chars().all(|c| c.is_ascii_alphabetic());
    let [
        week,
        month,
        day,
        time,
        zone,
        year,
        path,
        action,
        user,
        ip,
        id,
        rule,
        ..,
    ] = words[..]
    else {
        return None;
    };
    let dated = alphabetic(week)
        && alphabetic(month)
        && day.parse::<u8>().is_ok()
        && time.len() == 8
        && alphabetic(zone)
        && year.parse::<u16>().is_ok();
    let decoded = dated
        && path.contains("/active-response/bin/")
        && user == "-"
        && id.split('.').all(|part| part.parse::<u64>().is_ok())
        && rule.parse::<u32>().is_ok();
    let name = path.rsplit('/').next()?;
    decoded.then(|| (name.to_owned(), action.to_owned(), ip.to_owned()))
}

/// Wazuh's decoder `ar_log_json`: `^date time active-response/bin/\S+: ` and JSON.
fn wazuh_decodes(line: &str) -> Option<Value> {
    let (head, json) = line.split_once(": ")?;
    let words: Vec<&str> = head.split(' ').collect();
    let [date, time, program] = words[..] else {
        return None;
    };
    let digits = |text: &str, by: char| text.split(by).all(|part| part.parse::<u16>().is_ok());
    (digits(date, '/') && digits(time, ':') && program.starts_with("active-response/bin/"))
        .then(|| serde_json::from_str(json).ok())
        .flatten()
}

fn ossec(words: &[&str]) -> String {
    let argv: Vec<OsString> = words.iter().map(Into::into).collect();
    let request = message::ossec::from_argv(&argv).unwrap();
    let lines = started(&request, words[0], &now());
    assert_eq!(lines.len(), 1);
    lines.into_iter().next().unwrap()
}

#[test]
fn the_decoder_of_these_tests_is_the_recorded_one() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/data/ossec/arlog.jsonl"
    );
    let mut decoded = 0;
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let vector: Value = serde_json::from_str(line).unwrap();
        let answer = ossec_decodes(vector["input_line"].as_str().unwrap());
        let real = vector["decoded"]["srcip"].as_str();
        assert_eq!(
            answer.as_ref().map(|(_, _, ip)| ip.as_str()),
            real,
            "{}",
            vector["id"]
        );
        decoded += usize::from(real.is_some());
    }
    assert!(decoded >= 6);
}

#[test]
fn ossecs_line_is_the_originals_byte_for_byte() {
    let program = "/var/ossec/active-response/bin/host-deny.sh";
    assert_eq!(
        ossec(&[
            program,
            "add",
            "-",
            "1.2.3.4",
            "1795489577.1",
            "5712",
            "/var/log/auth.log",
            "-"
        ]),
        "Tue Nov  3 03:17:56 UTC 2026 /var/ossec/active-response/bin/host-deny.sh add - 1.2.3.4 1795489577.1 5712"
    );
    let numeric: ZonedDateTime = "2026-11-03T06:17:56+03:00[+03:00]".parse().unwrap();
    assert!(date(&numeric).contains("UTC"), "{}", date(&numeric));
}

#[test]
fn wazuhs_lines_are_the_originals() {
    let message = r#"{"version":1,"origin":{"name":"node01","module":"wazuh-execd"},"command":"add","parameters":{"extra_args":[],"alert":{"data":{"srcip":"10.9.8.7"}},"program":"active-response/bin/firewall-drop"}}"#;
    let request = message::from_line(message.as_bytes()).unwrap();
    let lines = started(&request, "active-response/bin/firewall-drop", &now());
    assert_eq!(
        lines[0],
        "2026/11/03 03:17:56 active-response/bin/firewall-drop: Starting"
    );
    assert_eq!(
        lines[1],
        format!("2026/11/03 03:17:56 active-response/bin/firewall-drop: {message}")
    );
    assert!(wazuh_decodes(&lines[1]).is_some());
}

#[test]
fn the_sender_does_not_choose_the_program_that_rules_look_at() {
    let message = r#"{"version":1,"origin":{},"command":"add","parameters":{"program":"active-response/bin/firewall-drop","alert":{}}}"#;
    let request = message::from_line(message.as_bytes()).unwrap();
    let lines = started(&request, "active-response/bin/other", &now());
    let decoded = wazuh_decodes(&lines[1]).unwrap();
    assert_eq!(
        decoded["parameters"]["program"],
        "active-response/bin/other"
    );
}

#[test]
fn our_own_line_is_decoded_by_nobody() {
    let outcome = Outcome {
        response: "firewall-drop".into(),
        action: "add".into(),
        verdict: "ok".into(),
        effects: vec!["block 192.0.2.1/32: done, for 10m".into()],
        used: "fuel 912".into(),
        warnings: vec!["over budget".into()],
    };
    let line = outcome_line(&outcome, &now());
    assert_eq!(
        line,
        "2026-11-03T03:17:56+00:00 retort: firewall-drop add: ok; block 192.0.2.1/32: done, for 10m; WARNING: over budget (fuel 912)"
    );
    assert_eq!(ossec_decodes(&line), None);
    assert_eq!(wazuh_decodes(&line), None);
}

#[test]
fn the_log_is_a_plain_file_or_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Dir::open_ambient_dir(dir.path(), cap_std::ambient_authority()).unwrap();
    let path = dir.path().join("active-responses.log");
    Log::open(&logs).unwrap().append("one").unwrap();
    Log::open(&logs).unwrap().append("two").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");

    let victim = dir.path().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    assert!(
        Log::open(&logs)
            .unwrap_err()
            .to_string()
            .contains("symbolic link")
    );
    std::fs::remove_file(&path).unwrap();
    std::fs::hard_link(&victim, &path).unwrap();
    assert!(
        Log::open(&logs)
            .unwrap_err()
            .to_string()
            .contains("several names")
    );
    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(Log::open(&logs).is_err());
    let mut text = String::new();
    std::fs::File::open(&victim)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "untouched");
}

fn is_one_line(line: &str) -> bool {
    let separators = ['\u{85}', '\u{2028}', '\u{2029}'];
    !line
        .chars()
        .any(|c| c.is_control() || separators.contains(&c))
}

proptest! {
    #[test]
    fn no_argument_forges_a_line(words in prop::collection::vec("(\\PC|[\\n\\r\\x00-\\x1f\\u{85}\\u{2028}]){0,24}", 6)) {
        let forged = "\nTue Nov 24 03:17:56 UTC 2026 /var/ossec/active-response/bin/firewall-drop.sh add - 9.9.9.9 1.1 1";
        let words: Vec<String> = words.iter().map(|w| format!("{w}{forged}")).collect();
        let mut all = vec!["/var/ossec/active-response/bin/x", "add"];
        all.extend(words.iter().map(String::as_str));
        let line = ossec(&all);
        prop_assert!(is_one_line(&line), "{line:?}");
        // Every argument is one word: none of them moves another.
        prop_assert_eq!(line.split(' ').filter(|w| !w.is_empty()).count(), 6 + 6);
    }

    #[test]
    fn no_member_forges_a_line(key in "(\\PC|[\\n\\x00-\\x1f\\u{85}\\u{2028}]){0,24}", value in "(\\PC|[\\n\\x00-\\x1f\\u{85}\\u{2028}]){0,24}") {
        let message = serde_json::json!({
            "version": 1, "origin": {"name": value}, "command": "add",
            "parameters": {"alert": {key.as_str(): value, "data": {"srcip": value}}}
        });
        let request = message::from_line(message.to_string().as_bytes()).unwrap();
        for line in started(&request, "active-response/bin/x", &now()) {
            prop_assert!(is_one_line(&line), "{line:?}");
        }
        let outcome = Outcome { response: value.clone(), verdict: value.clone(), effects: vec![value.clone()], ..Outcome::default() };
        let line = outcome_line(&outcome, &now());
        prop_assert!(is_one_line(&line));
        prop_assert_eq!(ossec_decodes(&line), None);
        prop_assert!(wazuh_decodes(&line).is_none());
    }

    #[test]
    fn the_echo_means_what_was_said(value in "\\PC{0,40}") {
        let message = serde_json::json!({
            "version": 1, "origin": {}, "command": "add", "parameters": {"alert": {"x": value}}
        });
        let request = message::from_line(message.to_string().as_bytes()).unwrap();
        let lines = started(&request, "active-response/bin/x", &now());
        let json = wazuh_decodes(&lines[1]).unwrap();
        prop_assert_eq!(json["parameters"]["alert"]["x"].as_str(), Some(value.as_str()));
    }
}
