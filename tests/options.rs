//! The documented options, one test for each option and each example of the document,
//! named after it: from the XML as it is printed there to what is bound, where it
//! would run, with which fields, for how long. The last test ticks the document off
//! against this file.

use std::path::Path;
use std::time::Duration;

use retort::alert::Alert;
use retort::conf::active_response::Location;
use retort::conf::grants::Grants;
use retort::conf::ossec::{self, OssecConf};
use retort::conf::rules::{self, Rules};
use retort::conf::{Problem, keys};
use retort::decide::bind::{Binder, Bound, Cause, Fired, Site};
use retort::decide::location::{Agent, Installation, Place};
use retort::event::{Dialect, Event, Expect, Field};
use retort::message::json;
use serde_json::{Value, json};

const DOCUMENT: &str = include_str!("data/ossec/active-response-options.txt");

/// What an example's XML stands under.
const HEADINGS: [&str; 6] = [
    "Command: ",
    "Active-Response: ",
    "Rule ",
    "Here is an example rule",
    "Example:",
    "XML excerpt",
];

/// Every piece of XML in the document, with the line that it stands under.
fn examples() -> Vec<(&'static str, String)> {
    let mut examples: Vec<(&str, String)> = Vec::new();
    let mut heading = "";
    let mut open = false;
    for line in DOCUMENT.lines() {
        if HEADINGS.iter().any(|start| line.starts_with(start)) {
            heading = line;
        }
        if line.is_empty() {
            open = false;
        } else if open {
            let (_, text) = examples.last_mut().unwrap();
            text.push_str(line);
            text.push('\n');
        } else if line.starts_with('<') {
            open = true;
            examples.push((heading, format!("{line}\n")));
        }
    }
    examples
}

/// The one that stands under this line.
fn example(heading: &str) -> String {
    let mut found = examples().into_iter().filter(|(h, _)| *h == heading);
    let (_, text) = found.next().unwrap_or_else(|| panic!("{heading}"));
    assert!(found.next().is_none(), "two examples under {heading}");
    text
}

const RESTART: &str = "Command: Restart OSSEC on *nix systems:";
const RESTART_ON: &str = "Active-Response: Restart the OSSEC processes:";
const AGENT_CONF: &str = "Here is an example rule checking for changes to the agent.conf.";
const PF: &str = "Command: Block an IP with pf.sh:";
const PF_ON: &str = "Active-Response: Block an IP with pf:";
const MAKELISTS: &str = "Command: Run the makelists.sh script:";
const MAKELISTS_ON: &str = "Active-Response: Update cdb lists:";
const BLOCKED_TXT: &str = "Rule 510011: This example rule looks for changes to /var/ossec/lists/blocked.txt based on syscheck alerts.";
const DROP: &str = "Command: firewall-drop:";
const DROP_ON: &str = "Active-Response: Block a srcip:";

/// The command of the last examples. One of its closing tags is wrong in the document.
fn firewall_drop() -> String {
    let printed = example(DROP);
    let fault = "<name>firewall-drop</command>";
    assert_eq!(printed.matches(fault).count(), 1, "{printed}");
    printed.replace(fault, "<name>firewall-drop</name>")
}

/// The same, under the name that two examples use and none defines.
fn firewall_block() -> String {
    firewall_drop().replace("<name>firewall-drop<", "<name>firewall-block<")
}

fn read(pieces: &[&str]) -> Result<OssecConf, Box<Problem>> {
    let text = format!("<ossec_config>\n{}</ossec_config>\n", pieces.concat());
    ossec::parse(text.as_bytes(), Path::new("ossec.conf"), Dialect::Ossec)
}

fn refused(pieces: &[&str]) -> Problem {
    *read(pieces).unwrap_err()
}

/// A manager with agents 001 and 002, or a host by itself.
fn installation(kind: Installation, pieces: &[&str]) -> Binder {
    let keys = match kind {
        Installation::Server => keys::parse(b"001 web01 10.0.0.5 k\n002 web02 10.0.0.6 k\n"),
        Installation::Local => keys::Keys::default(),
    };
    let site = Site {
        installation: kind,
        keys,
        rules: Rules::default(),
        hostname: "manager".to_owned(),
        findings: Vec::new(),
    };
    Binder::new(&read(pieces).unwrap(), &Grants::default(), site)
}

