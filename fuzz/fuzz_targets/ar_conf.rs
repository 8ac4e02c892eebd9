//! `ar.conf`, which a manager sends to its agents.
#![no_main]

use libfuzzer_sys::fuzz_target;
use retort::conf::ar;

fuzz_target!(|bytes: &[u8]| {
    let entries = ar::parse(bytes);
    for entry in &entries {
        let _ = ar::longest_timeout(&entries, &entry.executable);
    }
});
