//! How alerts bind: the recorded ones, and each reason by itself.
//!
//! More than 400 lines: one scene that all cases share, and case after case.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::conf::{grants, keys, ossec, rules};
use crate::message::json;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/ossec");
const DEVIATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compatibility.md");

fn data(name: &str) -> String {
    std::fs::read_to_string(format!("{DATA}/{name}")).unwrap()
}

fn alert(value: &Value) -> Alert {
    Alert::of(json::parse(value.to_string().as_bytes()).unwrap())
}

fn site(rules: Rules) -> Site {
    Site {
        installation: Installation::Server,
        keys: keys::parse(b"001 web01 any k\n"),
        rules,
        hostname: "manager".to_owned(),
        findings: Vec::new(),
    }
}

fn conf(inside: &str) -> OssecConf {
    let text = format!("<ossec_config>{inside}</ossec_config>");
    ossec::parse(text.as_bytes(), Path::new("ossec.conf"), Dialect::Ossec).unwrap()
}

/// One command that expects that, and one block for it.
fn binder(expect: &str, besides: &str, grants: &str) -> Binder {
    let conf = conf(&format!(
        "{besides}<command><name>c</name><executable>c.sh</executable><expect>{expect}</expect></command>
         <active-response><command>c</command><location>server</location><level>1</level></active-response>"
    ));
    let grants = grants::parse(grants, Path::new("retort.toml")).unwrap();
    Binder::new(&conf, &grants, site(Rules::default()))
}

fn seen() -> Value {
    json!({
        "rule": {"level": 5, "sidid": 5716, "groups": ["sshd"]}, "id": "1.1",
        "srcip": "203.0.113.9", "dstuser": "alice", "location": "/var/log/auth.log"
    })
}

fn with(member: &str, value: &str) -> Value {
    let mut alert = seen();
    alert[member] = json!(value);
    alert
}

fn cause(binder: &Binder, value: &Value) -> Cause {
    fate(binder, value).unwrap_err().cause
}

fn fate(binder: &Binder, value: &Value) -> Result<Fired, Unfired> {
    let alert = alert(value);
    let explained = binder.explain(&alert).remove(0).fate;
    let bound = binder.bind(&alert).pop().map(|bound| bound.fate);
    match &bound {
        Some(fate) => assert_eq!(*fate, explained, "both ways say the same"),
        None => assert_eq!(explained.as_ref().unwrap_err().cause, Cause::Selector),
    }
    explained
}

#[test]
fn each_cause_is_told_from_the_others() {
    let drop = binder(
        "srcip",
        "<global><white_list>10.0.0.0/8</white_list></global>",
        "",
    );
    assert!(fate(&drop, &seen()).is_ok());
    let mut quiet = seen();
    quiet["rule"]["level"] = json!(0);
    assert_eq!(cause(&drop, &quiet), Cause::Selector);
    for (member, value, expected) in [
        (
            "location",
            "/var/ossec/logs/active-responses.log",
            Cause::OwnLog,
        ),
        (
            "location",
            "(web01) 10.0.0.5->/var/ossec/logs/active-responses.log",
            Cause::OwnLog,
        ),
        ("srcip", "10.1.2.3", Cause::WhiteList),
        ("srcip", "::ffff:10.1.2.3", Cause::WhiteList),
        ("srcip", "-", Cause::Absent),
        ("srcip", "", Cause::Absent),
        ("srcip", "evil.example.com", Cause::Unusable),
        ("srcip", "1.2.3.4;id", Cause::Unusable),
    ] {
        assert_eq!(
            cause(&drop, &with(member, value)),
            expected,
            "{member} {value}"
        );
    }
    let excluded = binder("srcip", "", "[watch]\nexclude_rules = [5716]");
    let unfired = fate(&excluded, &seen()).unwrap_err();
    assert_eq!(unfired.cause, Cause::Excluded);
    assert!(unfired.why.contains("exclude_rules"), "{unfired}");
    let by_group = conf(
        "<command><name>c</name><executable>c.sh</executable><expect/></command>
         <active-response><command>c</command><location>server</location><rules_group>sshd</rules_group></active-response>",
    );
    let by_group = Binder::new(&by_group, &Grants::default(), site(Rules::default()));
    assert_eq!(cause(&by_group, &quiet), Cause::Level);
}