fn server(pieces: &[&str]) -> Binder {
    installation(Installation::Server, pieces)
}

fn local(pieces: &[&str]) -> Binder {
    installation(Installation::Local, pieces)
}

const ATTACKER: &str = "203.0.113.9";
const HOSTS_LOG: &str = "manager->/var/log/auth.log";
const AGENTS_LOG: &str = "(web01) 10.0.0.5->/var/log/auth.log";

/// An alert with all fields, as OSSEC writes it.
fn alert(id: u32, level: u8, groups: &[&str]) -> Value {
    json!({
        "rule": {"level": level, "sidid": id, "group": format!("{},", groups.join(",")), "groups": groups},
        "id": "1795489852.1", "srcip": ATTACKER, "srcuser": "oracle", "dstuser": "alice",
        "SyscheckFile": {"path": "/etc/passwd"}, "location": HOSTS_LOG, "hostname": "manager"
    })
}

fn of_agent(mut alert: Value) -> Value {
    alert["location"] = json!(AGENTS_LOG);
    alert["hostname"] = json!(AGENTS_LOG);
    alert
}

fn parsed(alert: &Value) -> Alert {
    Alert::of(json::parse(alert.to_string().as_bytes()).unwrap())
}

/// The one block of the configuration, and what becomes of it.
fn only<T>(binder: &Binder, alert: &Value, look: impl FnOnce(&Bound<'_>) -> T) -> T {
    let alert = parsed(alert);
    let bound = binder.explain(&alert);
    assert_eq!(bound.len(), 1);
    look(&bound[0])
}

fn fired(binder: &Binder, alert: &Value) -> Fired {
    only(binder, alert, |bound| bound.fate.clone().unwrap())
}

fn fires(binder: &Binder, alert: &Value) -> bool {
    only(binder, alert, |bound| bound.fate.is_ok())
}

fn unfired(binder: &Binder, alert: &Value) -> Cause {
    only(binder, alert, |bound| bound.fate.clone().unwrap_err().cause)
}

fn runs_at(binder: &Binder, alert: &Value) -> Vec<Place> {
    fired(binder, alert).places
}

fn lasts(binder: &Binder, alert: &Value) -> Option<Duration> {
    only(binder, alert, |bound| bound.block.timeout())
}

/// srcip, user, hostname, filename as the command is shown them; `-` is none.
fn fields(event: &Event) -> [String; 4] {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    [
        or_dash(&event.srcip.map(|ip| ip.to_string())),
        or_dash(&event.user),
        or_dash(&event.hostname),
        or_dash(&event.filename),
    ]
}

fn shown(binder: &Binder, alert: &Value) -> [String; 4] {
    fields(&fired(binder, alert).masked.event)
}

fn witness() -> Place {
    Place::Witness(Agent {
        id: Some("001".to_owned()),
        name: Some("web01".to_owned()),
    })
}

fn failed() -> Value {
    alert(5716, 5, &["syslog", "sshd", "authentication_failed"])
}

/// A response to everything, by the document's command that expects the srcip.
fn drop_with(options: &str) -> String {
    format!(
        "{}<active-response><command>firewall-drop</command>{options}</active-response>",
        firewall_drop()
    )
}

// Supported types

#[test]
fn type_server() {
    let binder = server(&[&drop_with("<location>local</location><level>1</level>")]);
    assert_eq!(runs_at(&binder, &failed()), [Place::Here]);
    assert_eq!(runs_at(&binder, &of_agent(failed())), [witness()]);
}

#[test]
fn type_local() {
    for location in ["local", "server", "all"] {
        let options = format!("<location>{location}</location><level>1</level>");
        let binder = local(&[&drop_with(&options)]);
        assert_eq!(runs_at(&binder, &failed()), [Place::Here], "{location}");
    }
}

// Command Options

#[test]
fn option_command_command() {
    let none = refused(&["<command></command>"]);
    assert_eq!(none.number, Some(1230));
    let all = [
        example(RESTART),
        example(PF),
        example(MAKELISTS),
        firewall_drop(),
    ];
    let conf = read(&all.each_ref().map(String::as_str)).unwrap();
    let names: Vec<&str> = conf.commands.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        ["restart-ossec", "pf-block", "makelists", "firewall-drop"],
        "as many as you want"
    );
}

