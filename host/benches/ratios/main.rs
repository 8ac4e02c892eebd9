//! What the vessel costs, each figure beside what it replaces, measured in the same
//! run: ratios travel between machines, times do not. As root: one of them makes a
//! network namespace.
//!
//!     cargo bench --package retort

mod dropin;
#[path = "../../../tests/support/guests.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod guests;
mod measure;
mod nftables;
mod response;
mod vessel;

fn main() {
    // `cargo test --benches` and `cargo bench` both start this; only one measures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    vessel::measure();
    response::measure();
    dropin::measure();
    nftables::measure();
}
