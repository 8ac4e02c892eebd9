//! A file of rules, and a list of agents: both are writable by OSSEC's group.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use retort::conf::{init, keys, rules};

fuzz_target!(|bytes: &[u8]| {
    match rules::parse(bytes, Path::new("rules.xml")) {
        Ok(rules) => {
            for silent in rules.iter().filter_map(|rule| rule.silent.as_ref()) {
                assert!(silent.to_string().starts_with("rules.xml:"));
            }
        }
        Err(problem) => assert!(!problem.to_string().is_empty()),
    }
    let _ = keys::parse(bytes).is_empty();
    let _ = init::parse(bytes);
});