#[test]
fn option_command_name() {
    let nameless = example(PF).replace("  <name>pf-block</name>\n", "");
    assert_eq!(refused(&[&nameless]).number, Some(1280));
    let binder = server(&[&example(PF), &example(PF_ON)]);
    only(&binder, &failed(), |bound| {
        assert_eq!(bound.block.command.name, "pf-block");
        assert_eq!(bound.block.response.command, "pf-block");
    });
}

#[test]
fn option_command_executable() {
    let without = example(PF).replace("  <executable>pf.sh</executable>\n", "");
    assert_eq!(refused(&[&without]).number, Some(1280));
    let binder = server(&[&example(PF), &example(PF_ON)]);
    only(&binder, &failed(), |bound| {
        assert_eq!(bound.block.command.executable, "pf.sh");
    });
    let conf = read(&[&example(PF).replace("pf.sh", "/var/ossec/active-response/bin/pf.sh")]);
    let findings = conf.unwrap().findings;
    assert!(
        findings
            .iter()
            .any(|f| f.what.contains("plain name of a file")),
        "the name is enough, a path is found fault with: {findings:?}"
    );
}

#[test]
fn option_command_expect() {
    let with = |expect: &str| {
        let command = firewall_drop().replace("<expect>srcip</expect>", expect);
        server(&[
            &command,
            "<active-response><command>firewall-drop</command><location>server</location><level>1</level></active-response>",
        ])
    };
    let all = failed();
    for (expect, expected) in [
        ("<expect>srcip</expect>", [ATTACKER, "-", "-", "-"]),
        ("<expect>username</expect>", ["-", "alice", "-", "-"]),
        (
            "<expect>srcip,username</expect>",
            [ATTACKER, "alice", "-", "-"],
        ),
        ("<expect></expect>", ["-", "-", "-", "-"]),
    ] {
        assert_eq!(shown(&with(expect), &all), expected, "{expect}");
    }
    let mut nameless = all;
    let fields = nameless.as_object_mut().unwrap();
    fields.remove("srcip");
    assert_eq!(
        unfired(&with("<expect>srcip</expect>"), &nameless),
        Cause::Absent,
        "what it needs to work"
    );
    assert!(fires(&with("<expect></expect>"), &nameless));
    let without = firewall_drop().replace("  <expect>srcip</expect>\n", "");
    assert_eq!(refused(&[&without]).number, Some(1280), "it is required");
}

#[test]
fn option_command_timeout_allowed() {
    let response = "<active-response><command>firewall-drop</command><location>local</location><level>1</level><timeout>600</timeout></active-response>";
    let with = |allowed: &str| {
        let end = format!("{allowed}</command>");
        firewall_drop().replace("</command>", &end)
    };
    for allowed in ["", "<timeout_allowed>yes</timeout_allowed>"] {
        let binder = server(&[&with(allowed), response]);
        assert_eq!(
            lasts(&binder, &failed()),
            Some(Duration::from_secs(600)),
            "it defaults to yes"
        );
    }
    let no = refused(&[&with("<timeout_allowed>no</timeout_allowed>"), response]);
    assert_eq!(no.number, Some(1305));
}

// Active-response Options

#[test]
fn option_active_response_active_response() {
    assert_eq!(
        refused(&["<active-response></active-response>"]).number,
        Some(1230)
    );
    let block = "<active-response><command>firewall-drop</command><location>server</location><level>LEVEL</level></active-response>";
    let (one, other) = (block.replace("LEVEL", "3"), block.replace("LEVEL", "4"));
    let binder = server(&[&firewall_drop(), &one, &other, &one]);
    let levels: Vec<u8> = binder
        .bind(&parsed(&failed()))
        .iter()
        .map(|bound| bound.block.response.level)
        .collect();
    assert_eq!(levels, [3, 4, 3], "as many as you want, in their order");
}

