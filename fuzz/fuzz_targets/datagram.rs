//! A datagram in an execd's queue, in each dialect: what it asks for is read, kept in
//! the journal, and read from there again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use retort::event::Dialect;
use retort::message::execd::{self, Body};

fuzz_target!(|bytes: &[u8]| {
    for dialect in [Dialect::Ossec, Dialect::Wazuh4, Dialect::Wazuh5] {
        let Ok(called) = execd::read(bytes, dialect) else {
            continue;
        };
        let request = called.body.request("active-response/bin/x", called.dialect);
        let kept = execd::kept(&execd::keep(&called.body)).expect("it was kept by us");
        if let (Body::Fields(fields), Body::Fields(again)) = (&called.body, &kept) {
            assert_eq!(fields, again);
            assert!(fields.len() <= 29);
        }
        // What add and delete have in common is the same when it is read again.
        if let (Ok(request), Ok(again)) = (request, kept.request("active-response/bin/x", called.dialect))
        {
            assert_eq!(request.origin("x"), again.origin("x"));
        }
    }
});
