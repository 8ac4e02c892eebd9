//! `ossec.conf`, in each dialect; what is accepted can be written as `ar.conf` and is
//! read back from it.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use retort::conf::{ar, ossec};
use retort::event::Dialect;

fuzz_target!(|bytes: &[u8]| {
    for dialect in [Dialect::Ossec, Dialect::Wazuh4, Dialect::Wazuh5] {
        match ossec::parse(bytes, Path::new("ossec.conf"), dialect) {
            Ok(conf) => {
                let _ = ar::parse(ar::render(&conf).as_bytes());
            }
            Err(problem) => assert!(!problem.to_string().is_empty()),
        }
    }
});