#[test]
fn option_active_response_disabled() {
    let with = |disabled: &str| {
        let options = format!("<location>local</location><level>1</level>{disabled}");
        read(&[&drop_with(&options)]).unwrap()
    };
    assert_eq!(with("").responses.len(), 1, "enabled if not defined");
    assert_eq!(with("<disabled>no</disabled>").responses.len(), 1);
    let disabled = with("<disabled>yes</disabled>");
    assert_eq!(disabled.responses.len(), 0);
    assert_eq!(disabled.switched_off[0].1, "firewall-drop");
    assert!(!disabled.disabled, "this block alone");
}

#[test]
fn option_active_response_command() {
    let problem = refused(&[&firewall_drop(), &example(PF_ON)]);
    assert_eq!(problem.number, Some(1303));
    assert!(problem.what.contains("pf-block"), "{problem}");
    let binder = server(&[&firewall_drop(), &example(PF), &example(PF_ON)]);
    only(&binder, &failed(), |bound| {
        assert_eq!(bound.block.command.executable, "pf.sh");
    });
}

#[test]
fn option_active_response_location() {
    for (word, location) in [
        ("local", Location::Local),
        ("server", Location::Server),
        ("defined-agent", Location::DefinedAgent),
        ("all", Location::All),
    ] {
        let options =
            format!("<location>{word}</location><agent_id>001</agent_id><level>1</level>");
        let conf = read(&[&drop_with(&options)]).unwrap();
        assert_eq!(
            conf.responses[0].location.iter().collect::<Vec<_>>(),
            [&location]
        );
    }
    let other = refused(&[&drop_with(
        "<location>everywhere</location><level>1</level>",
    )]);
    assert_eq!(other.number, Some(1302));
}

#[test]
fn location_local() {
    let binder = server(&[&drop_with("<location>local</location><level>1</level>")]);
    assert_eq!(runs_at(&binder, &of_agent(failed())), [witness()]);
    assert_eq!(runs_at(&binder, &failed()), [Place::Here]);
}

#[test]
fn location_server() {
    let binder = server(&[&drop_with("<location>server</location><level>1</level>")]);
    assert_eq!(runs_at(&binder, &of_agent(failed())), [Place::Here]);
}

#[test]
fn location_defined_agent() {
    let options = "<location>defined-agent</location><agent_id>002</agent_id><level>1</level>";
    let binder = server(&[&drop_with(options)]);
    let second = [Place::Agent("002".to_owned())];
    assert_eq!(runs_at(&binder, &of_agent(failed())), second);
    assert_eq!(runs_at(&binder, &failed()), second);
}

#[test]
fn location_all() {
    let binder = server(&[&drop_with("<location>all</location><level>1</level>")]);
    assert_eq!(runs_at(&binder, &failed()), [Place::Agents]);
    let both = server(&[&drop_with(
        "<location>server,all</location><level>1</level>",
    )]);
    assert_eq!(runs_at(&both, &failed()), [Place::Here, Place::Agents]);
}

#[test]
fn option_active_response_agent_id() {
    let without = drop_with("<location>defined-agent</location><level>1</level>");
    assert_eq!(refused(&[&without]).number, Some(1304));
    let binder = server(&[&example(PF), &example(PF_ON)]);
    assert_eq!(
        runs_at(&binder, &failed()),
        [Place::Agent("001".to_owned())]
    );
}

#[test]
fn option_active_response_level() {
    let binder = server(&[&drop_with("<location>local</location><level>6</level>")]);
    for (level, expected) in [(5, false), (6, true), (15, true)] {
        assert_eq!(fires(&binder, &alert(1, level, &[])), expected, "{level}");
    }
}

