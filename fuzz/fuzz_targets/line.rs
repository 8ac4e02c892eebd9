//! A message on stdin: read, masked, and written to the log, where it may be one line
//! alone and nothing but printable text.
#![no_main]

use std::io::Cursor;

use jiff::ZonedDateTime;
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use retort::decide;
use retort::event::{Expect, Field};
use retort::message::{self, Lines};
use retort::report;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = Lines::new(Cursor::new(bytes));
    let Ok(Some(line)) = lines.next_line() else {
        return;
    };
    let Ok(request) = message::from_line(&line) else {
        return;
    };
    let now = ZonedDateTime::new(jiff::Timestamp::UNIX_EPOCH, TimeZone::UTC);
    for line in report::started(&request, "active-response/bin/firewall-drop", &now) {
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    let expect = Expect::from([Field::Srcip, Field::User, Field::Hostname, Field::Filename]);
    if let Ok(masked) = decide::mask(&request, &expect, &[], "agent") {
        let asked = message::wazuh4::check_keys("firewall-drop", &masked.keys);
        assert_eq!(asked.iter().filter(|b| **b == b'\n').count(), 1);
        assert_eq!(asked.last(), Some(&b'\n'));
    }
});
