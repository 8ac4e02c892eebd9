//! Runs that wait for the disk together, killed while they do.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use retort::effect::Effect;
use retort::effect::broker::{Broker, Heard};
use retort::effect::desk::{Reply, Run, Word};
use retort::event::{Action, Dialect, Event};
use retort::premises::Premises;
use retort::root::Root as Installation;

use crate::found::{Found, a_minute_passes, decided, settled};
use crate::link::sweep;
use crate::support::inject::{self, Point};
use crate::support::root::{RETORT, Root};
use crate::{apart, root, side_by_side};

/// This program starts itself once more, as the one that is killed.
const DIES: &str = "RETORT_TEST_ROOT_OF_THE_DYING";
const NAME: &str =
    "group::a_group_of_runs_that_is_killed_at_any_write_or_call_leaves_none_half_done";

const ATTACKERS: [&str; 3] = ["203.0.113.4", "203.0.113.5", "203.0.113.6"];

/// Three blocks, then their releases, each step of all three at once.
fn work(root: &Path) {
    let premises = Premises::read(&Installation::new(root.to_owned()), None).unwrap();
    let mut broker = Broker::new(premises.world(Path::new(RETORT), Duration::from_secs(20)));
    for (round, action) in [(0, Action::Add), (10, Action::Delete)] {
        let each = |word: &dyn Fn(u64, IpAddr) -> Word| -> Vec<Word> {
            let all = (round + 1..).zip(ATTACKERS);
            all.map(|(id, address)| word(id, address.parse().unwrap()))
                .collect()
        };
        let steps = [
            each(&|id, address| begin(id, address, action)),
            each(&|id, address| {
                let network = address.into();
                let effect = match action {
                    Action::Add => Effect::Block { network },
                    Action::Delete => Effect::Unblock { network },
                };
                Word::Perform { id, effect }
            }),
            match action {
                Action::Add => Vec::new(),
                Action::Delete => each(&|id, _| Word::Release { id }),
            },
            each(&|id, _| Word::Finish {
                id,
                verdict: "ok".to_owned(),
                used: serde_json::Value::Null,
            }),
        ];
        for words in steps {
            for heard in broker.listen_to_all(words) {
                let failed = matches!(&heard, Heard::Reply(Reply::Answer(Err(_))));
                assert!(!failed && matches!(heard, Heard::Reply(_)));
            }
        }
        println!("\n{action} is done");
    }
}

fn begin(id: u64, address: IpAddr, action: Action) -> Word {
    let run = Run {
        response: "firewall-drop".to_owned(),
        digest: String::new(),
        executable: "firewall-drop".to_owned(),
        dialect: Dialect::Ossec,
        event: Event {
            srcip: Some(address),
            ..Event::of(action)
        },
        key: address.to_string(),
        origin: String::new(),
        owner: None,
        dry_run: false,
        left: Duration::from_secs(20),
        term: None,
        message: None,
    };
    Word::Begin {
        id,
        run: Box::new(run),
    }
}

/// Runs [`work`] in a process of its own, to be killed before it does `at`; what it said.
fn works(root: &Root, at: Option<&Point>) -> String {
    let mut program = inject::traced(&root.path().join("trace"), at);
    program.arg(std::env::current_exe().unwrap());
    program.args(["--exact", NAME, "--nocapture"]);
    said(program.env(DIES, root.path()))
}

fn said(program: &mut Command) -> String {
    String::from_utf8(program.output().unwrap().stdout).unwrap()
}

fn dies_at(at: &Point) {
    let root = root();
    let said = works(&root, Some(at));
    assert!(!said.contains("delete is done"), "it is not reached");
    let dead = Found::at(&root);
    dead.has_a_record_of_each_effect().unwrap();
    let added = said.contains("add is done");
    let begun = |found: &Found| ATTACKERS.map(|address| found.hold(address).is_some());
    if !added {
        // They are written down with one commit.
        assert!(begun(&dead) == [true; 3] || begun(&dead) == [false; 3]);
    }
    sweep(&root);
    settled(&root);
    a_minute_passes(&root);
    sweep(&root);
    let found = decided(&root);
    for address in ATTACKERS {
        let stood = dead.blocks(address) && !added;
        assert!(!stood || found.blocks(address), "{address}\n{}", root.log());
    }
}

#[test]
fn a_group_of_runs_that_is_killed_at_any_write_or_call_leaves_none_half_done() {
    if let Some(root) = std::env::var_os(DIES) {
        return work(Path::new(&root));
    }
    let points = apart(|| {
        let root = root();
        let said = works(&root, None);
        assert!(said.contains("delete is done"), "{said}");
        inject::changes(&root.path().join("trace"))
    });
    println!("{} points", points.len());
    assert!(points.len() > 50, "{points:?}");
    side_by_side(&points, dies_at);
}