#[test]
fn option_active_response_rules_group() {
    let binder = server(&[&example(PF), &example(PF_ON)]);
    for (groups, expected) in [
        (&["syslog", "authentication_failed"][..], true),
        (&["authentication_failures"], true),
        (&["authentication_failed", "authentication_failures"], true),
        (&["authentication"], false),
        (&["syslog", "sshd"], false),
    ] {
        assert_eq!(fires(&binder, &alert(1, 1, groups)), expected, "{groups:?}");
    }
}

#[test]
fn option_active_response_rules_id() {
    let options = "<location>local</location><rules_id>5712,5716</rules_id>";
    let binder = server(&[&drop_with(options)]);
    for (id, expected) in [(5712, true), (5716, true), (5713, false), (571, false)] {
        assert_eq!(fires(&binder, &alert(id, 1, &[])), expected, "{id}");
    }
}

#[test]
fn option_active_response_timeout() {
    let with = |timeout: &str| {
        let options = format!("<location>local</location><level>1</level>{timeout}");
        server(&[&drop_with(&options)])
    };
    let binder = with("<timeout>600</timeout>");
    assert_eq!(lasts(&binder, &failed()), Some(Duration::from_secs(600)));
    assert_eq!(fired(&binder, &failed()).masked.event.timeout, Some(600));
    assert_eq!(
        lasts(&with(""), &failed()),
        None,
        "until somebody takes it back"
    );
}

#[test]
fn option_active_response_repeated_offenders() {
    let ladder = |text: &str| {
        let block = format!(
            "<active-response><repeated_offenders>{text}</repeated_offenders></active-response>"
        );
        read(&[
            &drop_with("<location>local</location><level>1</level>"),
            &block,
        ])
        .unwrap()
    };
    assert_eq!(ladder("30,60,120").repeated_offenders, [30, 60, 120]);
    assert_eq!(
        ladder("1,2,3,4,5").findings.len(),
        ladder("30").findings.len()
    );
    let six = ladder("1,2,3,4,5,6");
    assert_eq!(
        six.repeated_offenders,
        [1, 2, 3, 4, 5],
        "a maximum of 5 entries"
    );
    let falling = ladder("60,30");
    for conf in [six, falling] {
        let said = conf.findings.iter().any(|f| f.what.contains("at most 5"));
        assert!(said, "{:?}", conf.findings);
    }
}

// Examples

#[test]
fn example_xml_excerpt_to_show_location() {
    let printed = example("XML excerpt to show location:");
    let parse = |text: &str| ossec::parse(text.as_bytes(), Path::new("ossec.conf"), Dialect::Ossec);
    assert_eq!(
        parse(&printed).unwrap_err().number,
        Some(1230),
        "its comments stand for options, and there are none"
    );
    let filled = printed
        .replacen(
            "<!--",
            "<name>a</name><executable>a.sh</executable><expect></expect><!--",
            1,
        )
        .replace(
            "<active-response>",
            "<active-response><command>a</command><location>local</location>",
        );
    let conf = parse(&filled).unwrap();
    assert_eq!((conf.commands.len(), conf.responses.len()), (1, 1));
    let outside = filled.replace("ossec_config", "agent_config");
    assert_eq!(parse(&outside).unwrap_err().number, Some(1230));
}

#[test]
fn example_example() {
    let printed = example("Example:");
    assert_eq!(
        refused(&[&printed]).number,
        Some(1303),
        "nobody defines firewall-block"
    );
    let command = firewall_block();
    let conf = read(&[&command, &printed]).unwrap();
    assert_eq!(
        conf.responses.len(),
        1,
        "the second block has the ladder alone"
    );
    assert_eq!(conf.repeated_offenders, [30, 60, 120]);
    let binder = server(&[&command, &printed]);
    let seen = fired(&binder, &of_agent(failed()));
    assert_eq!(seen.places, [Place::Agent("001".to_owned())]);
    assert_eq!(fields(&seen.masked.event), [ATTACKER, "-", "-", "-"]);
    assert_eq!(lasts(&binder, &failed()), Some(Duration::from_secs(600)));
    assert_eq!(
        unfired(&binder, &alert(5402, 3, &["syslog", "sudo"])),
        Cause::Selector
    );
}

