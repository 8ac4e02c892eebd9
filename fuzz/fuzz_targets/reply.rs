//! What execd says to the keys of a block.
#![no_main]

use libfuzzer_sys::fuzz_target;
use retort::event::Dialect;
use retort::message;

fuzz_target!(|bytes: &[u8]| {
    for dialect in [Dialect::Wazuh4, Dialect::Wazuh5] {
        let _ = message::reply(bytes, dialect);
    }
});