#[test]
fn a_rule_that_has_no_ar_starts_nothing_and_says_where_it_has_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rules")).unwrap();
    let file = dir.path().join("rules/r.xml");
    std::fs::write(
        file,
        "<group name=\"x\">\n<rule id=\"5716\" level=\"5\"><options>no_ar</options></rule></group>",
    )
    .unwrap();
    let text = "<rules><include>r.xml</include></rules><command><name>c</name><executable>c</executable><expect/></command>
        <active-response><command>c</command><location>server</location><level>1</level></active-response>";
    let conf = conf(text);
    let root = crate::root::Root::new(dir.path());
    let rules = Rules::read(&root, &conf.rules, Dialect::Ossec);
    let binder = Binder::new(&conf, &Grants::default(), site(rules));
    let unfired = fate(&binder, &seen()).unwrap_err();
    assert_eq!(unfired.cause, Cause::Rule);
    assert!(unfired.why.contains("rules/r.xml:2"), "{unfired}");
}

#[test]
fn the_white_list_counts_whatever_is_expected() {
    let list = "<global><white_list>10.0.0.0/8</white_list><white_list>good.example.com</white_list></global>";
    let disable = binder("username", list, "");
    for (srcip, expected) in [
        ("10.1.2.3", false),
        ("good.example.com", false),
        ("GOOD.example.com", false),
        ("good.example.com.evil", true),
        ("good", true),
        ("203.0.113.9", true),
    ] {
        let fate = fate(&disable, &with("srcip", srcip));
        assert_eq!(fate.is_ok(), expected, "{srcip}: {fate:?}");
    }
}

#[test]
fn an_address_that_the_grants_look_for_elsewhere_is_spared_too() {
    let list = "<global><white_list>10.0.0.0/8</white_list></global>";
    let other = binder("srcip", list, "[response.c]\nsrcip = [\"data.attacker\"]");
    assert_eq!(
        cause(&other, &with("attacker", "10.1.2.3")),
        Cause::WhiteList
    );
    assert!(fate(&other, &with("attacker", "203.0.113.5")).is_ok());
    assert_eq!(cause(&other, &seen()), Cause::Absent);
}

#[test]
fn users_are_those_that_analysisd_lets_through() {
    let disable = binder("username", "", "");
    for user in ["bob", "b.o_b@x-1", "-rf", "what?"] {
        let fired = fate(&disable, &with("dstuser", user)).unwrap();
        assert_eq!(fired.masked.event.user.as_deref(), Some(user));
    }
    for user in ["CORP\\bob", "HOST$", "bob x", "b\u{f6}b", "bad;"] {
        let mut alert = with("dstuser", user);
        alert["srcuser"] = json!("good");
        let unfired = fate(&disable, &alert).unwrap_err();
        assert_eq!(unfired.cause, Cause::Unusable, "{user}");
        assert!(unfired.why.contains("(1272)"), "{unfired}");
    }
    let mut dash = with("dstuser", "-");
    assert_eq!(cause(&disable, &dash), Cause::Absent);
    dash["srcuser"] = json!("carol");
    let fired = fate(&disable, &dash).unwrap();
    assert_eq!(fired.masked.event.user.as_deref(), Some("carol"));
}

#[test]
fn an_alert_that_says_two_things_runs_nowhere() {
    let text = r#"{"rule":{"level":5,"sidid":1},"location":"a","location":"(web01) 1->a","srcip":"203.0.113.9"}"#;
    let doubled = Alert::of(json::parse(text.as_bytes()).unwrap());
    let binder = binder("", "", "");
    let unfired = binder.bind(&doubled).remove(0).fate.unwrap_err();
    assert_eq!(unfired.cause, Cause::Ambiguous);
}

#[test]
fn a_block_is_the_same_wherever_it_stands() {
    let command = "<command><name>c</name><executable>c.sh</executable><expect/></command>";
    let one = "<active-response><command>c</command><location>server</location><level>1</level></active-response>";
    let other = one.replace("server", "local");
    let identities = |text: &str| -> Vec<String> {
        let binder = Binder::new(&conf(text), &Grants::default(), site(Rules::default()));
        let blocks = binder.blocks.iter();
        blocks.map(|block| block.identity().to_owned()).collect()
    };
    let before = identities(&format!("{command}{one}{one}"));
    let after = identities(&format!("\n\n{command}\n{other}\n{one}{one}"));
    assert_ne!(before[0], before[1]);
    assert_eq!(before, after[1..]);
    assert!(!before.contains(&after[0]));
}