#[test]
fn example_command_restart_ossec_on_nix_systems() {
    let conf = read(&[&example(RESTART)]).unwrap();
    let command = &conf.commands[0];
    assert_eq!(command.name, "restart-ossec");
    assert_eq!(command.executable, "restart-ossec.sh");
    assert_eq!(command.expect, Some(Expect::new()));
}

#[test]
fn example_active_response_restart_the_ossec_processes() {
    let pieces = [example(RESTART), example(RESTART_ON)];
    let binder = server(&pieces.each_ref().map(String::as_str));
    let changed = alert(510_010, 10, &["ossec", "syscheck"]);
    let seen = fired(&binder, &of_agent(changed.clone()));
    assert_eq!(seen.places, [witness()], "where the rule was triggered");
    assert_eq!(fields(&seen.masked.event), ["-", "-", "-", "-"]);
    assert_eq!(runs_at(&binder, &changed), [Place::Here]);
    assert_eq!(lasts(&binder, &changed), None);
    assert_eq!(
        unfired(&binder, &alert(510_011, 10, &["ossec", "syscheck"])),
        Cause::Selector,
        "the rule that the document prints beside it has another number"
    );
}

/// The rule that a piece of the document defines.
fn rule(heading: &str) -> rules::Rule {
    let text = format!("<group name=\"local,\">{}</group>", example(heading));
    let mut rules = rules::parse(text.as_bytes(), Path::new("local_rules.xml")).unwrap();
    assert_eq!(rules.len(), 1);
    rules.remove(0)
}

#[test]
fn example_here_is_an_example_rule_checking_for_changes_to_the_agent_conf() {
    let rule = rule(AGENT_CONF);
    assert_eq!((rule.id, rule.level), (510_011, 10));
    assert_eq!(rule.silent, None, "it may start responses");
}

#[test]
fn example_command_block_an_ip_with_pf_sh() {
    let conf = read(&[&example(PF)]).unwrap();
    let command = &conf.commands[0];
    assert_eq!(command.name, "pf-block");
    assert_eq!(command.executable, "pf.sh");
    assert_eq!(command.expect, Some(Expect::from([Field::Srcip])));
}

#[test]
fn example_active_response_block_an_ip_with_pf() {
    let pieces = [example(PF), example(PF_ON)];
    let binder = server(&pieces.each_ref().map(String::as_str));
    for group in ["authentication_failed", "authentication_failures"] {
        let seen = fired(&binder, &of_agent(alert(1, 1, &["sshd", group])));
        assert_eq!(
            seen.places,
            [Place::Agent("001".to_owned())],
            "agent 001 only"
        );
        assert_eq!(fields(&seen.masked.event), [ATTACKER, "-", "-", "-"]);
    }
    assert_eq!(lasts(&binder, &failed()), None);
}

#[test]
fn example_command_run_the_makelists_sh_script() {
    let conf = read(&[&example(MAKELISTS)]).unwrap();
    let command = &conf.commands[0];
    assert_eq!(command.name, "makelists");
    assert_eq!(command.executable, "makelists.sh");
    assert_eq!(command.expect, Some(Expect::from([Field::Hostname])));
}

#[test]
fn example_active_response_update_cdb_lists() {
    let pieces = [example(MAKELISTS), example(MAKELISTS_ON)];
    let binder = server(&pieces.each_ref().map(String::as_str));
    let changed = alert(510_011, 10, &["ossec", "syscheck"]);
    let seen = fired(&binder, &of_agent(changed.clone()));
    assert_eq!(seen.places, [Place::Here], "only on the server");
    assert_eq!(fields(&seen.masked.event), ["-", "-", "web01", "-"]);
    assert_eq!(shown(&binder, &changed)[2], "manager");
    assert_eq!(lasts(&binder, &changed), None);
}

