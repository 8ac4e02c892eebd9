//! What the vessel costs, each figure beside what it replaces, measured in the same
//! run: ratios travel between machines, times do not. As root: one of them makes a
//! network namespace.
//!
//!     cargo bench --package retort --bench ratios [-- vessel|response|dropin|nftables|daemon|matching]

mod daemon;
mod dropin;
#[path = "../../../tests/support/guests.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod guests;
mod matching;
mod measure;
mod nftables;
mod response;
mod vessel;

fn main() {
    // `cargo test --benches` and `cargo bench` both start this; only one measures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let named: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let benches: [(&str, fn()); 6] = [
        ("vessel", vessel::measure),
        ("response", response::measure),
        ("dropin", dropin::measure),
        ("nftables", nftables::measure),
        ("daemon", daemon::measure),
        ("matching", matching::measure),
    ];
    for (name, measure) in benches {
        if named.is_empty() || named.iter().any(|n| n == name) {
            measure();
        }
    }
}
