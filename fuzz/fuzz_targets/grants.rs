//! `retort.toml`.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use retort::conf::grants;

fuzz_target!(|text: &str| {
    match grants::parse(text, Path::new("retort.toml")) {
        Ok(grants) => drop(grants.response("firewall-drop")),
        Err(problem) => assert!(!problem.to_string().is_empty()),
    }
});
