//! Matching: which of a thousand active responses an alert's rule selects, beside
//! asking each of them; and the way from a line of `alerts.json` to orders.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use retort::alert::Alert;
use retort::conf::grants::Grants;
use retort::conf::keys::Keys;
use retort::conf::ossec::{self, OssecConf};
use retort::conf::rules::Rules;
use retort::decide::bind::{Binder, Site};
use retort::decide::location::Installation;
use retort::decide::selectors::{self, Rule};
use retort::event::Dialect;
use retort::message::json;

use crate::measure::{compare, cost};

const BLOCKS: u32 = 1000;
const RULES: u32 = 4096;
const ROUNDS: usize = 50;

pub fn measure() {
    let conf = conf();
    assert_eq!(conf.responses.len(), BLOCKS as usize);
    let alerts: Vec<String> = (0..RULES).map(alert).collect();
    let parsed: Vec<Alert> = alerts.iter().map(|text| parse(text)).collect();
    let rules: Vec<Rule> = parsed.iter().map(Rule::of).collect();
    let site = Site {
        installation: Installation::Local,
        keys: Keys::default(),
        rules: Rules::default(),
        hostname: "host".to_owned(),
        findings: Vec::new(),
    };
    let binder = Binder::new(&conf, &Grants::default(), site);

    let selected: usize = rules.iter().map(|rule| binder.select(rule).len()).sum();
    let ours = each(ROUNDS, || {
        for rule in &rules {
            black_box(binder.select(black_box(rule)));
        }
    });
    let asking = each(2, || {
        for rule in &rules {
            let fires = |block| selectors::select(block, rule, Dialect::Ossec).is_ok();
            black_box(conf.responses.iter().filter(|block| fires(block)).count());
        }
    });
    let what = format!(
        "matching: one rule against {BLOCKS} active responses, {:.1} of them selected",
        selected as f64 / f64::from(RULES)
    );
    compare(&what, ours, "asking each", asking);
    println!("  {:.0} alerts a second and core", 1.0 / ours.as_secs_f64());
    let bound = each(ROUNDS / 10, || {
        for alert in &parsed {
            black_box(binder.bind(black_box(alert)));
        }
    });
    let read = each(ROUNDS / 10, || {
        for text in &alerts {
            black_box(parse(black_box(text)));
        }
    });
    println!("  with fields, places and reasons: {bound:.1?}; reading the line: {read:.1?}");
}

/// The CPU time of one alert.
fn each(rounds: usize, mut all: impl FnMut()) -> Duration {
    let started = Instant::now();
    let cpu = cost(rounds, |_| all()).cpu;
    assert!(started.elapsed() > Duration::ZERO);
    cpu / RULES
}

fn parse(text: &str) -> Alert {
    Alert::of(json::parse(text.as_bytes()).expect("an alert"))
}

/// Blocks as people write them: by rule, by group, a few by level.
fn conf() -> OssecConf {
    let mut text = "<ossec_config><command><name>drop</name><executable>drop.sh</executable><expect>srcip</expect></command>".to_owned();
    for n in 0..BLOCKS {
        let criteria = match n % 100 {
            0 => format!("<level>{}</level>", 12 + n / 100 % 4),
            1..=50 => format!("<rules_id>{},{},{}</rules_id>", n * 4, n * 4 + 1, n * 7),
            51..=90 => format!(
                "<rules_group>group_{},group_{}</rules_group>",
                n % 300,
                n % 77
            ),
            _ => format!(
                "<level>14</level><rules_group>group_{}</rules_group>",
                n % 50
            ),
        };
        let _ = write!(
            text,
            "<active-response><command>drop</command><location>local</location>{criteria}</active-response>"
        );
    }
    text.push_str("</ossec_config>");
    ossec::parse(text.as_bytes(), Path::new("ossec.conf"), Dialect::Ossec).expect("it is read")
}

/// The size of a usual alert, with the groups of a usual rule.
fn alert(n: u32) -> String {
    format!(
        r#"{{"rule":{{"level":{},"comment":"SSHD brute force trying to get access to the system.","sidid":{n},"firedtimes":1,"group":"syslog,sshd,group_{},group_{},","groups":["syslog","sshd","group_{}","group_{}"]}},"id":"1772446530.{n}","TimeStamp":1772446530000,"decoder":"sshd","srcip":"203.0.113.{}","srcuser":"oracle","location":"srv1->/var/log/auth.log","full_log":"Mar  2 10:15:29 web-01 sshd[2231]: Invalid user oracle from 203.0.113.9 port 40122","hostname":"srv1","program_name":"sshd","timestamp":"2026 Mar 02 10:15:30"}}"#,
        n % 16,
        n % 300,
        n % 91,
        n % 300,
        n % 91,
        n % 250 + 1
    )
}
