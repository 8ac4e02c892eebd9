//! A whole response as a daemon would do it, journal and all, against fork and exec
//! of a shell script that does what the original's does.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use retort::effect::broker::Broker;
use retort::effect::desk::Desk;
use retort::event::{Dialect, Event};
use retort::premises::Premises;
use retort::registry::Registry;
use retort::respond::{self, Asked, Consent};
use retort::root::Root;
use retort::vessel::compile;
use retort::vessel::engine::{self, Allocation};

use crate::measure::{Cost, compare, cost};
use crate::{dropin, guests};

const RETORT: &str = env!("CARGO_BIN_EXE_retort");

pub fn measure() {
    let dir = dropin::installation();
    let ours = ours(dir.path());
    let theirs = script(dir.path());
    compare(
        "a whole response in one process, CPU",
        ours.cpu,
        "the shell script",
        theirs.cpu,
    );
    compare(
        "a whole response in one process, wall (one durable commit)",
        ours.wall,
        "the shell script",
        theirs.wall,
    );
}

fn ours(dir: &Path) -> Cost {
    let root = Root::new(dir);
    let retort = Path::new(RETORT);
    let premises = Premises::read(&root, None).expect("an installation");
    let registry = Registry::open(&root, retort).expect("a folder of responses");
    let engine = engine::engine(Allocation::Pooled).expect("an engine");
    engine::start_clock(&engine);
    let found = registry.find("firewall-drop").expect("the response");
    let loaded = registry
        .load(&found, &premises.grants, &engine, compile::PATIENT)
        .expect("it loads");
    let desk = Desk::open(Broker::new(
        premises.world(retort, loaded.grants.limits.wall),
    ))
    .expect("a broker");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    cost(2000, |n| {
        let event: Event = serde_json::from_value(serde_json::json!({
            "action": "add", "srcip": dropin::address(n)
        }))
        .expect("an event");
        let context = respond::Context {
            grants: &premises.grants,
            conf: &premises.conf,
            desk: &desk,
            engine: &engine,
            hostname: "host",
            owner: None,
            dry_run: false,
            started: Instant::now(),
        };
        let outcome = runtime.block_on(respond::conduct(
            &context,
            Asked {
                executable: "firewall-drop",
                dialect: Dialect::Ossec,
                origin: String::new(),
                consent: Consent::Continue,
                term: None,
            },
            &loaded,
            event,
        ));
        assert!(
            outcome.is_done() && outcome.records.len() == 1,
            "{outcome:?}"
        );
    })
}

/// What the original does on Linux: a line for the log, a lock that is a folder, the
/// chain made sure of, one rule. `iptables` is `/bin/true`.
const SCRIPT: &str = r#"#!/bin/sh
UNAME=`uname`
IPTABLES=/bin/true
ACTION=$1
USER=$2
IP=$3
LOCAL=`dirname $0`
cd $LOCAL
cd ../
HERE=`pwd`
echo "`date` $0 $1 $2 $3 $4 $5" >> ${HERE}/logs/active-responses.log
[ "x$IP" = "x" ] && exit 1
case "$IP" in *:*) ;; *.*) ;; *) exit 1 ;; esac
[ "$UNAME" = "Linux" ] || exit 0
[ -x "$IPTABLES" ] || exit 0
mkdir ${HERE}/fw-drop || exit 1
echo $$ > ${HERE}/fw-drop/pid
if [ "$ACTION" = "add" ]; then RULE="-I OSSEC -s $IP -j DROP"; else RULE="-D OSSEC -s $IP -j DROP"; fi
$IPTABLES -n -L OSSEC || $IPTABLES -N OSSEC
$IPTABLES -C INPUT -j OSSEC || $IPTABLES -I INPUT -j OSSEC
$IPTABLES $RULE
rm -rf ${HERE}/fw-drop
exit 0
"#;

/// The script's cost, started as an execd starts it.
pub fn script(dir: &Path) -> Cost {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = dir.join("script/bin");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::create_dir_all(dir.join("script/logs")).expect("a folder");
    let path = folder.join("firewall-drop.sh");
    std::fs::write(&path, SCRIPT).expect("a script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    cost(200, |n| {
        dropin::start(Command::new(&path).stdin(Stdio::null()), n)
    })
}

/// The components that both of these use.
pub fn component() -> Vec<u8> {
    guests::response("firewall-drop")
}
