//! The layers of the host: a module never names one above it.

use std::path::{Path, PathBuf};

/// From the bottom; modules of one line may name each other.
const LAYERS: [&[&str]; 8] = [
    &[
        "address", "alert", "conf", "escape", "event", "limits", "message", "order", "root",
    ],
    &["backend", "effect", "journal"],
    &["vessel"],
    &["decide", "premises", "registry", "undo"],
    &["control", "report", "respond", "status", "sweep"],
    &["daemon"],
    &["dropin", "execd", "watch"],
    &["cli"],
];

fn layer(module: &str) -> usize {
    let found = LAYERS.iter().position(|modules| modules.contains(&module));
    found.unwrap_or_else(|| panic!("`{module}` is in no layer: add it to tests/layers.rs"))
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The modules that a file names by `crate::`, tests left out.
fn named(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let list = list.split('}').next().unwrap();
            named.extend(list.split(',').map(|item| word(item.trim())));
        } else {
            named.push(word(rest));
        }
    }
    named.retain(|name| name.chars().next().is_some_and(char::is_lowercase));
    named
}

fn word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn no_import_points_up() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    let mut seen = 0;
    for path in all {
        let inside = path.strip_prefix(&source).unwrap();
        let module = inside
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        let is_test = path.file_name().is_some_and(|name| name == "tests.rs");
        if matches!(module.as_str(), "lib" | "main") || is_test {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for other in named(&text) {
            seen += 1;
            assert!(
                layer(&other) <= layer(&module),
                "{}: `{module}` names `{other}`, which is above it",
                inside.display()
            );
        }
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn wasmtime_is_named_in_the_vessel_alone() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    for path in all {
        if path.starts_with(source.join("vessel")) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // The engine is passed through, by its name alone.
        let uses = text
            .lines()
            .filter(|line| line.contains("wasmtime::") && !line.contains("use wasmtime::Engine;"));
        assert_eq!(uses.count(), 0, "{}", path.display());
    }
}