#[test]
fn example_rule_510011_this_example_rule_looks_for_changes_to_var_ossec_lists_blocked_txt_based_on_syscheck_alerts()
 {
    let rule = rule(BLOCKED_TXT);
    assert_eq!((rule.id, rule.level), (510_011, 10));
    let pieces = [example(MAKELISTS), example(MAKELISTS_ON)];
    let binder = server(&pieces.each_ref().map(String::as_str));
    assert!(fires(&binder, &alert(rule.id, 10, &["local"])));
}

#[test]
fn example_command_firewall_drop() {
    let printed = refused(&[&example(DROP)]);
    assert_eq!(
        printed.number,
        Some(1226),
        "one of its closing tags is wrong"
    );
    assert_eq!(printed.line, 3, "{printed}");
    let conf = read(&[&firewall_drop()]).unwrap();
    let command = &conf.commands[0];
    assert_eq!(command.name, "firewall-drop");
    assert_eq!(command.executable, "firewall-drop.sh");
    assert_eq!(command.expect, Some(Expect::from([Field::Srcip])));
}

#[test]
fn example_active_response_block_a_srcip() {
    let printed = example(DROP_ON);
    let problem = refused(&[&firewall_drop(), &printed]);
    assert_eq!(problem.number, Some(1303));
    assert!(problem.what.contains("firewall-block"), "{problem}");
    assert_eq!(
        problem.fix.as_deref(),
        Some("<command>firewall-drop</command>")
    );

    // As the error says to write it.
    let mended = printed.replace("firewall-block", "firewall-drop");
    let command = firewall_drop();
    let pieces = [command.as_str(), mended.as_str()];
    assert_eq!(read(&pieces).unwrap().repeated_offenders, [30, 60, 120]);
    let binder = server(&pieces);
    for group in ["authentication_failed", "authentication_failures"] {
        let seen = fired(&binder, &of_agent(alert(1, 1, &["sshd", group])));
        assert_eq!(seen.places, [Place::Agents], "on all agents");
        assert_eq!(fields(&seen.masked.event), [ATTACKER, "-", "-", "-"]);
    }
    assert_eq!(lasts(&binder, &failed()), Some(Duration::from_secs(600)));
    assert_eq!(runs_at(&local(&pieces), &failed()), [Place::Here]);
}

// The document against this file

/// `Command: Block an IP with pf.sh:` becomes `command_block_an_ip_with_pf_sh`.
fn slug(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join("_").to_ascii_lowercase()
}

/// The tests that the document asks for.
fn wanted() -> Vec<String> {
    let mut wanted = Vec::new();
    let mut section = "";
    for line in DOCUMENT.lines() {
        section = match line {
            "Supported types" => "type",
            "Configuration pieces" => "",
            "Command Options" => "option_command",
            "Active-response Options" => "option_active_response",
            "Example active response configurations:" => "",
            _ => section,
        };
        let bullet = line.trim_start().strip_prefix("• ");
        if let ("type", Some(word)) = (section, bullet) {
            wanted.push(format!("type_{word}"));
        } else if let Some(word) = bullet {
            let (word, _) = word.split_once(':').unwrap();
            wanted.push(format!("location_{}", slug(word)));
        } else if section.starts_with("option") {
            let name = |c: char| c.is_ascii_lowercase() || matches!(c, '_' | '-');
            if !line.is_empty() && line.chars().all(name) {
                wanted.push(format!("{section}_{}", slug(line)));
            }
        }
    }
    wanted.extend(
        examples()
            .iter()
            .map(|(heading, _)| format!("example_{}", slug(heading))),
    );
    wanted
}

#[test]
fn every_element_that_the_document_names_has_its_test() {
    let mut here: Vec<String> = include_str!("options.rs")
        .split("#[test]\nfn ")
        .skip(1)
        .map(|text| text.split('(').next().unwrap().trim().to_owned())
        .filter(|name| !name.starts_with("every_element"))
        .collect();
    let mut wanted = wanted();
    here.sort();
    wanted.sort();
    assert_eq!(wanted.len(), 2 + 15 + 4 + 12, "{wanted:#?}");
    assert_eq!(here, wanted);
}