#[test]
fn a_timeout_below_nothing_ends_at_once_and_none_never() {
    let timeout = |text: &str| {
        let conf = conf(&format!(
            "<command><name>c</name><executable>c</executable><expect/></command>
             <active-response><command>c</command><location>server</location><level>1</level>{text}</active-response>"
        ));
        let binder = Binder::new(&conf, &Grants::default(), site(Rules::default()));
        binder.blocks[0].timeout()
    };
    assert_eq!(timeout(""), None);
    assert_eq!(timeout("<timeout>0</timeout>"), None);
    assert_eq!(timeout("<timeout>-5</timeout>"), Some(Duration::ZERO));
    assert_eq!(
        timeout("<timeout>10m</timeout>"),
        Some(Duration::from_secs(10))
    );
}

#[test]
fn a_command_of_wazuh_that_does_not_say_expects_what_its_grants_say() {
    let text = "<ossec_config><command><name>c</name><executable>c</executable><extra_args>a b</extra_args></command>
        <active-response><command>c</command><location>local</location><level>1</level><timeout>60</timeout></active-response></ossec_config>";
    let conf = ossec::parse(text.as_bytes(), Path::new("o"), Dialect::Wazuh4).unwrap();
    let text = "dialect = \"wazuh4\"\n[response.c]\nexpect = [\"srcip\"]\n";
    let grants = grants::parse(text, Path::new("r")).unwrap();
    let binder = Binder::new(&conf, &grants, site(Rules::default()));
    let alert = json!({"rule": {"id": "1", "level": 3, "groups": []}, "agent": {"id": "000"}, "data": {"srcip": "203.0.113.9"}});
    let fired = fate(&binder, &alert).unwrap();
    assert_eq!(fired.masked.keys, ["203.0.113.9"]);
    assert_eq!(fired.masked.event.extra_args, ["a", "b"]);
    assert_eq!(fired.masked.event.timeout, Some(60));
    assert_eq!(fired.places, [Place::Here]);
}

// What the real analysisd did

/// A rule of the recorder, and whether its alerts are written at all: one that is not
/// written can't be followed.
struct Recorded {
    id: String,
    level: u32,
    groups: String,
    written: bool,
    ignore: bool,
}

fn attribute<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}=\""))?;
    rest.split('"').next()
}

/// By the letter that stands in the log line.
fn recorded_rules() -> BTreeMap<String, Recorded> {
    let text = data("analysisd_rules.xml");
    let (head, _) = text.split_once('\n').unwrap();
    let common = attribute(head, "name").unwrap();
    let lines = text.lines().filter(|line| line.contains("<match>ev="));
    lines
        .map(|line| {
            let between = |from: &str, to: &str| {
                let (_, rest) = line.split_once(from)?;
                Some(rest.split(to).next().unwrap().to_owned())
            };
            let level: u32 = attribute(line, "level").unwrap().parse().unwrap();
            let rule = Recorded {
                id: attribute(line, "id").unwrap().to_owned(),
                level,
                groups: format!("{common}{}", between("<group>", "<").unwrap_or_default()),
                written: level > 0 && !line.contains("noalert") && !line.contains("no_log"),
                ignore: line.contains("ignore="),
            };
            (between("<match>ev=", " ").unwrap(), rule)
        })
        .collect()
}

/// The alert that OSSEC writes for a log line of the recorder.
fn written(input: &str, rule: &Recorded) -> Value {
    let mut parts = input.splitn(3, ':');
    let (_, location) = (parts.next(), parts.next().unwrap());
    let log = parts.next().unwrap();
    let mut alert = json!({
        "rule": {
            "level": rule.level, "sidid": rule.id.parse::<u32>().unwrap(), "group": rule.groups,
            "groups": rule.groups.split(',').filter(|g| !g.is_empty()).collect::<Vec<_>>()
        },
        "id": "{time}.{alert_id}", "location": location, "full_log": log, "hostname": "myhost"
    });
    for (field, member) in [
        ("srcip", "srcip"),
        ("srcuser", "srcuser"),
        ("dstuser", "dstuser"),
    ] {
        if let Some(value) = decoded(log, field) {
            alert[member] = json!(value);
        }
    }
    if let Some(path) = decoded(log, "file") {
        alert["SyscheckFile"] = json!({"path": path});
    }
    alert
}

