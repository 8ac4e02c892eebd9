//! What the tests from outside share: guests built from source, installations in
//! temporary folders.

#![allow(dead_code, reason = "each test uses its part of it")]

pub mod bomb;
pub mod daemon;
pub mod execd;
pub mod guests;
pub mod inject;
pub mod keeper;
pub mod netns;
pub mod root;
pub mod tiny;
pub mod wire;
