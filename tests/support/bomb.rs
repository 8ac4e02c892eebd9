//! Files that are hostile before they run.

use std::fmt::Write as _;

/// A valid component, small on disk, that keeps a compiler busy for minutes: one
/// function of very many nested blocks whose values all stay alive.
pub fn compile_bomb() -> Vec<u8> {
    let mut body = String::new();
    let locals = 2000;
    for round in 0..220 {
        for local in 0..locals {
            let (a, b) = ((local * 7 + round) % locals, (local * 13 + 5) % locals);
            let _ = write!(
                body,
                "(local.set {local} (i64.add (i64.mul (local.get {a}) (local.get {b})) (i64.rotl (local.get {local}) (local.get {a}))))"
            );
            if local % 50 == 0 {
                let _ = write!(
                    body,
                    "(if (i64.eqz (local.get {a})) (then (local.set {b} (i64.const {round}))))"
                );
            }
        }
    }
    let text = format!(
        "(component (core module $m (func (export \"f\") (local {}) {body}))
            (core instance $i (instantiate $m))
            (func (export \"handle\") (canon lift (core func $i \"f\"))))",
        "i64 ".repeat(locals)
    );
    wat::parse_str(text).unwrap()
}