fn decoded<'a>(log: &'a str, field: &str) -> Option<&'a str> {
    let (_, rest) = log.split_once(&format!("{field}=["))?;
    // As the recorder's decoder: up to the bracket before the next field.
    Some(rest.split("] ").next().unwrap())
}

/// The messages that analysisd would have sent, queue and text.
fn messages(binder: &Binder, alert: &Alert) -> Vec<(String, String)> {
    let mut messages = Vec::new();
    for bound in binder.bind(alert) {
        let Ok(fired) = bound.fate else { continue };
        let response = &bound.block.response;
        let words = crate::message::ossec::words(&fired.masked.event);
        let name = format!("{}{}", response.command, response.timeout);
        let text = format!("{name} {}", words[1..].join(" "));
        if fired.places.contains(&Place::Here) {
            messages.push(("execq".to_owned(), text.clone()));
        }
        let flag = |is: bool, letter: char| if is { letter } else { 'N' };
        let away: Vec<&Place> = fired.places.iter().filter(|p| **p != Place::Here).collect();
        if away.is_empty() {
            continue;
        }
        let all = flag(away.contains(&&Place::Agents), 'A');
        let witness = flag(away.iter().any(|p| matches!(p, Place::Witness(_))), 'R');
        let defined = flag(away.iter().any(|p| matches!(p, Place::Agent(_))), 'S');
        let id = response.agent_id.as_deref().unwrap_or("(null)");
        let location = alert.location().unwrap();
        let source = if location.starts_with('(') {
            location
        } else {
            format!("(local_source) {location}")
        };
        // What printf makes of a file name that is not there.
        let text = if fired.masked.event.filename.is_none() {
            format!("{}(null)", text.strip_suffix('-').unwrap())
        } else {
            text
        };
        messages.push((
            "ar".to_owned(),
            format!("{source} {all}{witness}{defined} {id} {text}"),
        ));
    }
    messages
}

/// The recorder wrote one character for each byte.
fn bytes(text: &str) -> String {
    let bytes: Vec<u8> = text
        .chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn every_recorded_alert_is_bound_as_the_real_program_does() {
    let rules = recorded_rules();
    assert_eq!(rules.len(), 10);
    let parsed = rules::parse(data("analysisd_rules.xml").as_bytes(), Path::new("r.xml")).unwrap();
    assert_eq!(parsed.len(), 11);
    let dir = tempfile::tempdir().unwrap();
    let root = crate::root::Root::new(dir.path());
    std::fs::create_dir(dir.path().join("rules")).unwrap();
    std::fs::write(
        dir.path().join("rules/artest_rules.xml"),
        data("analysisd_rules.xml"),
    )
    .unwrap();
    let mut different = BTreeSet::new();
    let mut ignored = BTreeSet::new();
    let mut count = 0;
    for line in data("analysisd.jsonl").lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| bytes(record[name].as_str().unwrap());
        let conf = ossec::parse(
            text("ossec_conf").as_bytes(),
            Path::new("ossec.conf"),
            Dialect::Ossec,
        )
        .unwrap();
        let read = Rules::read(&root, &conf.rules, Dialect::Ossec);
        assert!(
            read.findings
                .iter()
                .all(|f| f.file.ends_with("rules_config.xml")),
            "stock rules"
        );
        let binder = Binder::new(&conf, &Grants::default(), site(read));
        let input = text("input");
        let (_, rest) = input.split_once(" ev=").unwrap();
        let rule = &rules[rest.split(' ').next().unwrap()];
        let first = !rule.ignore || ignored.insert((text("config_id"), rule.id.clone()));
        let answer = if rule.written && first {
            messages(&binder, &alert(&written(&input, rule)))
        } else {
            Vec::new()
        };
        let recorded: Vec<(String, String)> = record["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| {
                let text = |name: &str| bytes(message[name].as_str().unwrap());
                (text("queue"), text("template"))
            })
            .collect();
        if answer != recorded {
            different.insert(text("id"));
        }
        count += 1;
    }
    assert!(count >= 72, "{count}");
    let listed = std::fs::read_to_string(DEVIATIONS).unwrap();
    let listed: BTreeSet<String> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|id| id.starts_with("analysisd-"))
        .map(str::to_owned)
        .collect();
    assert_eq!(
        different, listed,
        "docs/compatibility.md has to list exactly what differs"
    );
}
