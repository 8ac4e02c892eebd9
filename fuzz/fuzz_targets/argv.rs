//! The arguments of an OSSEC call, as execv passes them: bytes without NUL.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use jiff::ZonedDateTime;
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use retort::decide;
use retort::event::{Expect, Field};
use retort::message;
use retort::report;

fuzz_target!(|bytes: &[u8]| {
    let argv: Vec<OsString> = bytes
        .split(|b| *b == 0)
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect();
    let Ok(request) = message::ossec::from_argv(&argv) else {
        return;
    };
    let now = ZonedDateTime::new(jiff::Timestamp::UNIX_EPOCH, TimeZone::UTC);
    let program = argv[0].to_string_lossy();
    let lines = report::started(&request, &program, &now);
    assert_eq!(lines.len(), 1);
    for line in lines {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        // Date, program, action, user, address, alert, rule: a word can't become two.
        assert!(line.split(' ').count() <= 13, "{line:?}");
    }
    let expect = Expect::from([Field::Srcip, Field::User, Field::Hostname, Field::Filename]);
    let _ = decide::mask(&request, &expect, &[], "agent");
});
