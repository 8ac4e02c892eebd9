//! The three responses as components: what they import, that it is no WASI, and that
//! they are the same bytes wherever they are built.

mod support;

use std::path::Path;

use retort::vessel::shape::Shape;
use support::guests;

fn imports(name: &str) -> Vec<String> {
    let shape = Shape::of(&guests::response(name)).unwrap();
    assert_eq!(shape.exports, ["handle"], "{name}");
    shape.imports
}

#[test]
fn each_response_imports_what_it_is_for_and_no_wasi() {
    let interface = |name: &str| format!("retort:response/{name}@0.1.0");
    assert_eq!(
        imports("firewall-drop"),
        ["types", "firewall", "log"].map(interface)
    );
    assert_eq!(
        imports("restart-ossec"),
        ["types", "process", "log"].map(interface)
    );
    assert_eq!(
        imports("makelists"),
        ["types", "process", "hostname", "log"].map(interface)
    );
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn another_checkout_gives_the_same_bytes() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    for folder in ["guest-sdk", "responses", "host", "wit"] {
        copy(&project.join(folder), &elsewhere.path().join(folder));
    }
    // The host's tests are outside its folder; a workspace without them has none.
    let manifest = elsewhere.path().join("host/Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let text: Vec<&str> = text.split("\n[[").collect();
    std::fs::write(
        &manifest,
        format!("{}\n[lints]\nworkspace = true\n", text[0]),
    )
    .unwrap();
    for file in ["Cargo.toml", "Cargo.lock"] {
        std::fs::copy(project.join(file), elsewhere.path().join(file)).unwrap();
    }
    let target = elsewhere.path().join("another-target");
    let there =
        retort::cli::build::build(elsewhere.path(), "firewall-drop", Some(&target)).unwrap();
    assert!(
        guests::response("firewall-drop") == there,
        "the digest depends on where it is built"
    );
}
