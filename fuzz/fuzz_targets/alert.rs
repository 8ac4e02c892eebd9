//! A line of `alerts.json`: bound to blocks that select everything. What comes of it
//! is the same asked in either way, and makes words that can be read again.
#![no_main]

use std::ffi::OsString;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use retort::alert::Alert;
use retort::conf::grants::Grants;
use retort::conf::rules::Rules;
use retort::conf::{keys, ossec};
use retort::decide::bind::{Binder, Cause, Site};
use retort::decide::location::Installation;
use retort::event::Dialect;
use retort::message::{json, ossec as argv};

const CONF: &str = "<ossec_config><global><white_list>10.0.0.0/8</white_list></global>
<command><name>c</name><executable>c.sh</executable><expect>srcip,username,filename,hostname</expect></command>
<command><name>d</name><executable>d.sh</executable><expect></expect></command>
<active-response><command>c</command><location>server,all</location><level>1</level></active-response>
<active-response><command>d</command><location>local</location><rules_group>syslog</rules_group></active-response>
<active-response><command>d</command><location>defined-agent</location><agent_id>000</agent_id><rules_id>5712</rules_id></active-response>
</ossec_config>";

static BINDER: LazyLock<Binder> = LazyLock::new(|| {
    let conf = ossec::parse(CONF.as_bytes(), Path::new("ossec.conf"), Dialect::Ossec);
    let site = Site {
        installation: Installation::Server,
        keys: keys::parse(b"001 web-01 any k\n"),
        rules: Rules::default(),
        hostname: "host".to_owned(),
        findings: Vec::new(),
    };
    Binder::new(&conf.expect("it is read"), &Grants::default(), site)
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(json) = json::parse(bytes) else {
        return;
    };
    let alert = Alert::of(json);
    let bound = BINDER.bind(&alert);
    let explained = BINDER.explain(&alert);
    let selected = explained
        .iter()
        .filter(|bound| !matches!(&bound.fate, Err(unfired) if unfired.cause == Cause::Selector));
    assert!(bound.iter().map(|b| &b.fate).eq(selected.map(|b| &b.fate)));
    for fired in bound.iter().filter_map(|bound| bound.fate.as_ref().ok()) {
        let words = argv::words(&fired.masked.event).into_iter();
        let words: Vec<OsString> = std::iter::once("c.sh".to_owned())
            .chain(words)
            .map(OsString::from)
            .collect();
        let read = argv::from_argv(&words).expect("it is an add");
        let srcip = read.alert.srcip(&[]);
        assert_eq!(
            srcip,
            Ok(fired.masked.event.srcip),
            "a name can't move the address"
        );
    }
});
